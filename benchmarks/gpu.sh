#!/usr/bin/env bash
# Measures all rows of benchmarks/README.md that need a GPU, on synthetic audio, in less than 8 minutes:
#   benchmarks/gpu.sh [WHEEL] [options of gpu.py]
# It takes Python with torch and asdbench's dependencies; with WHEEL, asdbench is the unpacked wheel.
set -euo pipefail

python=${PYTHON:-python3}
folder=$(cd "$(dirname "$0")" && pwd)
if [[ ${1:-} == *.whl ]]; then
  unpacked=$(mktemp -d)
  trap 'rm -rf "$unpacked"' EXIT
  "$python" -m zipfile -e "$1" "$unpacked"
  export PYTHONPATH=$unpacked
  shift
fi
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}  # the host has several threads that load
timeout --kill-after=10 470 "$python" "$folder/gpu.py" "$@"
