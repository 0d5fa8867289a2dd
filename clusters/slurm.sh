#!/usr/bin/env bash
# A study on Slurm: `sbatch clusters/slurm.sh my_study.py`; the same again resumes it. docs/cluster.md
# Submit it from the project's folder. Before the first time, on the login node:
#   bash clusters/node.sh install && (umask 077; .venv/bin/ray get-auth-token --generate >/dev/null)
#   bash clusters/node.sh environment /scratch/YOU/study    CHANGE: a folder that all nodes see
# And in each shell in which you type `study` or `hf`:  source ~/.study_env
#SBATCH --job-name=study
# CHANGE: how many machines, what each has, and for how long
#SBATCH --nodes=4
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --time=24:00:00
# CHANGE: what your site asks for; the second # keeps it from being read
##SBATCH --partition=NAME --account=NAME
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --requeue
#SBATCH --output=%x-%j.log
set -euo pipefail
source ~/.study_env
cd "$SLURM_SUBMIT_DIR"

# Here on the first node, where the driver runs too. CHANGE: the store, if rather PostgreSQL.
bash clusters/node.sh serve "sqlite:///$STUDY_HOME/mlflow.db"
trap 'bash clusters/node.sh stop' EXIT
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
unset RAY_ADDRESS # there is no cluster yet
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300 # seconds; Ray's 30 are few for a shared disk
end=$(mktemp) # how the study ended; where Ray does not start, its own exit code is 0
# Since Slurm 22.05 a step takes only what it asks for itself, else one core.
srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" \
  --cpus-per-task="$SLURM_CPUS_PER_TASK" \
  ray symmetric-run --address "$first:6379" --min-nodes "$SLURM_JOB_NUM_NODES" \
  --num-cpus "$SLURM_CPUS_PER_TASK" --num-gpus "${SLURM_GPUS_ON_NODE:-0}" \
  --disable-usage-stats -- bash -c 'study run "$@"; echo $? >"$0"' "$end" "$@" || true
[[ -s $end ]] || { echo "the study did not run to its end: see above" >&2 && exit 1; }
exit "$(<"$end")"
