"""The data sets of detection configs: what they name exists and fits together."""

from pathlib import Path

import pytest

pytest.importorskip("mmdet")

from mmdet.registry import DATASETS, METRICS
from mmengine.registry import DefaultScope

import detection.datasets
import detection.evaluation  # noqa: F401  (registers the metrics)
from fineclip.engine import load_config

FOLDER = Path(__file__).parents[2] / "configs" / "detection"
CLASSES = {"coco-transfer": 80, "objects365-transfer": 365, "ov-coco": 65, "ov-lvis": 1203}
CLASSES |= {"scenes": 36}
IMAGE_SIZE = {"ov-coco": 640, "ov-lvis": 1024, "scenes": 128}


@pytest.mark.parametrize("name", sorted(file.stem for file in FOLDER.glob("*.py")))
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
            assert dataset.ann_file.startswith("elsewhere/annotations/")
            scales = {step.scale for step in loader.dataset.pipeline if "scale" in step}
            assert scales == {(size, size)}
    assert config.test_evaluator.ann_file == f"elsewhere/{config.val_annotations}"
    assert METRICS.get(config.test_evaluator.type) is not None
    assert config.test_dataloader.dataset.test_mode
