"""Which environment tools/quickstart.sh asks for."""

import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("arguments", "minimal"),
    [
        ("", False),
        ("--seeds 0 1", False),
        ("--stages scenes clip clip_continued fineclip", True),
        ("--stages clip --seeds 1", True),
        ("--stages=fineclip", True),
        ("--stages scenes segmentation --seeds 1", False),
        ("--stages detection", False),
        ("--stages=detection", False),
        ("--work-dir clip", False),
        ("--help", True),
    ],
)
def test_a_minimal_environment_stays_one_where_it_is_enough(tmp_path, arguments, minimal):
    for name, said in (("tools/setup_env.sh", "setup"), (".venv/bin/python", "python")):
        stub = tmp_path / name
        stub.parent.mkdir(parents=True)
        stub.write_text(f'#!/usr/bin/env bash\necho {said} "$@"\n')
        stub.chmod(0o755)
    shutil.copy(ROOT / "tools" / "quickstart.sh", tmp_path / "tools")
    command = ["bash", tmp_path / "tools" / "quickstart.sh", *arguments.split()]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "setup --quiet --minimal" if minimal else "setup --quiet",
        f"python tools/quickstart.py {arguments}".strip(),
    ]
