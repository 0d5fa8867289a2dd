#!/usr/bin/env bash
# A study on Slurm: `sbatch clusters/slurm.sh my_study.py`; submit again to resume. docs/cluster.md
# Submit from the project's folder. Before the first submission, on the login node:
#   bash clusters/node.sh install && (umask 077; .venv/bin/ray get-auth-token --generate >/dev/null)
#   bash clusters/node.sh environment /scratch/YOU/study    CHANGE: a folder shared by all nodes
# And in each shell in which you type `study` or `hf`:  source ~/.study_env
#SBATCH --job-name=study
# CHANGE: number of machines, their resources, and the time limit
#SBATCH --nodes=4
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --time=24:00:00
# CHANGE: options that your site requires; remove one # to enable
##SBATCH --partition=NAME --account=NAME
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --requeue
#SBATCH --output=%x-%j.log
set -euo pipefail
source ~/.study_env
cd "$SLURM_SUBMIT_DIR"

# On the first node, where the driver runs too. CHANGE: the store, to use PostgreSQL.
bash clusters/node.sh serve "sqlite:///$STUDY_HOME/mlflow.db"
trap 'bash clusters/node.sh stop' EXIT
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
unset RAY_ADDRESS # there is no cluster yet
export RAY_SYMMETRIC_RUN_CLUSTER_WAIT_TIMEOUT=300 # seconds; Ray's default of 30 is too short for a shared disk
end=$(mktemp) # exit code of the study; if Ray fails to start, its own exit code is 0
# Since Slurm 22.05 a step gets one core unless it requests more itself.
srun --nodes="$SLURM_JOB_NUM_NODES" --ntasks="$SLURM_JOB_NUM_NODES" \
  --cpus-per-task="$SLURM_CPUS_PER_TASK" \
  ray symmetric-run --address "$first:6379" --min-nodes "$SLURM_JOB_NUM_NODES" \
  --num-cpus "$SLURM_CPUS_PER_TASK" --num-gpus "${SLURM_GPUS_ON_NODE:-0}" \
  --disable-usage-stats -- bash -c 'study run "$@"; echo $? >"$0"' "$end" "$@" || true
[[ -s $end ]] || { echo "the study did not run to its end: see above" >&2 && exit 1; }
exit "$(<"$end")"
