"""Images padded to a square as released, or to their own size; batches whose images differ."""

import pytest
import torch
import torch.nn.functional as F
from fvit_reference import detector_config, release_state_dict
from mmdet.registry import MODELS
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.structures import InstanceData

import detection  # noqa: F401  (registers its classes)

SIZES = [(90, 128), (128, 90), (60, 120), (96, 128)]  # the first and the last are padded alike


def build(side, padding):
    config = detector_config("detector_box")
    config["data_preprocessor"] |= {"mean": [120.0] * 3, "std": [60.0] * 3}
    config["data_preprocessor"]["pad_size_divisor"] = side
    model = MODELS.build(Config({"model": {**config, "padding": padding}}).model)
    model.load_state_dict(release_state_dict("detector_box"))
    return model.eval()


def batch(sizes, *, annotated=False):
    generator = torch.Generator().manual_seed(0)
    images, samples = [], []
    for index, size in enumerate(sizes):
        coarse = torch.rand(1, 3, 9, 9, generator=generator) * 255
        images.append(F.interpolate(coarse, size, mode="bicubic")[0].clamp(0, 255).byte())
        meta = {"img_shape": size, "ori_shape": size, "scale_factor": (1.0, 1.0), "img_id": index}
        samples.append(DetDataSample(metainfo=meta))
        if annotated:
            boxes = torch.tensor([[8.0, 8.0, 50.0, 44.0]])
            samples[-1].gt_instances = InstanceData(bboxes=boxes, labels=torch.tensor([index % 2]))
    return {"inputs": images, "data_samples": samples}


def detections(model, data):
    with torch.inference_mode():
        return [sample.pred_instances for sample in model.test_step(data)]


@pytest.mark.parametrize("padding", ["square", "own"])
def test_a_batch_is_answered_image_by_image(padding):
    model = build(128, padding)
    shapes = []
    run = model.backbone.forward_with_dense
    model.backbone.forward_with_dense = lambda x: shapes.append(tuple(x.shape)) or run(x)
    together = detections(model, batch(SIZES))
    own = [(2, 3, 96, 128), (1, 3, 128, 96), (1, 3, 64, 128)]
    assert shapes == (own if padding == "own" else [(4, 3, 128, 128)])
    whole = batch(SIZES)
    for index, found in enumerate(together):
        alone = detections(model, {key: values[index : index + 1] for key, values in whole.items()})
        assert len(found) > 0
        assert torch.equal(found.labels, alone[0].labels)
        torch.testing.assert_close(found.scores, alone[0].scores, atol=1e-4, rtol=0)
        torch.testing.assert_close(found.bboxes, alone[0].bboxes, atol=1e-2, rtol=0)


def test_own_padding_changes_no_more_than_another_square():
    """Padding is seen by the tower. How much of it there is has always changed scores a little."""
    scores, boxes = {}, {}
    for name, side, padding in (
        ("own", 128, "own"),
        ("128", 128, "square"),
        ("192", 192, "square"),
    ):
        model = build(side, padding)
        model.roi_head.test_cfg = None  # what is made of each proposal
        data = batch(SIZES[:1])
        corners = torch.rand(40, 2, generator=torch.Generator().manual_seed(1)) * 60
        data["data_samples"][0].proposals = InstanceData(
            bboxes=torch.cat([corners, corners + 30], dim=1)
        )
        (found,) = detections(model, data)
        scores[name], boxes[name] = found.scores, found.bboxes
    for values in (scores, boxes):
        changed = (values["own"] - values["128"]).abs().mean()
        assert 0 < changed < 1.2 * (values["192"] - values["128"]).abs().mean()


def test_training_pads_to_the_largest_of_the_batch():
    model = build(128, "own").train()
    data = model.data_preprocessor(batch([(60, 70), (40, 90)], annotated=True), True)
    assert data["inputs"].shape == (2, 3, 64, 96)
    assert [sample.pad_shape for sample in data["data_samples"]] == [(64, 96), (64, 96)]
    total, _ = model.parse_losses(model(**data, mode="loss"))
    total.backward()
    assert total.isfinite()


def test_unknown_padding():
    with pytest.raises(ValueError, match="padding is 'none'; known: square, own"):
        build(128, "none")
