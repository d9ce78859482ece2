"""The data sets of detection configs: what they name exists and fits together."""

from pathlib import Path

import pytest
from PIL import Image

pytest.importorskip("mmdet")

from mmdet.registry import DATASETS, METRICS
from mmengine.registry import DefaultScope

import detection.datasets
import detection.evaluation  # noqa: F401  (registers the metrics)
from fineclip.engine import load_config
from fineclip.text import load_vocabulary

FOLDER = Path(__file__).parents[2] / "configs" / "detection"
CLASSES = {"coco-transfer": 80, "objects365-transfer": 365, "ov-coco": 65, "ov-lvis": 1203}
CLASSES |= {"scenes": 36, "voc2007-transfer": 20}
IMAGE_SIZE = {"ov-coco": 640, "ov-lvis": 1024, "scenes": 128}


# Not that of one's own data, whose classes stand beside them.
@pytest.mark.parametrize("name", sorted({f.stem for f in FOLDER.glob("*.py")} - {"own"}))
def test_classes_sizes_and_paths(name):
    config = load_config(FOLDER / f"{name}.py", {"data_root": "elsewhere"})
    kind = name.split("_")[0]
    loaders = [v for k, v in config.items() if k.endswith("_dataloader") and v is not None]
    assert len(loaders) == (1 if "transfer" in kind else 3)
    size = 896 if "-l-14" in name else IMAGE_SIZE[kind]
    with DefaultScope.overwrite_default_scope("mmdet"):
        for loader in loaders:
            dataset = DATASETS.build({**loader.dataset, "lazy_init": True})
            assert len(dataset.metainfo["classes"]) == CLASSES[kind]
            folder = "VOC2007/ImageSets" if kind == "voc2007-transfer" else "annotations"
            assert dataset.ann_file.startswith(f"elsewhere/{folder}/")
            scales = {step.scale for step in loader.dataset.pipeline if "scale" in step}
            assert scales == {(size, size)}
    if "ann_file" in config.test_evaluator:
        assert config.test_evaluator.ann_file == f"elsewhere/{config.val_annotations}"
    assert METRICS.get(config.test_evaluator.type) is not None
    assert config.test_dataloader.dataset.test_mode


def test_boxes_of_voc_are_found_again(tmp_path):
    """From files as published to the metric: every box, and "difficult" ones do not count."""
    root = tmp_path / "VOC2007"
    for folder in ("JPEGImages", "Annotations", "ImageSets/Main"):
        (root / folder).mkdir(parents=True)
    Image.new("RGB", (60, 40)).save(root / "JPEGImages/000001.jpg")
    (root / "ImageSets/Main/test.txt").write_text("000001\n")
    box = "<bndbox><xmin>11</xmin><ymin>5</ymin><xmax>40</xmax><ymax>30</ymax></bndbox>"
    objects = "".join(
        f"<object><name>{name}</name><difficult>{hard}</difficult>{box}</object>"
        for name, hard in (("tvmonitor", 0), ("diningtable", 1))
    )
    size = "<size><width>60</width><height>40</height></size>"
    (root / "Annotations/000001.xml").write_text(f"<annotation>{size}{objects}</annotation>")
    config = load_config(
        FOLDER / "voc2007-transfer_eva02-l-14-336.py", {"data_root": str(tmp_path)}
    )
    with DefaultScope.overwrite_default_scope("mmdet"):
        dataset = DATASETS.build(config.test_dataloader.dataset)
        metric = METRICS.build(config.test_evaluator)
    # Labels are places in the vocabulary, which the classifier answers in.
    assert dataset.metainfo["classes"] == load_vocabulary("voc2007").names
    metric.dataset_meta = dataset.metainfo
    sample = dataset[0]["data_samples"]
    assert sample.gt_instances.bboxes.tensor.tolist() == [[10, 4, 39, 29]]  # of the original image
    found = {"bboxes": sample.gt_instances.bboxes.tensor, "labels": sample.gt_instances.labels}
    sample = {
        "gt_instances": found,
        "ignored_instances": {
            "bboxes": sample.ignored_instances.bboxes.tensor,
            "labels": sample.ignored_instances.labels,
        },
        "pred_instances": {**found, "scores": found["labels"].float()},
    }
    metric.process({}, [sample])
    scores = metric.evaluate(size=1)
    assert scores == {f"pascal_voc/{name}": 1.0 for name in ("mAP", "AP50", "AP75")}
