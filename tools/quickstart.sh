#!/usr/bin/env bash
# Makes the environment if it is missing, then trains and compares tiny models on built-in scenes.
#   bash tools/quickstart.sh                  a quarter of an hour on two CPU cores
#   bash tools/quickstart.sh --seeds 0 1 2    the same for three seeds, with means
#   bash tools/quickstart.sh --help           all options
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# Detection and segmentation, which are stages by default, need the complete environment. For the
# others one made with --minimal is enough, and stays one.
setup=(--quiet)
case " $* " in
  *[\ =]detection\ * | *[\ =]segmentation\ *) ;;
  *\ --stages[\ =]* | *\ --help\ * | *\ -h\ *) setup+=(--minimal) ;;
esac
bash tools/setup_env.sh "${setup[@]}"
exec .venv/bin/python tools/quickstart.py "$@"
