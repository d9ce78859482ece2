"""The OV-COCO config on a folder of photographs in COCO's format: train, resume, test, export."""

import json
import shutil

import numpy as np
import pytest
import torch
from PIL import Image
from states import differences

from fineclip.annotations.predictions import read_predictions
from fineclip.text import load_vocabulary

pytest.importorskip("mmdet")

CONFIG = "configs/detection/ov-coco_vit-b-16.py"
SMALL = [
    *["model_name=ViT-Ti-16", "pretrained=None", "text_pretrained=None", "taps=[0,1,1,2]"],
    *["width=96", "embed_dim=64", "channels=16", "num_rois=8", "num_proposals=20"],
    *["image_size=64", "batch_size=2", "num_workers=0", "warmup_iters=1", "vocabulary=ov_coco"],
]
IDS = (1, 2, 5, 17, 10)  # person, bicycle: base; airplane, cat: novel; traffic light: neither


@pytest.fixture(scope="module")
def coco(run_tool, tmp_path_factory):
    root = tmp_path_factory.mktemp("coco")
    rng = np.random.default_rng(0)
    vocabulary = load_vocabulary("coco")
    pairs = zip(vocabulary.ids, vocabulary.names, strict=True)
    categories = [{"id": number, "name": name} for number, name in pairs]
    for split in ("train2017", "val2017"):
        (root / split).mkdir()
        images, annotations = [], []
        for number in range(1, 5):
            name, (width, height) = f"{number:012d}.jpg", ((96, 64), (60, 80))[number % 2]
            pixels = rng.integers(0, 256, (height, width, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / split / name)
            images.append({"id": number, "file_name": name, "width": width, "height": height})
            for box in ([5, 6, 40, 30], [20, 10, 30, 45]):
                category = IDS[len(annotations) % len(IDS)]
                annotations.append(
                    {
                        "id": len(annotations) + 1,
                        "image_id": number,
                        "category_id": category,
                        "bbox": box,
                        "area": box[2] * box[3],
                        "iscrowd": 0,
                    }
                )
        (root / "annotations").mkdir(exist_ok=True)
        (root / "annotations" / f"instances_{split}.json").write_text(
            json.dumps(
                {
                    "images": images,
                    "annotations": annotations,
                    "categories": categories,
                }
            )
        )
    folder = root / "annotations"
    done = run_tool("prepare.py", "ov-coco", folder, folder)
    assert done.returncode == 0, done.stderr
    return root


@pytest.fixture(scope="module")
def trained(run_tool, coco, tmp_path_factory):
    """Two epochs: one, then another after --resume."""
    folder = tmp_path_factory.mktemp("work")
    options = ["--cfg-options", f"data_root={coco}", *SMALL]
    done = run_tool("train.py", CONFIG, "--work-dir", folder, *options, "max_epochs=1")
    assert done.returncode == 0, done.stderr
    assert not (folder / "epoch_2.pth").exists()
    done = run_tool("train.py", CONFIG, "--work-dir", folder, "--resume", *options, "max_epochs=2")
    assert done.returncode == 0, done.stderr
    assert "Epoch(train) [1]" not in done.stdout + done.stderr
    return folder, options


def test_resumed_training_goes_on_where_it_stopped(trained):
    folder, _ = trained
    first, second = (
        torch.load(folder / f"epoch_{epoch}.pth", weights_only=True) for epoch in (1, 2)
    )
    assert (first["meta"]["iter"], second["meta"]["iter"]) == (2, 4)
    steps = {int(state["step"]) for state in second["optimizer"]["state"].values()}
    assert steps == {4}
    for key, value in first["state_dict"].items():
        if key.startswith("backbone.visual."):
            assert torch.equal(value, second["state_dict"][key]), key


def test_resumes_within_an_epoch_to_the_bit(run_tool, coco, tmp_path):
    """Order, flips, scales and crops, sampled anchors and boxes, moments, schedule."""
    options = ["--cfg-options", f"data_root={coco}", *SMALL, "max_epochs=2", "checkpoint_steps=1"]
    options += ["warmup_iters=3", "val_cfg=None", "val_dataloader=None", "val_evaluator=None"]
    options += ["default_hooks.checkpoint.max_keep_ckpts=-1"]
    done = run_tool("train.py", CONFIG, "--work-dir", tmp_path / "whole", *options)
    assert done.returncode == 0, done.stderr
    whole = torch.load(tmp_path / "whole/iter_4.pth", weights_only=True)
    (tmp_path / "rest").mkdir()
    shutil.copy(tmp_path / "whole/iter_1.pth", tmp_path / "rest")
    (tmp_path / "rest/last_checkpoint").write_text("/gone/iter_1.pth")
    done = run_tool("train.py", CONFIG, "--work-dir", tmp_path / "rest", "--resume", *options)
    assert done.returncode == 0, done.stderr
    assert "settings changed since: none" in done.stdout + done.stderr
    rest = torch.load(tmp_path / "rest/iter_4.pth", weights_only=True)
    for part in ("state_dict", "optimizer", "param_schedulers", "message_hub"):
        assert differences(rest[part], whole[part]) == []


def test_test_exports_metrics_and_predictions(run_tool, trained, coco, tmp_path):
    folder, options = trained
    out, kept = tmp_path / "results.json", tmp_path / "boxes.json"
    arguments = ["--out", out, "--save-predictions", kept, *options]
    done = run_tool("test.py", CONFIG, folder / "epoch_2.pth", *arguments)
    assert done.returncode == 0, done.stderr
    metrics = json.loads(out.read_text())
    assert {"coco/novel_ap50", "coco/base_ap50", "coco/all_ap50"} <= metrics.keys()
    predictions = read_predictions(kept)
    assert sorted(predictions.images) == [f"{number:012d}.jpg" for number in range(1, 5)]
    assert (coco / "val2017").samefile(predictions.image_root)
    found = [region for regions in predictions.images.values() for region in regions]
    # Of eight annotated boxes those of the traffic light are of no class that is looked for.
    assert [predictions.categories[r.true] for r in found if r.true is not None] == (
        ["person", "bicycle", "airplane", "cat", "person", "bicycle", "airplane"]
    )


def test_bad_annotations_stop_training_with_a_reason(run_tool, coco, tmp_path):
    data = json.loads((coco / "annotations" / "instances_train2017_base.json").read_text())
    data["categories"].append({"id": 99, "name": "zebra crossing"})
    data["annotations"].append({**data["annotations"][0], "category_id": 99})
    broken = coco / "annotations" / "broken.json"
    broken.write_text(json.dumps(data))
    done = run_tool(
        *["train.py", CONFIG, "--work-dir", tmp_path / "work", "--cfg-options"],
        *[f"data_root={coco}", *SMALL, "train_annotations=annotations/broken.json"],
    )
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and str(broken) in last
    assert "lacks 1 annotated categories ('zebra crossing')" in last


@pytest.mark.parametrize("workers", [0, 2])
def test_images_that_cannot_be_read_are_named(run_tool, coco, tmp_path, workers):
    root = tmp_path / "coco"
    shutil.copytree(coco, root)
    for file in (root / "train2017").iterdir():
        file.write_bytes(b"no image")
    done = run_tool(
        *["train.py", CONFIG, "--work-dir", tmp_path / "work", "--cfg-options"],
        *[f"data_root={root}", *SMALL, "max_epochs=1", f"num_workers={workers}"],
    )
    assert done.returncode == 2
    assert "Traceback" not in done.stderr and not list((tmp_path / "work").glob("*.pth"))
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"error: {root / 'train2017'}") and "cannot be decoded" in last
