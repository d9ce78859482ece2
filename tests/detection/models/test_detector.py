"""The whole detector: recorded losses, gradients, proposals, detections and masks."""

import copy

import numpy as np
import pytest
import torch
from fvit_reference import (
    behind,
    detector_config,
    release_state_dict,
    settings,
    tensors,
    unpack_masks,
)
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmdet.structures.mask import BitmapMasks
from mmengine.config import Config
from mmengine.runner.checkpoint import load_state_dict
from mmengine.structures import InstanceData
from torch.nn.modules.batchnorm import _BatchNorm

import detection
from fineclip.checkpoints.conversion import convert_source
from fineclip.checkpoints.source import source_from

DETECTORS = ["detector_box", "detector_mask"]


def build(name, **changes):
    return MODELS.build(Config({"model": {**detector_config(name), **changes}}).model)


@pytest.fixture(scope="module", params=DETECTORS)
def name(request):
    return request.param


@pytest.fixture
def detector(name):
    model = build(name)
    model.load_state_dict(release_state_dict(name))  # strict, as released
    return model


def data_samples(name, with_boxes=True):
    stored = tensors(name)
    samples = []
    for index, meta in enumerate(settings(name)["image_metas"]):
        sample = DetDataSample(
            metainfo={
                **{key: tuple(meta[key][:2]) for key in ("img_shape", "ori_shape", "pad_shape")},
                "scale_factor": tuple(meta["scale_factor"][:2]),
            }
        )
        boxes = stored[f"input.gt_boxes{index}"]
        labels = stored[f"input.gt_labels{index}"]
        masks = stored.get(f"input.gt_masks{index}", torch.zeros(len(boxes), 128, 128)).numpy()
        if not with_boxes:
            boxes, labels, masks = boxes[:0], labels[:0], masks[:0]
        sample.gt_instances = InstanceData(
            bboxes=boxes, labels=labels, masks=BitmapMasks(masks.astype(np.uint8), 128, 128)
        )
        sample.ignored_instances = InstanceData(bboxes=boxes[:0], labels=labels[:0])
        samples.append(sample)
    return samples


def flat(losses):
    found = {}
    for key, value in losses.items():
        parts = {f"{key}.{i}": v for i, v in enumerate(value)} if isinstance(value, list) else {}
        found |= parts or {key: value}
    return found


def test_recorded_losses_gradients_and_proposals(name, detector):
    stored, recorded = tensors(name), settings(name)
    detector.train()
    with torch.no_grad():
        features = detector.extract_feat(stored["input.images"])
    for index in (3, 4):
        expected = stored[f"output.train.fpn{index}"]
        torch.testing.assert_close(features[index], expected, atol=3e-4, rtol=0)
    detector.load_state_dict(release_state_dict(name))  # the statistics have moved
    proposals = []
    hook = detector.rpn_head.predict_by_feat

    def kept(*args, **kwargs):
        found = hook(*args, **kwargs)
        proposals.extend(copy.deepcopy(found))
        return found

    detector.rpn_head.predict_by_feat = kept
    losses = detector.loss(stored["input.images"], data_samples(name))
    for index, found in enumerate(proposals):
        expected = stored[f"output.train.proposals{index}"]
        torch.testing.assert_close(found.bboxes, expected[:, :4], atol=0.02, rtol=0)
    assert len(proposals) == 2
    values = flat(losses)
    expected = {k: v for k, v in recorded["losses"].items() if k.startswith("loss")}
    assert {key for key in values if key.startswith("loss")} == expected.keys()
    for key, value in expected.items():
        assert values[key].item() == pytest.approx(value, rel=1e-4, abs=1e-9), key
    total, _ = detector.parse_losses(losses)
    assert total.item() == pytest.approx(recorded["losses"]["total"], rel=1e-4)
    total.backward()
    trained = {key: p for key, p in detector.named_parameters() if p.requires_grad}
    assert trained.keys() == recorded["gradient_l2"].keys()  # no parameter without gradient
    for key, value in recorded["gradient_l2"].items():
        # a bias before batch norm has only noise for a gradient
        assert trained[key].grad.norm().item() == pytest.approx(value, rel=1e-3, abs=1e-5), key


@torch.no_grad()
def test_recorded_detections(name, detector):
    stored = tensors(name)
    detector.eval()
    samples = data_samples(name)
    levels, dense = detector.backbone.forward_with_dense(stored["input.images"])
    torch.testing.assert_close(dense, stored["output.test.dense"], atol=2e-5, rtol=0)
    proposals = detector.rpn_head.predict(detector.neck(levels), samples, rescale=False)
    for index, found in enumerate(proposals):
        expected = stored[f"output.test.proposals{index}"]
        torch.testing.assert_close(found.bboxes, expected[:, :4], atol=0.02, rtol=0)
        torch.testing.assert_close(found.scores, expected[:, 4], atol=1e-4, rtol=0)
    results = detector.predict(stored["input.images"], samples)
    for index, sample in enumerate(results):
        found = sample.pred_instances
        expected = stored[f"output.test.detections{index}"]
        assert torch.equal(found.labels, stored[f"output.test.labels{index}"])
        torch.testing.assert_close(found.bboxes, expected[:, :4], atol=0.02, rtol=0)
        torch.testing.assert_close(found.scores, expected[:, 4], atol=1e-4, rtol=0)
        if name == "detector_mask":
            masks = unpack_masks(
                stored[f"output.test.packed_masks{index}"], tuple(found.masks.shape)
            )
            by_class = found.labels.sort(stable=True).indices  # as the release lists them
            assert torch.equal(found.masks[by_class].bool(), masks)


@torch.no_grad()
def test_recorded_fusion_per_proposal(name, detector):
    """What the RoI head makes of the recorded proposals, row by row."""
    stored = tensors(name)
    detector.eval()
    levels, dense = detector.backbone.forward_with_dense(stored["input.images"])
    seen = {}
    head = detector.roi_head.bbox_head
    fuse = head.class_probabilities

    def kept(logits, clip_features=None):
        seen["clip"] = clip_features
        seen["scores"] = fuse(logits, clip_features)
        return seen["scores"]

    head.class_probabilities = kept
    proposals = [
        InstanceData(bboxes=stored[f"output.test.proposals{index}"][:, :4]) for index in range(2)
    ]
    detector.roi_head.predict(
        detector.neck(levels), proposals, data_samples(name), clip_map=dense, patch_size=(16, 16)
    )
    torch.testing.assert_close(seen["clip"], stored["mid.test.vlm_roi_features"], atol=2e-5, rtol=0)
    torch.testing.assert_close(
        seen["scores"], stored["output.test.fused_scores"], atol=2e-5, rtol=0
    )


def test_released_weights_load_converted_or_not(name, detector):
    converted = convert_source(source_from(release_state_dict(name), name), to="fvit").tensors
    state = detector.state_dict()
    assert state.keys() == converted.keys()
    assert all(torch.equal(state[key], converted[key]) for key in state)
    fresh = build(name)
    load_state_dict(fresh, release_state_dict(name), strict=True)  # mmengine's, which runs use
    again = fresh.state_dict()
    assert all(torch.equal(again[key], converted[key]) for key in converted)


def test_nothing_unused_is_saved(detector):
    state = detector.state_dict()
    assert not [key for key in state if "fc_cls" in key or "rope" in key]
    assert not [key for key in state if key.startswith("backbone.text")]


def test_images_without_boxes(name, detector):
    detector.train()
    losses = flat(detector.loss(tensors(name)["input.images"], data_samples(name, False)))
    total, _ = detector.parse_losses(losses)
    total.backward()
    assert total.isfinite()
    assert all(
        p.grad is None or p.grad.isfinite().all() for p in detector.parameters() if p.requires_grad
    )


@torch.no_grad()
def test_another_vocabulary_for_the_whole_detector(name, detector):
    detector.eval()
    stored = tensors(name)
    embeddings = behind(release_state_dict(name), "roi_head.bbox_head.")["all_embeddings"].T
    detector.set_vocabulary(["zebra", "lamp"], torch.stack([embeddings[2], embeddings[5]]))
    assert detector.dataset_meta["classes"] == ("zebra", "lamp")
    results = detector.predict(stored["input.images"], data_samples(name))
    labels = torch.cat([sample.pred_instances.labels for sample in results])
    assert len(labels)
    assert labels.max() <= 1
    detector.set_vocabulary([str(i) for i in range(40)], torch.randn(40, embeddings.shape[1]))
    results = detector.predict(stored["input.images"], data_samples(name))
    assert torch.cat([sample.pred_instances.labels for sample in results]).max() > 6


@torch.no_grad()
def test_no_proposals(name, detector):
    detector.eval()
    samples = data_samples(name)
    for sample in samples:
        sample.proposals = InstanceData(bboxes=torch.zeros(0, 4), scores=torch.zeros(0))
    results = detector.predict(tensors(name)["input.images"], samples)
    assert [len(sample.pred_instances.bboxes) for sample in results] == [0, 0]


@torch.no_grad()
def test_the_tower_runs_once_per_image(name, detector):
    detector.eval()
    calls = []
    block = detector.backbone.trunk.blocks[0]
    hook = block.register_forward_hook(lambda *_: calls.append(1))
    detector.predict(tensors(name)["input.images"], data_samples(name))
    hook.remove()
    assert len(calls) == 1


@torch.no_grad()
def test_tensor_mode_runs(name, detector):
    detector.eval()
    scores, *_ = detector.forward(tensors(name)["input.images"], data_samples(name), mode="tensor")[
        0
    ]
    assert scores.shape[1] == 8


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        ("neck", {"in_channels": [32] * 4}, "neck.in_channels is"),
        ("rpn_head", {"anchor_generator": {"strides": [3.5, 7, 14, 28, 56]}}, "strides is"),
        (
            "roi_head",
            {"bbox_roi_extractor": {"featmap_strides": [8, 16, 32, 64]}},
            "bbox_roi_extractor.featmap_strides is",
        ),
        ("roi_head", {"bbox_head": {"fc_out_channels": 48}}, "fc_out_channels is 48"),
    ],
)
def test_parts_that_contradict_each_other(part, change, message):
    config = Config({"model": detector_config("detector_box")})
    config.merge_from_dict({"model": {part: change}})
    with pytest.raises(ValueError, match=message):
        MODELS.build(config.model)


def test_registered_under_mmdet():
    assert detection.models.FViT is MODELS.get("FViT")


def test_mixed_precision_trains_and_detects(name, detector):
    """mmcv's operators know no bfloat16, and boxes must not be rounded to it."""
    stored = tensors(name)
    images = stored["input.images"]
    detector.train()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = flat(detector.loss(images, data_samples(name)))
        assert all(value.dtype == torch.float32 for value in losses.values())
    sum(value for key, value in losses.items() if "loss" in key).backward()
    grads = [p.grad for p in detector.parameters() if p.grad is not None]
    assert all(grad.isfinite().all() for grad in grads)
    detector.eval()
    for fused in (False, True):
        if fused:
            detector.fuse_for_inference()
        with torch.no_grad(), torch.autocast("cpu", dtype=torch.bfloat16):
            results = detector.predict(images, data_samples(name))
        for sample in results:
            found = sample.pred_instances
            assert len(found) and found.scores.min() >= 0 and found.scores.max() <= 1
            assert found.scores.dtype == found.bboxes.dtype == torch.float32
            assert not torch.equal(found.bboxes, found.bboxes.bfloat16().float())


@torch.no_grad()
def test_fused_for_inference_detects_the_same(name, detector):
    images = tensors(name)["input.images"]
    detector.eval()
    expected = detector.predict(images, data_samples(name))
    detector.fuse_for_inference()
    found = detector.predict(images, data_samples(name))
    assert not any(isinstance(m, torch.nn.BatchNorm2d) for m in detector.neck.modules())
    assert detector.backbone.interpolate1[-1].out_channels == detector.neck.out_channels
    for one, other in zip(expected, found, strict=True):
        assert torch.equal(one.pred_instances.labels, other.pred_instances.labels)
        torch.testing.assert_close(
            one.pred_instances.bboxes, other.pred_instances.bboxes, atol=0.02, rtol=0
        )
        torch.testing.assert_close(
            one.pred_instances.scores, other.pred_instances.scores, atol=1e-4, rtol=0
        )


def test_parts_that_train_alone(name):
    with pytest.raises(ValueError, match="no parameter begins with 'roi_head"):
        build(name, trained_parts=["roi_head.none"])
    model = build(name, trained_parts=["roi_head.bbox_head.fc_reg"]).train()
    trained = {key for key, value in model.named_parameters() if value.requires_grad}
    assert trained == {"roi_head.bbox_head.fc_reg.weight", "roi_head.bbox_head.fc_reg.bias"}
    assert not any(part.training for part in model.modules() if isinstance(part, _BatchNorm))
