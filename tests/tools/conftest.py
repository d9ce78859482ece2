"""Running the command line tools."""

import pytest
import tool_runs

from fineclip.scenes import make_scenes


@pytest.fixture(scope="session")
def run_tool():
    """``run_tool("train.py", *args)``: the command in this process."""
    return tool_runs.run_in_process


@pytest.fixture(scope="session")
def run_tool_process():
    """The same in a process of its own: for interrupts, several processes, the environment."""
    return tool_runs.run_as_process


@pytest.fixture(scope="session")
def scenes(tmp_path_factory):
    """Twelve training and four validation scenes."""
    folder = tmp_path_factory.mktemp("data") / "scenes"
    make_scenes(folder, images=12, val_images=4, size=64)
    return folder
