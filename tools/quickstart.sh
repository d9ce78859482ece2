#!/usr/bin/env bash
# Makes the environment if it is missing, then trains and compares tiny models on built-in scenes.
#   bash tools/quickstart.sh                  under twenty minutes on two CPU cores
#   bash tools/quickstart.sh --seeds 0 1 2    the same for three seeds, with means
#   bash tools/quickstart.sh --help           all options
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
bash tools/setup_env.sh --quiet
exec .venv/bin/python tools/quickstart.py "$@"
