#!/usr/bin/env bash
# Makes .venv in the clone. The stages are at the bottom, in `main`; each function above is one step.
set -euo pipefail

usage() {
  cat <<'USAGE'
usage: bash tools/setup_env.sh [--minimal] [--quiet]

Makes the Python environment .venv/ in this clone from the exact pins in requirements/.
Safe to run again: it returns at once when nothing changed and continues where it was interrupted.

  --minimal   only what fineclip needs (pretraining and evaluation), without mmcv, mmdet and detectron2;
              a complete environment serves as a minimal one too
  --quiet     say nothing when the environment is up to date
  -h, --help  this text

Environment variables:
  PYTHON         the interpreter to build on (default: the first Python >= 3.10 found, 3.11 preferred)
  UV_FIND_LINKS  folder with prebuilt wheels; an mmcv wheel there saves a source build of about 9 minutes
  MAX_JOBS       parallel compiler processes of the mmcv build (default: number of cores)
  Every other UV_* variable reaches uv unchanged (UV_OFFLINE, UV_CACHE_DIR, ...).
USAGE
}

root="$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)"
self="$root/tools/setup_env.sh"
venv="$root/.venv"
python="$venv/bin/python"
stamp="$venv/.setup_env.stamp"
logs="$venv/setup_logs"

uv_version=0.13.9
detectron2_url=https://github.com/facebookresearch/detectron2
detectron2_commit=02b5c4e295e990042a714712c21dc79b731e8833
detectron2_wheel=sal-detectron2==0.7.2
detectron2_wheel_python=3.10 # the wheel is tagged for it; its Python files run on later versions

mode=full
quiet=no
uv=
temporary=
heartbeat=
build_target=
build_env=()

say() { printf '[%4ds] %s\n' "$SECONDS" "$*"; }
fail() {
  printf 'setup_env: error: %s\n' "$*" >&2
  exit 1
}

cleanup() {
  if [ -n "$heartbeat" ]; then kill "$heartbeat" 2>/dev/null || true; fi
  if [ -n "$temporary" ]; then rm -rf "$temporary"; fi
}
trap cleanup EXIT
trap 'printf "setup_env: interrupted; run it again to continue\n" >&2; exit 130' INT TERM

# --- is there anything to do? -------------------------------------------------------------------

sha256() { if command -v sha256sum >/dev/null; then sha256sum; else shasum -a 256; fi; }

# The path is part of it because a virtual environment cannot be moved, and the list of top-level
# packages because the editable install maps each of them.
fingerprint() {
  {
    printf '%s\n' "$root" "$root"/{fineclip,detection,segmentation}/__init__.py*
    cat "$self" "$root/setup.py" "$root"/requirements/*.txt
  } | sha256 | cut -c 1-32
}

up_to_date() { # up_to_date FINGERPRINT
  local have
  have="$(cat "$stamp" 2>/dev/null)" || return 1
  [ "$have" = "full $1" ] || { [ "$mode" = minimal ] && [ "$have" = "minimal $1" ]; } || return 1
  "$python" -c '' 2>/dev/null # the interpreter below the environment may be gone
}

# --- running a stage ----------------------------------------------------------------------------

# Turns the log of a failed uv or pip command into the sentence a person needs.
explain() { # explain LOG WHAT
  if grep -qiE 'no space left' "$1"; then
    fail "$2: the disk is full (log: $1)"
  elif grep -qiE 'dns error|failed to fetch|error sending request|network connectivity is disabled|packages were unavailable because the network|failed to establish a new connection|could not find a version that satisfies' "$1"; then
    fail "$2: the package index cannot be reached; check the network or UV_FIND_LINKS, UV_OFFLINE and the index settings, then run this again (log: $1)"
  fi
  tail -n 15 "$1" >&2
  fail "$2 failed (log: $1)"
}

logged() { # logged LOG WHAT COMMAND...: output goes to the log, a failure ends the script
  local log="$logs/$1" what="$2"
  shift 2
  "$@" >"$log" 2>&1 </dev/null || explain "$log" "$what"
}

pip_install() { "$uv" pip install --python "$python" "$@"; }
works() { "$python" -c "$1" >/dev/null 2>&1; }

# --- what must be there first -------------------------------------------------------------------

find_python() {
  # Prints the interpreter itself: what is on PATH may be a version manager's stub, which may also
  # do nothing but print an error.
  local candidate path='import sys; sys.exit(1) if sys.version_info < (3, 10) else print(sys.executable)'
  if [ -n "${PYTHON:-}" ]; then
    "$PYTHON" -c "$path" 2>/dev/null || fail "PYTHON=$PYTHON is not a working Python >= 3.10"
    return
  fi
  for candidate in python3.11 python3.12 python3.10 python3 python; do
    if "$candidate" -c "$path" 2>/dev/null; then return; fi
  done
  fail "no Python >= 3.10 found on PATH (3.11 is the tested one); install it, or name one with PYTHON=/path/to/python"
}

check_disk() {
  [ -d "$venv/lib" ] && compgen -G "$venv/lib/python*/site-packages/torch/lib" >/dev/null && return 0
  local need=10 free
  if [ "$mode" = minimal ]; then need=8; fi
  free="$(df -Pk "$root" | awk 'NR == 2 { print int($4 / 1048576) }')"
  [ "$free" -ge "$need" ] || fail "$free GB free on the disk of $root, about $need GB are needed (torch with CUDA is most of it)"
}

find_uv() { # find_uv PYTHON
  uv="$(command -v uv || true)"
  if [ -n "$uv" ] && "$uv" --version >/dev/null 2>&1; then return; fi
  uv="$venv/.uv/bin/uv"
  if [ -x "$uv" ] && "$uv" --version >/dev/null 2>&1; then return; fi
  say "uv is not on PATH: fetching it into .venv/.uv"
  "$1" -m pip --version >/dev/null 2>&1 \
    || fail "neither uv nor pip is there; install one of them (for example the package python3-pip) and run this again"
  temporary="$venv/.uv.$$"
  # --target leaves the system's and the user's packages alone, also where they are externally managed.
  logged uv.log "fetching uv" "$1" -m pip install --disable-pip-version-check --no-cache-dir --target "$temporary" "uv==$uv_version"
  rm -rf "$venv/.uv"
  mv "$temporary" "$venv/.uv"
  temporary=
}

make_venv() { # make_venv PYTHON
  if [ -x "$python" ] && works 'import sys; sys.exit(sys.version_info < (3, 10))'; then
    local made_for
    made_for="$(cat "$venv/.setup_env.root" 2>/dev/null || echo "$root")"
    if [ "$made_for" = "$root" ]; then
      printf '%s\n' "$root" >"$venv/.setup_env.root"
      return
    fi
    say ".venv was made for $made_for: making it again here"
  fi
  # Only what a virtual environment consists of: the logs and a fetched uv stay.
  rm -rf "$venv"/{bin,lib,lib64,include,share,pyvenv.cfg}
  say "making .venv with $("$1" --version) ($1)"
  logged venv.log "making the virtual environment" "$uv" venv --quiet --allow-existing --no-project --python "$1" "$venv"
  printf '%s\n' "$root" >"$venv/.setup_env.root"
}

# --- stage: pinned packages ---------------------------------------------------------------------

install_pins() {
  # Both OpenCV wheels own the folder cv2; with one removed the other is broken, so both go.
  if compgen -G "$venv/lib/python*/site-packages/opencv_python-*.dist-info" >/dev/null; then
    logged opencv.log "removing opencv-python" "$uv" pip uninstall --python "$python" opencv-python opencv-python-headless
  fi
  say "installing the pinned packages of requirements/$mode.txt (several GB to download the first time)"
  # mmcv comes later: its build needs the torch that this stage installs. The file is a closure, so
  # dependencies are not resolved again (mmdet's would bring opencv-python back).
  grep -v '^onedl-mmcv==' "$root/requirements/$mode.txt" >"$logs/requirements.txt"
  logged packages.log "installing the pinned packages" pip_install --no-deps -r "$logs/requirements.txt"
}

check_torch() {
  "$python" - 2>"$logs/torch.log" <<'PY' || { tail -n 1 "$logs/torch.log" >&2; fail "torch and torchvision do not work together (log: $logs/torch.log)"; }
import importlib.metadata as metadata
import sys

try:
    import torch
    import torchvision

    boxes = torch.tensor([[0.0, 0.0, 4.0, 4.0], [0.0, 0.0, 4.0, 4.0]])
    kept = torchvision.ops.nms(boxes, torch.tensor([0.9, 0.8]), 0.5)
    pooled = torchvision.ops.roi_align(torch.ones(1, 1, 8, 8), [boxes], output_size=1)
    if kept.tolist() != [0] or pooled.flatten().tolist() != [1.0, 1.0]:
        raise RuntimeError(f"nms kept {kept.tolist()}, roi_align gave {pooled.flatten().tolist()}")
except Exception as error:
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in ("torch", "torchvision"))
    print(f"{versions}: {type(error).__name__}: {error}", file=sys.stderr)
    if "+cpu" in metadata.version("torch"):
        sys.exit(
            f"{versions}: the CPU-only torch wheel breaks torchvision's operators. Use the CUDA builds "
            "(they run on machines without a GPU too): remove .venv, drop any CPU-only index or "
            "UV_TORCH_BACKEND setting, and run tools/setup_env.sh again"
        )
    sys.exit(f"{versions}: torchvision's operators fail with this torch; they are released in pairs")
PY
}

# --- stage: mmcv --------------------------------------------------------------------------------

mmcv_pin() { grep -oE '^onedl-mmcv==[^ ;]+' "$root/requirements/full.txt"; }
mmcv_works() { works 'import torch, mmcv.ops; mmcv.ops.nms(torch.rand(2, 4), torch.rand(2), 0.5)'; }
mmcv_wheel() { pip_install --no-deps --no-build "$@" "$(mmcv_pin)"; }

check_compiler() {
  local header='import pathlib, sys, sysconfig; sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").is_file())'
  command -v "${CXX:-c++}" >/dev/null \
    || fail "no C++ compiler found, and mmcv's operators must be compiled; install one (for example the package build-essential), or set UV_FIND_LINKS to a folder with an mmcv wheel, or use --minimal"
  works "$header" \
    || fail "the headers of $("$python" --version) are missing (Python.h), and mmcv's operators must be compiled; install them (for example the package python3-dev), or use --minimal"
}

# Sets `build_env`. Compiled for the GPU only where one is there with a compiler of torch's own CUDA.
choose_target() {
  local home="${CUDA_HOME:-/usr/local/cuda}" have want
  # mmcv also compiles for CUDA when torch merely sees a GPU, which fails without nvcc: hide it then.
  build_target=cpu
  build_env=(FORCE_CUDA=0 CUDA_VISIBLE_DEVICES=)
  works 'import sys, torch; sys.exit(not torch.cuda.is_available())' || return 0
  if [ ! -x "$home/bin/nvcc" ] && command -v nvcc >/dev/null; then
    home="$(dirname "$(dirname "$(readlink -f "$(command -v nvcc)")")")"
  fi
  want="$("$python" -c 'import torch; print((torch.version.cuda or "none").split(".")[0])')"
  have="$("$home/bin/nvcc" --version 2>/dev/null | sed -nE 's/.*release ([0-9]+)\..*/\1/p')" || have=
  if [ "$have" = "$want" ]; then
    build_target=cuda
    build_env=(FORCE_CUDA=1 CUDA_HOME="$home")
  else
    say "a GPU is there but no nvcc of CUDA $want (found: ${have:-none}): compiling operators for the CPU only"
  fi
}

watch_build() { # watch_build LOG: one line a minute with the compiler's own count, e.g. [12/96]
  local step
  while sleep 60 && kill -0 $$ 2>/dev/null; do
    step="$(grep -oE '\[[0-9]+/[0-9]+\]' "$1" 2>/dev/null | tail -n 1)" || step=
    say "still compiling mmcv ${step}"
  done
}

install_mmcv() {
  if mmcv_works; then return; fi
  if mmcv_wheel >"$logs/mmcv_wheel.log" 2>&1; then
    if mmcv_works; then
      say "mmcv: installed from a prebuilt wheel"
      return
    fi
    say "mmcv: the prebuilt wheel does not work with this torch, compiling instead"
    logged mmcv_wheel.log "removing mmcv" "$uv" pip uninstall --python "$python" onedl-mmcv
  fi
  check_compiler
  choose_target
  local log="$logs/mmcv_build.log" jobs flavour
  jobs="${MAX_JOBS:-$(getconf _NPROCESSORS_ONLN)}"
  # uv caches what it builds by these settings: a build for another torch or target, or one that was
  # made without operators elsewhere, is not taken for this one.
  flavour="$build_target-torch-$("$python" -c 'import torch; print(torch.__version__)')"
  say "mmcv: compiling its operators for $build_target with $jobs jobs, about 9 minutes on 2 cores (log: $log)"
  watch_build "$log" 9<&- &
  heartbeat=$!
  logged mmcv_build.log "compiling mmcv" env MMCV_WITH_OPS=1 MAX_JOBS="$jobs" "${build_env[@]}" \
    "$uv" pip install --python "$python" --verbose --no-deps --no-build-isolation \
    --no-binary onedl-mmcv --config-settings "fineclip-build=$flavour" "$(mmcv_pin)"
  kill "$heartbeat" 2>/dev/null || true
  heartbeat=
}

# --- stage: detectron2 --------------------------------------------------------------------------

limited() { if command -v timeout >/dev/null; then timeout "$@"; else shift && "$@"; fi; }

install_detectron2() {
  if works 'import detectron2'; then return; fi
  export GIT_TERMINAL_PROMPT=0
  if command -v git >/dev/null && command -v "${CXX:-c++}" >/dev/null \
    && limited 10 git ls-remote "$detectron2_url" HEAD >/dev/null 2>&1 </dev/null; then
    say "detectron2: building its official source, a few minutes"
    choose_target
    if env "${build_env[@]}" "$uv" pip install --python "$python" --no-deps --no-build-isolation \
      "detectron2 @ git+$detectron2_url@$detectron2_commit" \
      >"$logs/detectron2_build.log" 2>&1 </dev/null && works 'import detectron2'; then
      return
    fi
    say "detectron2: the official source did not build, taking the Python part of a published wheel (log: $logs/detectron2_build.log)"
  else
    say "detectron2: its official source is not reachable, taking the Python part of a published wheel"
  fi
  unpack_detectron2
}

# Without it a process that writes no bytecode (PYTHONDONTWRITEBYTECODE, a read-only environment) takes
# three times as long to import mmdet or detectron2. Some packages hold files of other Pythons: those stay.
compile_packages() {
  env -u PYTHONDONTWRITEBYTECODE -u PYTHONPYCACHEPREFIX "$python" -m compileall -q -j 0 \
    "$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')" >"$logs/compile.log" 2>&1 || true
}

# The wheel holds detectron2's Python files beside one compiled file for another Python. CatSeg needs
# no compiled operator, so everything but that file is moved into place, with one rename at the end.
unpack_detectron2() {
  local site
  site="$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')"
  temporary="$site/.detectron2.$$"
  logged detectron2.log "fetching detectron2's Python part" \
    pip_install --target "$temporary" --no-deps --only-binary :all: --python-version "$detectron2_wheel_python" "$detectron2_wheel"
  "$python" - "$temporary" "$site" "$detectron2_wheel" >>"$logs/detectron2.log" 2>&1 <<'PY' || explain "$logs/detectron2.log" "unpacking detectron2"
import shutil
import sys
from pathlib import Path

temporary, site, wheel = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
package = temporary / "detectron2"
for compiled in package.glob("_C*"):
    compiled.unlink()
for cache in package.rglob("__pycache__"):
    shutil.rmtree(cache)

# Package metadata, so that the environment lists detectron2 and can uninstall it.
info = temporary / f"detectron2-{wheel.split('==')[1]}+python.dist-info"
info.mkdir()
shutil.copy(next(temporary.glob("*.dist-info/LICENSE")), info / "LICENSE")
version = info.name.removesuffix(".dist-info").split("-")[1]
(info / "METADATA").write_text(
    f"Metadata-Version: 2.1\nName: detectron2\nVersion: {version}\n"
    f"Summary: Python part of {wheel}, without compiled operators\nLicense: Apache-2.0\n"
)
(info / "WHEEL").write_text(
    "Wheel-Version: 1.0\nGenerator: setup_env.sh\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
)
(info / "INSTALLER").write_text("setup_env.sh\n")
files = [*package.rglob("*"), *info.iterdir(), info / "RECORD"]
names = sorted(str(file.relative_to(temporary)) for file in files if not file.is_dir())
(info / "RECORD").write_text("".join(f"{name},,\n" for name in names))

for stale in [*site.glob("detectron2-*.dist-info"), site / "detectron2"]:
    shutil.rmtree(stale, ignore_errors=True)
info.rename(site / info.name)
package.rename(site / "detectron2")
PY
  rm -rf "$temporary"
  temporary=
}

# --- stage: check what was made -----------------------------------------------------------------

verify() {
  check_torch
  local modules="fineclip open_clip timm mmengine pycocotools.mask"
  if [ "$mode" = full ]; then
    modules="$modules lvis faster_coco_eval transformers mmcv.ops mmdet.apis detectron2.config detectron2.data
      detectron2.modeling detectron2.engine detectron2.evaluation detectron2.checkpoint"
    mmcv_works || { "$python" -c 'import mmcv.ops' 2>&1 | tail -n 1 >&2; fail "mmcv's compiled operators do not run; remove .venv and run this again"; }
  fi
  # shellcheck disable=SC2086 # one argument per module
  logged verify.log "importing the installed packages" "$python" -W ignore -c '
import importlib, sys
for name in sys.argv[1:]:
    try:
        importlib.import_module(name)
    except Exception as error:
        sys.exit(f"import {name}: {type(error).__name__}: {error}")' $modules
}

main() {
  while [ $# -gt 0 ]; do
    case "$1" in
      --minimal) mode=minimal ;;
      --quiet) quiet=yes ;;
      -h | --help) usage && exit 0 ;;
      *)
        printf 'setup_env: error: unknown argument %s\n' "$1" >&2
        usage >&2
        exit 2
        ;;
    esac
    shift
  done

  # Stages run in the clone; a relative folder is meant from where the caller stands.
  if [ -d "${UV_FIND_LINKS:-}" ]; then UV_FIND_LINKS="$(cd "$UV_FIND_LINKS" && pwd)" && export UV_FIND_LINKS; fi
  cd "$root"
  local wanted
  wanted="$(fingerprint)"
  if up_to_date "$wanted"; then
    [ "$quiet" = yes ] || say ".venv is up to date ($(cut -d ' ' -f 1 "$stamp"))"
    return
  fi

  # One at a time; the lock is on this file itself, so nothing is left behind.
  if command -v flock >/dev/null; then
    exec 9<"$self"
    if ! flock -n 9 2>/dev/null; then
      say "another setup_env.sh is at work in this clone: waiting for it"
      flock 9 || say "cannot lock here: going on without"
    fi
    if up_to_date "$wanted"; then
      say ".venv is up to date"
      return
    fi
  fi

  local base
  base="$(find_python)"
  check_disk
  mkdir -p "$logs"
  rm -f "$stamp"
  find_uv "$base"
  make_venv "$base"
  if [ "$mode" = full ] && ! mmcv_works && ! mmcv_wheel --dry-run >"$logs/mmcv_wheel.log" 2>&1; then
    check_compiler # now, not after gigabytes of downloads
  fi
  install_pins
  check_torch
  if [ "$mode" = full ]; then
    install_mmcv
    install_detectron2
  fi
  say "installing this project (editable)"
  logged project.log "installing this project" pip_install --no-deps --no-build-isolation -e "$root"
  say "compiling what was installed, so that commands start fast"
  compile_packages
  say "checking the environment"
  verify
  printf '%s %s\n' "$mode" "$wanted" >"$stamp.$$"
  mv "$stamp.$$" "$stamp"
  say "done: .venv is ready ($mode)"
}

main "$@"
