"""Running the command line tools."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from fineclip.scenes import make_scenes

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def run_tool():
    def run(name, *args):
        return subprocess.run(
            [sys.executable, ROOT / "tools" / name, *map(str, args)],
            capture_output=True,
            text=True,
            timeout=300,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
            cwd=ROOT,
        )

    return run


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """Twelve training and four validation scenes."""
    folder = tmp_path_factory.mktemp("data") / "scenes"
    make_scenes(folder, images=12, val_images=4, size=64)
    return folder
