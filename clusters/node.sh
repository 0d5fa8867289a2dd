#!/usr/bin/env bash
# Makes a machine a node of a cluster. The cluster files call it; each step can be done again.
#
#   node.sh environment DIR  what shells and workers on this machine are to find, in ~/.study_env;
#                            DIR is the folder that all nodes share, and becomes STUDY_HOME.
#                            STUDY_PORT, if set, is MLflow's port, where 5000 is taken
#   node.sh login            every login shell reads that file, as those do that Ray opens
#   node.sh install          Python and this project, at the versions of constraints.txt, into .venv
#   node.sh serve STORE      an MLflow server on loopback, started again when it ends; STORE is
#                            sqlite:////path/to/mlflow.db or postgresql+psycopg2://user@host/database
#                            (its password in ~/.pgpass or PGPASSWORD, never here). A SQLite file
#                            has one server at a time, on whichever machine.
#   node.sh stop             end that server
#   node.sh drive FILE       `study run FILE` where a job that failed is tried again: fails only if
#                            the driver crashed, was killed or could not begin
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
server=~/.study-mlflow.$(hostname) # its lock, with the process group inside, and its log
port=${STUDY_PORT:-5000}
health=http://127.0.0.1:$port/health
patience=120 # seconds; a file server keeps the locks of a machine that died for 90

environment() {
  local shared=$1
  chmod 600 ~/.ray/auth_token
  local probe=$shared/.probe.$(hostname).$$ # others may be at it too
  if ! { mkdir -p "$shared/data" && touch "$probe" && rm "$probe"; }; then
    echo "$(hostname): $(id -un) cannot write to $shared, which all nodes share. Mount it, or" \
      "name another folder in the cluster file." >&2
    exit 1
  fi
  cat >~/.study_env <<END
export PATH="$project/.venv/bin:\$PATH"
export STUDY_HOME="$shared" STUDY_DATA="$shared/data" HF_HOME="$shared/huggingface"
export STUDY_PORT=$port MLFLOW_TRACKING_URI=http://127.0.0.1:$port  # on the head, where the driver runs
[[ ,\${no_proxy:-}, == *,127.0.0.1,* ]] || export no_proxy="127.0.0.1,localhost,\${no_proxy:-}"
export NO_PROXY="\$no_proxy"
export RAY_ADDRESS=auto RAY_AUTH_MODE=token
END
}

login() {
  # Ray's shells are interactive ones, so they read this file.
  grep -qs study_env ~/.bashrc || printf '\n[ ! -f ~/.study_env ] || . ~/.study_env\n' >>~/.bashrc
}

install() {
  local uv=~/.local/bin/uv
  [[ -x $uv ]] || curl -LsSf https://astral.sh/uv/install.sh | env UV_NO_MODIFY_PATH=1 sh
  # A Python of its own, because Ray wants the same one on all nodes.
  "$uv" venv --quiet --allow-existing --python 3.11.14 "$project/.venv"
  "$uv" pip install --quiet --python "$project/.venv" --constraint "$project/constraints.txt" \
    --editable "$project[study,minilm,hub,postgres,aws]"
}

answers() {
  curl -sf -m 2 --noproxy '*' $health >/dev/null
}

unlockable() {
  echo "$(hostname): no file can be locked in $1, which MLflow's server and SQLite need. Mount that" \
    "folder with locks, or name another place or PostgreSQL." >&2
  exit 1
}

alone() {
  # Whoever serves a SQLite file holds the lock beside it, with the machine's name inside.
  local database=$1 code=0
  exec 8>>"$database.lock"
  if ! flock --nonblock 8; then
    echo "$database is served by $(<"$database.lock"); waiting for its end" >&2
    flock --timeout $patience 8 || code=$?
  fi
  if ((code == 1)); then
    echo "$(hostname): $database is still served by $(<"$database.lock"), and two servers would" \
      "damage it. End that one first, or name another store: PostgreSQL takes several." >&2
    exit 1
  elif ((code)); then
    unlockable "$(dirname "$database")"
  fi
  hostname >"$database.lock"
}

serve() {
  local store=$1
  stop
  exec 9>>"$server.lock"
  flock 9 || unlockable ~
  [[ $store != sqlite:///* ]] || alone "${store#sqlite:///}"
  # MLflow's own background jobs are for language models; nothing here uses them. One worker, because
  # with several its sockets hold back every answer for 40 ms (docs/results/ten_thousand.md).
  MLFLOW_SERVER_ENABLE_JOB_EXECUTION=false setsid bash -c '
    echo $$ >"$1.lock"
    wait=2
    while true; do
      touch "$1.log"
      tail -c 4000000 "$1.log" >"$1.cut" && mv "$1.cut" "$1.log"
      began=$SECONDS
      mlflow server --backend-store-uri "$2" --artifacts-destination "$STUDY_HOME/artifacts" \
        --host 127.0.0.1 --port "$3" --allowed-hosts "localhost:*,127.0.0.1:*" --workers 1 \
        --uvicorn-opts "--log-level warning" >>"$1.log" 2>&1 9>&-
      ((SECONDS - began < 60)) || wait=2
      sleep $wait
      wait=$((wait < 16 ? 2 * wait : 30))
    done' mlflow-server "$server" "$store" "$port" >/dev/null 2>&1 </dev/null &
  for _ in {1..60}; do
    if answers; then
      echo "MLflow is served on this machine's loopback. To browse it from yours:"
      echo "  ssh -N -L 5000:127.0.0.1:$port $(id -un)@THIS_MACHINE    then http://127.0.0.1:5000"
      return
    fi
    sleep 1
  done
  echo "MLflow did not start; the end of $server.log:" >&2
  tail -n 20 "$server.log" >&2
  stop
  exit 1
}

stop() {
  local code=0
  [[ ! -f $server.lock ]] || flock --nonblock "$server.lock" true || code=$?
  if ((code == 1)); then # whoever holds the lock wrote its number into it
    kill -- -"$(<"$server.lock")"
  elif ((code)); then
    unlockable ~
  fi
  for _ in {1..50}; do
    answers || return 0
    sleep 0.2
  done
  echo "$(hostname): something else answers at $health. End it first, or take another port:" \
    "STUDY_PORT=5001 before \`node.sh environment\`." >&2
  exit 1
}

drive() {
  local code=0 end
  end=$(mktemp)
  study run "$@" --json >"$end" || code=$?
  cat "$end"
  # Who said how it ended, or that the input is wrong, would end so again: with a budget that is
  # new each time, or after `study stop`.
  if grep -q '^{"study":' "$end" || ((code == 2)); then
    exit 0
  fi
  exit "$code"
}

"$@"
