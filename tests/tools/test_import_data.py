"""tools/import_data.py: what it prints and how it ends."""

import own_data

from fineclip.importing import READERS
from fineclip.importing.near_duplicates import DISTANCE


def test_tells_what_it_made(run_tool, tmp_path):
    own_data.roboflow_yolo(tmp_path / "src")
    out = tmp_path / "parts"
    done = run_tool("import_data.py", tmp_path / "src", out, "--split", "0.5", "0.5", "--seed", 3)
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert lines[0] == f"{tmp_path}/src: MENDED (5 images, 6 boxes)" or "CLEAN" in lines[0]
    assert "taken for yolo; --from says otherwise" in lines
    assert lines[-3:] == [
        "5 images (3 train, 2 val)",
        "3 classes: widget, bolt, big nut",
        f"wrote {out}/data.yaml",
    ]
    again = run_tool("import_data.py", tmp_path / "src", out, "--from", "yolo", "--link")
    assert again.returncode == 2
    assert again.stderr == (
        f"error: OUT: {out} is not empty; --overwrite replaces it, or choose another folder\n"
    )
    done = run_tool("import_data.py", tmp_path / "src", out, "--overwrite", "--link")
    assert done.returncode == 0
    assert "image files were linked" in done.stdout


def test_its_options_are_those_of_the_package(run_tool):
    """Written again in the tool, whose --help imports nothing."""
    shown = run_tool("import_data.py", "--help").stdout
    assert f"{{{','.join(READERS)}}}" in shown
    assert f"(default: {DISTANCE})" in shown
