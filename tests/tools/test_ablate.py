"""tools/ablate.py as a user runs it."""

import json
import shutil

import pytest
from job_runs import jobs_in_process

from fineclip.experiments import results
from fineclip.experiments.ablation import Ablation

CONFIG = "configs/ablation/scenes.py"
COCO = "configs/ablation/coco.py"
RETRIEVAL = "configs/ablation/retrieval.py"
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


def test_the_retrieval_table_has_both_data_sets(run_tool, coco, scenes, tmp_path):
    """Its first row, the start weights as they are, with a released list of captions."""
    flickr = tmp_path / "flickr30k"
    flickr.mkdir()
    (flickr / "images").symlink_to(scenes / "val")
    entries = [{"image": f.name, "caption": ["a", "b"]} for f in sorted((scenes / "val").iterdir())]
    (flickr / "flickr30k_test.json").write_text(json.dumps(entries))
    options = ["start=None", "model_name=EVA02-Ti-16", "image_size=32", "crop_size=32", "amp=None"]
    options += [f"data_root={coco}", f"val_root={coco}", f"flickr_root={flickr}", "data=coco"]
    options += ["batch_size=4", "refinement.num_workers=0", "refinement.templates=plain"]
    with jobs_in_process():
        done = run_tool(
            *("ablate.py", "--config", RETRIEVAL, "--work-dir", tmp_path / "w"),
            *("--rows", "pretrained", "--cfg-options", *options),
        )
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    head, _, row = (tmp_path / "w/results.md").read_text().splitlines()
    assert head.startswith("| row | Flickr30k I2T R@1 | Flickr30k I2T R@5 | Flickr30k I2T R@10 |")
    assert "| COCO T2I R@10 | s / epoch" in head
    assert "-" not in row.split("|")[2:14]
    assert list(Ablation.from_config(RETRIEVAL).rows) == [
        *("pretrained", "SPARC", "PACL", "GLoRIA", "MGCA", "FILIP"),
        *("CLIP", "RegionCLIP", "CLIPSelf", "FineCLIP"),
    ]


def test_every_row_on_given_data_from_given_start_weights(run_tool, coco, tmp_path, monkeypatch):
    """The table of COCO, in the smallest way; a second call finds everything finished."""
    # The figure, tested elsewhere, is not drawn after every row.
    monkeypatch.setattr(results, "plot_ablation", lambda rows, out, metrics: None)
    options = ["start=None", "model_name=EVA02-Ti-16", "image_size=32", "crop_size=32"]
    options += ["batch_size=4", "epochs=1", "num_images=4", "amp=None", f"data_root={coco}"]
    # Of all rows: nothing is large, and a word of a class is its prompt.
    small = {
        "num_workers": 0,
        "chunk_sizes": None,
        "max_boxes": 2,
        "templates": "plain",
        "vocabulary": "scenes",
        "local_size": 16,
        "num_local": 2,
        "num_prototypes": 16,
        "prototype_hidden": 16,
    }
    options += [f"refinement.{name}={value}" for name, value in small.items()]
    arguments = ["--config", COCO, "--work-dir", tmp_path / "w"]
    with jobs_in_process():
        done = run_tool("ablate.py", *arguments, "--cfg-options", *options)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    assert "[2/17] seed 0: CLIP = L_GC: box_top1 " in done.stdout
    found = {
        row["name"]: row for row in json.loads((tmp_path / "w/results.json").read_text())["rows"]
    }
    assert list(found) == list(Ablation.from_config(COCO).rows)
    table = (tmp_path / "w/results.md").read_text()
    assert [line.split(" | ")[0].removeprefix("| ") for line in table.splitlines()[2:]] == [*found]
    assert found["pretrained"]["seconds_per_epoch"]["mean"] is None
    for name, row in found.items():
        assert 0 <= row["box_top5"]["mean"] <= 100
        if name != "pretrained":
            assert row["seconds_per_epoch"]["mean"] > 0
            assert row["peak_memory_bytes"]["mean"] > 1e8
    job = json.loads((tmp_path / "w/seed0/CLIP/job.json").read_text())
    assert job["arguments"]["options"]["data_root"] == str(coco)
    again = run_tool("ablate.py", *arguments, "--cfg-options", *options)
    assert again.returncode == 0
    assert "[1/" not in again.stdout
