"""The data set files of detection configs: what they name exists and fits together."""

from pathlib import Path

import pytest

pytest.importorskip("mmdet")

from mmdet.registry import DATASETS, METRICS
from mmengine.registry import DefaultScope

import detection.datasets
import detection.evaluation  # noqa: F401  (registers the metrics)
from fineclip.engine import load_config

FOLDER = Path(__file__).parents[2] / "configs" / "detection" / "_base_" / "datasets"
CLASSES = {
    "coco_transfer": 80,
    "objects365_transfer": 365,
    "ov_coco": 65,
    "ov_coco_896": 65,
    "ov_lvis": 1203,
    "ov_lvis_896": 1203,
    "scenes": 36,
}
IMAGE_SIZE = {"ov_coco": 640, "ov_lvis": 1024, "scenes": 128}


def test_every_file_is_listed():
    assert sorted(file.stem for file in FOLDER.glob("*.py")) == sorted(CLASSES)


@pytest.mark.parametrize("name", CLASSES)
def test_classes_sizes_and_paths(name):
    config = load_config(FOLDER / f"{name}.py", {"data_root": "elsewhere"})
    loaders = [v for k, v in config.items() if k.endswith("_dataloader")]
    assert len(loaders) == (1 if "transfer" in name else 3)
    size = IMAGE_SIZE.get(name, 896)
    with DefaultScope.overwrite_default_scope("mmdet"):
        for loader in loaders:
            dataset = DATASETS.build({**loader.dataset, "lazy_init": True})
            assert len(dataset.metainfo["classes"]) == CLASSES[name]
            assert dataset.ann_file.startswith("elsewhere/annotations/")
            scales = {step.scale for step in loader.dataset.pipeline if "scale" in step}
            assert scales == {(size, size)}
    assert config.test_evaluator.ann_file == f"elsewhere/{config.val_annotations}"
    assert METRICS.get(config.test_evaluator.type) is not None
    assert config.test_dataloader.dataset.test_mode
