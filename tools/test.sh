#!/usr/bin/env bash
# Runs the tests; makes the environment first if it is missing. Arguments go to pytest.
#   bash tools/test.sh                        everything
#   bash tools/test.sh -k name -x             as pytest understands them
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

# An environment made with --minimal stays one: tests of the rest skip themselves there.
setup=(--quiet)
if grep -qs '^minimal ' .venv/.setup_env.stamp; then setup+=(--minimal); fi
bash tools/setup_env.sh "${setup[@]}"

# Tiny tensors: threads of one process would only wait for each other.
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-1}"

# The whole suite runs with one worker per core. A selection does not: every worker imports torch and
# collects all tests first, which takes longer than the few tests. Nor does output meant to be watched.
workers="$(getconf _NPROCESSORS_ONLN 2>/dev/null || echo 1)"
parallel=(-n "$((workers > 8 ? 8 : workers))" --dist loadfile --no-loadscope-reorder)
if [ "$workers" -lt 2 ]; then parallel=(); fi
for argument in "$@"; do
  case "$argument" in
    -k* | -m* | --lf | --last-failed | *::*) parallel=() ;;
    -n* | --numprocesses* | --dist* | -p* | -s | --capture=no | --pdb* | --trace) parallel=() ;;
    --co | --collect-only | --fixtures | --markers | --version | -h | --help) parallel=() ;;
    *) if [ -e "$argument" ]; then parallel=(); fi ;;
  esac
done
exec .venv/bin/python -m pytest ${parallel[@]+"${parallel[@]}"} "$@"
