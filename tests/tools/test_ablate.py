"""tools/ablate.py as a user runs it."""

import json

import pytest

CONFIG = "configs/ablation/scenes.py"
TINY = [
    "--cfg-options",
    "images=8",
    "val_images=4",
    "pretrain_epochs=1",
    "epochs=1",
    "pretrain_batch_size=4",
    "batch_size=4",
]


def test_trains_reports_failures_and_shows_again_what_is_finished(run_tool, tmp_path):
    arguments = ("--config", CONFIG, "--work-dir", tmp_path, *TINY)
    # The second row asks for more images than there are.
    done = run_tool("ablate.py", *arguments, "rows.CLIP.options.batch_size=64", "--rows", "CLIP")
    assert done.returncode == 1, done.stderr[-2000:]
    assert "[1/2] seed 0: pretrained: box_top1 " in done.stdout
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: ")
    assert "CLIP failed: the 8 training images do not fill one batch of 64" in line
    (row,) = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert row["name"] == "pretrained"
    assert row["box_top1"]["mean"] >= 0

    again = run_tool("ablate.py", *arguments, "--rows", "pretrained")
    assert again.returncode == 0, again.stderr[-2000:]
    assert "[1/" not in again.stdout
    assert (tmp_path / "results.md").read_text() in again.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "nothing.py"], "config nothing.py does not exist"),
        (["--config", CONFIG, "--rows", "SLIC"], "unknown row SLIC; known: pretrained, CLIP"),
        ([], "the following arguments are required: --config"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(run_tool, arguments, message, tmp_path):
    done = run_tool("ablate.py", *arguments, "--work-dir", tmp_path / "w")
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if "error: " in line]
    assert message in line
    assert not (tmp_path / "w").exists()
