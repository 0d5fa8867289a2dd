#!/usr/bin/env bash
# Sets up a machine as a cluster node. Called by the cluster files; all steps are idempotent.
#
#   node.sh environment DIR  write environment variables for shells and workers to ~/.study_env;
#                            DIR is the folder shared by all nodes, and becomes STUDY_HOME.
#                            STUDY_PORT sets MLflow's port if 5000 is in use
#   node.sh login            source that file in interactive shells, including Ray's
#   node.sh install          install Python and this project (versions of constraints.txt) in .venv
#   node.sh serve STORE      run an MLflow server on loopback, restarted when it exits; STORE is
#                            sqlite:////path/to/mlflow.db or postgresql+psycopg2://user@host/database
#                            (password in ~/.pgpass or PGPASSWORD, never here). A SQLite file can
#                            have only one server at a time, across all machines.
#   node.sh stop             stop that server
#   node.sh drive FILE       `study run FILE` for a job scheduler that retries failed jobs: fails
#                            only if the driver crashed, was killed or could not start
set -euo pipefail
project=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
server=~/.study-mlflow.$(hostname) # prefix of its lock, which contains the process group, and its log
port=${STUDY_PORT:-5000}
health=http://127.0.0.1:$port/health
patience=120 # seconds; a file server holds the locks of a dead machine for up to 90

environment() {
  local shared=$1
  chmod 600 ~/.ray/auth_token
  local probe=$shared/.probe.$(hostname).$$ # unique, since other machines may probe too
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
  # Ray opens interactive shells, which read this file.
  grep -qs study_env ~/.bashrc || printf '\n[ ! -f ~/.study_env ] || . ~/.study_env\n' >>~/.bashrc
}

install() {
  local uv=~/.local/bin/uv
  [[ -x $uv ]] || curl -LsSf https://astral.sh/uv/install.sh | env UV_NO_MODIFY_PATH=1 sh
  # A separate Python, because Ray requires the same version on all nodes.
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

lock_database() {
  # The machine that serves a SQLite file holds the lock next to it, and writes its name into it.
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
  [[ $store != sqlite:///* ]] || lock_database "${store#sqlite:///}"
  # MLflow's background jobs are for language models and not used here. One worker, because with
  # several every response is delayed by 40 ms (docs/results/ten_thousand.md).
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
  if ((code == 1)); then # the holder of the lock wrote its process group into it
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
  # A driver that reported its end, or invalid input, must not be retried: each retry would start
  # with a fresh budget, or undo `study stop`.
  if grep -q '^{"study":' "$end" || ((code == 2)); then
    exit 0
  fi
  exit "$code"
}

"$@"
