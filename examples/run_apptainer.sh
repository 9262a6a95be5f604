#!/usr/bin/env bash
# A group analysis in an Apptainer image that sees its input, its output and its spec, and nothing else of the machine.
# usage: run_apptainer.sh IMAGE.sif BIDS_DIR OUTPUT_DIR SPEC.json [options of bids_group]
set -euo pipefail

if [ $# -lt 4 ]; then
    sed -n 's/^# usage/usage/p' "$0" >&2
    exit 64
fi
image=$1
bids=$(realpath -e -- "$2")
mkdir -p -- "$3"
output=$(realpath -e -- "$3")
spec=$(realpath -e -- "$4")
shift 4

# In a job: the processors that Slurm gave, and three quarters of the memory for the maps, the rest for everything else.
resources=()
if [ -n "${SLURM_CPUS_PER_TASK:-}" ]; then
    resources+=(--nprocs "$SLURM_CPUS_PER_TASK")
fi
if [ "${SLURM_MEM_PER_NODE:-0}" -gt 0 ]; then
    resources+=(--mem-gb "$(awk -v mb="$SLURM_MEM_PER_NODE" 'BEGIN {print 0.75 * mb / 1000}')")
fi

# exec: the signal with which a scheduler ends a job reaches the app, which then keeps what it has computed.
exec apptainer run --containall --cleanenv \
    --bind "$bids:/data:ro" --bind "$output:/out" --bind "$(dirname -- "$spec"):/spec:ro" \
    "$image" /data /out group --model "/spec/$(basename -- "$spec")" "${resources[@]}" "$@"
