"""The scripts and files that make the environment."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fineclip

ROOT = Path(__file__).resolve().parents[1]
SETUP_ENV = ROOT / "tools" / "setup_env.sh"
SHELL_SCRIPTS = [ROOT / ".ci" / "run", *sorted((ROOT / "tools").glob("*.sh"))]
PIN_FILES = [ROOT / "requirements" / name for name in ("minimal.txt", "full.txt")]


def pins(path: Path) -> list[str]:
    """The requirement lines of a file, without the comments that say who asked for them."""
    lines = (line.split("#")[0].strip() for line in path.read_text(encoding="utf-8").splitlines())
    return [line for line in lines if line]


def names(path: Path) -> set[str]:
    return {line.split("==")[0] for line in pins(path)}


def run_setup(root: Path, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a copy of the script with nothing but the given environment."""
    return subprocess.run(
        [shutil.which("bash"), str(root / "tools" / "setup_env.sh"), *arguments],
        cwd=root,
        env=environment,
        capture_output=True,
        text=True,
    )


@pytest.fixture
def clone(tmp_path: Path) -> Path:
    """What setup_env.sh reads, in a folder with a space in its name and without an environment."""
    root = tmp_path / "a clone"
    (root / "tools").mkdir(parents=True)
    shutil.copytree(ROOT / "requirements", root / "requirements")
    shutil.copy(SETUP_ENV, root / "tools")
    shutil.copy(ROOT / "setup.py", root)
    return root


@pytest.mark.parametrize("script", SHELL_SCRIPTS, ids=lambda path: path.name)
def test_shell_scripts_parse(script):
    done = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True)
    assert (done.returncode, done.stderr) == (0, "")


def test_setup_env_help():
    done = subprocess.run(["bash", str(SETUP_ENV), "--help"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "--minimal" in done.stdout


def test_setup_env_refuses_an_unknown_flag():
    done = subprocess.run(["bash", str(SETUP_ENV), "--mini"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "unknown argument --mini" in done.stderr


def test_setup_env_without_python(clone, tmp_path):
    # A PATH with the plain tools of the script and a `python3` that is too old (a failing stub).
    bin_folder = tmp_path / "bin"
    bin_folder.mkdir()
    for tool in ("dirname", "cat", "cut", "sha256sum", "shasum", "rm"):
        if found := shutil.which(tool):
            (bin_folder / tool).symlink_to(found)
    (bin_folder / "python3").write_text("#!/bin/sh\nexit 1\n")
    (bin_folder / "python3").chmod(0o755)
    done = run_setup(clone, PATH=str(bin_folder))
    assert done.returncode == 1
    assert "no Python >= 3.10 found" in done.stderr
    assert not (clone / ".venv").exists()


@pytest.mark.parametrize(
    ("stamp_mode", "arguments", "expected"),
    [
        ("full", (), True),
        ("full", ("--minimal",), True),
        ("minimal", ("--minimal",), True),
        ("minimal", (), False),
    ],
)
def test_setup_env_knows_what_is_up_to_date(clone, stamp_mode, arguments, expected):
    # Sourcing the script would run it, so the functions that make the fingerprint are cut out.
    script = SETUP_ENV.read_text(encoding="utf-8")
    functions = re.search(r"^sha256\(\).*?^}\n", script, flags=re.MULTILINE | re.DOTALL).group()
    program = f'root="{clone}"; self="$root/tools/setup_env.sh"\n{functions}\nfingerprint'
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True, check=True)
    (clone / ".venv" / "bin").mkdir(parents=True)
    (clone / ".venv" / "bin" / "python").symlink_to(sys.executable)
    (clone / ".venv" / ".setup_env.stamp").write_text(f"{stamp_mode} {done.stdout}")

    # Where work would start, the unusable PYTHON ends the run before anything is made.
    path = {"PATH": os.environ["PATH"], "PYTHON": "/nonexistent/python"}
    run = run_setup(clone, *arguments, **path)
    assert ("up to date" in run.stdout) == expected
    assert run.returncode == (0 if expected else 1)

    # A changed pin makes every stamp stale.
    (clone / "requirements" / "minimal.txt").write_text("torch==0\n")
    assert "up to date" not in run_setup(clone, *arguments, **path).stdout


@pytest.mark.parametrize("path", PIN_FILES, ids=lambda path: path.name)
def test_pins_are_exact(path):
    # name==version, optionally with a marker: no range, no address, no local path, no option.
    pattern = re.compile(r"[a-z0-9][a-z0-9._-]*==[0-9][A-Za-z0-9.!+]*( ; [^#]+)?")
    assert [line for line in pins(path) if not pattern.fullmatch(line)] == []
    assert "://" not in path.read_text(encoding="utf-8")


def test_minimal_is_a_subset_of_full():
    minimal, full = (set(pins(path)) for path in PIN_FILES)
    assert {line.split(" ;")[0] for line in minimal} <= {line.split(" ;")[0] for line in full}


def test_what_each_set_holds():
    minimal, full = (names(path) for path in PIN_FILES)
    assert {
        "torch",
        "torchvision",
        "open-clip-torch",
        "timm",
        "onedl-mmengine",
        "pytest",
    } <= minimal
    assert minimal.isdisjoint({"onedl-mmcv", "onedl-mmdetection", "transformers"})
    assert {"onedl-mmcv", "onedl-mmdetection", "lvis", "fvcore", "transformers"} <= full
    # Two wheels that own the same folder cv2 break each other.
    assert "opencv-python-headless" in full
    assert "opencv-python" not in full | minimal


def test_metadata_agrees_with_the_package_and_the_pins():
    done = subprocess.run(
        [sys.executable, "setup.py", "--quiet", "--name", "--version", "--license"],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    assert done.stdout.split() == ["fineclip-toolkit", fineclip.__version__, "Apache-2.0"], (
        done.stderr
    )
