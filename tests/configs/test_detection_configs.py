"""The detectors of configs/detection are complete and their parts fit together."""

from pathlib import Path

import pytest

pytest.importorskip("mmdet")

import torch
from mmdet.registry import MODELS
from mmengine.registry import PARAM_SCHEDULERS, DefaultScope

import detection  # noqa: F401  (registers its classes)
from fineclip.engine import load_config

FOLDER = Path(__file__).parents[2] / "configs" / "detection"
TOWERS = ("eva02-b-16", "eva02-l-14-336", "vit-b-16", "vit-l-14-336")
NAMES = [f"{d}_{t}" for d in ("ov-coco", "ov-lvis") for t in TOWERS]
TRANSFER = {
    "coco-transfer_eva02-l-14-336": (80, 0.2),
    "objects365-transfer_eva02-l-14-336": (365, 0.3),
    "voc2007-transfer_eva02-l-14-336": (20, 0.3),
}


def build(config):
    """The detector without a single weight in memory."""
    config.model.backbone.update(pretrained=None, clip_options={"device": "meta"})
    config.model.roi_head.bbox_head.class_embeddings = None
    with DefaultScope.overwrite_default_scope("mmdet"), torch.device("meta"):
        return MODELS.build(config.model)


def test_every_config_is_listed():
    others = [*TRANSFER, "own", "scenes_fvit"]
    assert sorted(f.stem for f in FOLDER.glob("*.py")) == sorted([*NAMES, *others])


@pytest.mark.parametrize("name", NAMES)
def test_parts_fit_together(name):
    config = load_config(FOLDER / f"{name}.py")
    head = config.model.roi_head.bbox_head
    assert head.class_embeddings.model == config.model.backbone.model
    assert config.model.backbone.pretrained == head.class_embeddings.pretrained is not None
    refined = load_config(FOLDER / f"{name}.py", {"pretrained": "refined.pt"}).model
    assert refined.backbone.pretrained == "refined.pt"
    assert refined.roi_head.bbox_head.class_embeddings == head.class_embeddings
    detector = build(config)
    assert detector.roi_head.bbox_head.num_classes == (65 if "coco" in name else 1203)
    assert detector.with_mask == ("lvis" in name)
    large = "-l-" in name
    assert detector.backbone.strides == ((3.5, 7, 14, 28) if large else (4, 8, 16, 32))
    assert detector.backbone.out_indices == ((6, 10, 14, 23) if large else (3, 5, 7, 11))


@pytest.fixture(scope="module")
def lvis_names():
    """Of everything in the detector that is transferred."""
    return set(build(load_config(FOLDER / "ov-lvis_eva02-l-14-336.py")).state_dict())


@pytest.mark.parametrize("name", TRANSFER)
def test_transfer_takes_the_lvis_detector_to_another_vocabulary(name, lvis_names):
    classes, share = TRANSFER[name]
    detector = build(load_config(FOLDER / f"{name}.py"))
    head = detector.roi_head.bbox_head
    assert (head.num_classes, head.alpha, head.beta) == (classes, share, share)
    assert (head.temperature, head.vlm_temperature, head.keep_vocabulary) == (50, 120, True)
    wanted = set(detector.state_dict())
    left = lvis_names - wanted
    assert wanted <= lvis_names
    assert {key.split(".")[1] for key in left} == {"mask_head", "bbox_head"}
    assert "roi_head.bbox_head.detect_temperature" in left


@pytest.mark.parametrize(
    ("name", "steps", "first"),
    [
        ("ov-coco_vit-b-16", 0, 1.0),
        ("ov-lvis_vit-b-16", 1, 1.0),
        ("scenes_fvit", 1, 1.0),
        ("scenes_fvit", 3, 0.001),
    ],
)
def test_warm_up_ends_at_the_full_rate(name, steps, first):
    config = load_config(FOLDER / f"{name}.py", {"warmup_iters": steps, "max_epochs": 48})
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.ones(1))], lr=1.0)
    rates = []
    warmups = [s for s in config.param_scheduler if s.type == "LinearLR"]
    schedulers = [PARAM_SCHEDULERS.build({**s, "optimizer": optimizer}) for s in warmups]
    for _ in range(4):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        for scheduler in schedulers:
            scheduler.step()
    assert rates[0] == pytest.approx(first)
    assert rates[max(steps - 1, 0) :] == pytest.approx([1.0] * (4 - max(steps - 1, 0)))


def test_sizes_are_variables():
    config = load_config(
        FOLDER / "ov-lvis_vit-b-16.py", {"channels": 32, "num_rois": 8, "num_proposals": 9}
    )
    detector = build(config)
    assert detector.neck.out_channels == 32
    assert detector.roi_head.mask_head.convs[0].in_channels == 32
    assert detector.roi_head.bbox_head.shared_convs[0].in_channels == 32
    assert detector.train_cfg.rcnn.sampler.num == 8
    assert detector.test_cfg.rpn.max_per_img == detector.train_cfg.rpn_proposal.max_per_img == 9
