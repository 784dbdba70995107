#!/usr/bin/env bash
# One run on several nodes of a SLURM cluster, one task a node, all GPUs of a node in its task:
#   sbatch --nodes=4 scripts/slurm.sh --config sft --config.model.path=DIR --config.data.train=FILE \
#       --config.output_dir=OUT
# The arguments are those of `jitune train`; --distributed and --resume are added. OUT and VENV must be on a file
# system that all nodes see. Edit the lines below for your cluster, or give them to sbatch.
#SBATCH --job-name=jitune
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=32
#SBATCH --time=24:00:00
#SBATCH --output=jitune-%j.log
#SBATCH --open-mode=append
#SBATCH --requeue
# Two minutes before the time is up the tasks, not this script, get SIGTERM: they save and exit with 143.
#SBATCH --signal=TERM@120
set -euo pipefail
VENV=${VENV:-$PWD/.venv}  # where jitune is installed, with the extra cuda
GPUS=${GPUS:-${SLURM_GPUS_ON_NODE:-8}}  # of one node

# Without it jax takes a task to be one GPU's.
JAX_LOCAL_DEVICE_IDS=$(seq -s, 0 $((GPUS - 1)))
export JAX_LOCAL_DEVICE_IDS

# Tasks end together when they have saved; where one fails, the others wait for it and are ended after two minutes.
code=0
srun --kill-on-bad-exit=0 --wait=120 "$VENV/bin/jitune" train --distributed --resume "$@" || code=$?

# 143: stopped before its last step, and saved. A job that is preempted goes back to the queue by itself or here; one
# that is cancelled does not come back, for scancel ends this script too.
if [ "$code" -eq 143 ]; then scontrol requeue "$SLURM_JOB_ID"; fi
exit "$code"
