"""tools/ablate.py as a user runs it."""

import json
import shutil

import pytest
from job_runs import jobs_in_process

CONFIG = "configs/ablation/scenes.py"
COCO = "configs/ablation/coco.py"
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
    with jobs_in_process():
        done = run_tool(
            "ablate.py", *arguments, "rows.CLIP.options.batch_size=64", "--rows", "CLIP"
        )
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


@pytest.fixture
def coco(scenes, tmp_path):
    """Scenes where COCO has its files; val2017 without panoptic annotations, as is allowed."""
    root = tmp_path / "coco"
    (root / "annotations").mkdir(parents=True)
    for split in ("train", "val"):
        (root / f"{split}2017").symlink_to(scenes / split)
        for kind in ("instances", "captions"):
            file = scenes / "annotations" / f"{kind}_{split}.json"
            shutil.copy(file, root / "annotations" / f"{kind}_{split}2017.json")
    return root


def test_rows_on_given_data_from_given_start_weights(run_tool, coco, tmp_path):
    """The table of COCO, in the smallest way; a second call finds everything finished."""
    options = ["start=None", "model_name=ViT-Ti-16", "image_size=32", "crop_size=32"]
    options += ["batch_size=4", "epochs=1", "num_images=8", "amp=None", f"data_root={coco}"]
    options += ["refinement.num_workers=0", "refinement.chunk_sizes=None"]
    rows = ["pretrained", "CLIP"]
    arguments = ["--config", COCO, "--work-dir", tmp_path / "w", "--rows", *rows]
    with jobs_in_process():
        done = run_tool("ablate.py", *arguments, "--cfg-options", *options)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "[2/2] seed 0: CLIP = L_GC: box_top1 " in done.stdout
    found = {
        row["name"]: row for row in json.loads((tmp_path / "w/results.json").read_text())["rows"]
    }
    assert list(found) == ["pretrained", "CLIP", "L_GC"]
    assert found["pretrained"]["seconds_per_epoch"]["mean"] is None
    assert 0 <= found["CLIP"]["box_top5"]["mean"] <= 100
    assert found["CLIP"]["seconds_per_epoch"]["mean"] > 0
    assert found["CLIP"]["peak_memory_bytes"]["mean"] > 1e8
    job = json.loads((tmp_path / "w/seed0/CLIP/job.json").read_text())
    assert job["arguments"]["options"]["data_root"] == str(coco)
    again = run_tool("ablate.py", *arguments, "--cfg-options", *options)
    assert again.returncode == 0
    assert "[1/" not in again.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--config", "nothing.py"], "config nothing.py does not exist"),
        (["--config", CONFIG, "--rows", "SLIC"], "unknown row SLIC; known: pretrained, CLIP"),
        (["--config", COCO, "--cfg-options", "data_root=none"], "data_root none does not exist"),
        ([], "the following arguments are required: --config"),
    ],
)
def test_bad_usage_is_one_line_and_exit_code_2(run_tool, arguments, message, tmp_path):
    done = run_tool("ablate.py", *arguments, "--work-dir", tmp_path / "w")
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if "error: " in line]
    assert message in line
    assert not (tmp_path / "w").exists()
