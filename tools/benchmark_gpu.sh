#!/usr/bin/env bash
# Makes the environment if it is missing, then measures the paper's cost table on one GPU.
#   bash tools/benchmark_gpu.sh --out gpu.json         under ten minutes
#   bash tools/benchmark_gpu.sh --device cpu --tiny    tries the command where there is none
#   bash tools/benchmark_gpu.sh --help                 all options
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

bash tools/setup_env.sh --quiet
exec .venv/bin/python tools/benchmark_gpu.py "$@"
