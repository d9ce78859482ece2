"""DenseCLIP, objectives and gradients against tensors recorded from the reference release.

Tolerances are the ones measured for the recording itself: outputs 2e-5, losses 2e-5, gradients
1e-4 of the tensor's largest element. They are tight enough to see a wrong LayerNorm epsilon or
the wrong GELU.
"""

import pytest
import torch
from clip_reference import CASES, load_reference

from fineclip.embeddings import Embeddings
from fineclip.objectives import GlobalContrastive, RegionContrastive, SelfDistillation
from fineclip.pretraining import FineCLIPPretrainer

OUTPUT = {"atol": 2e-5, "rtol": 0}
LOSS = {"atol": 2e-5, "rtol": 0}


@pytest.fixture(params=CASES)
def reference(request):
    return load_reference(request.param)


def dense_output(reference, size):
    """Recorded dense map; non-square EVA inputs have none, only the extension."""
    return reference.output(size if reference.has_output(size) else f"ext_{size}")


@torch.no_grad()
def test_image_embeddings(reference):
    model = reference.model
    raw = model.encode_image(reference.input("images"), normalize=False)
    torch.testing.assert_close(raw, reference.output("image_raw"), **OUTPUT)
    unit = model.encode_image(reference.input("images"))
    torch.testing.assert_close(unit, reference.output("image_norm"), **OUTPUT)


@torch.no_grad()
@pytest.mark.parametrize("size", ["large", "nonsq", "alias"])
def test_other_input_sizes(reference, size):
    model, images = reference.model, reference.input(f"image_{size}")
    image, dense = model.encode_image_and_dense(images, normalize=False)
    expected = dense_output(reference, f"image_raw_{size}")
    torch.testing.assert_close(image, expected, **OUTPUT)
    expected = dense_output(reference, f"dense_{size}")
    torch.testing.assert_close(torch.nn.functional.normalize(dense), expected, **OUTPUT)
    # The recording pools the boxes of the first images of the batch, all slots.
    boxes = [b[:, :4] for b in reference.input("boxes_all")[: len(images)]]
    regions = model.encode_regions(images, boxes, normalize=False)
    torch.testing.assert_close(regions, dense_output(reference, f"roi_v2_{size}"), **OUTPUT)


@torch.no_grad()
def test_text_embeddings(reference):
    model = reference.model
    raw = model.encode_text(reference.input("texts"), normalize=False)
    torch.testing.assert_close(raw, reference.output("text_raw"), **OUTPUT)
    region = model.encode_text(reference.input("region_texts").flatten(0, 1), normalize=False)
    torch.testing.assert_close(region, reference.output("region_text_raw"), **OUTPUT)


@torch.no_grad()
def test_dense_and_regions(reference):
    model, images = reference.model, reference.input("images")
    torch.testing.assert_close(model.encode_dense(images), reference.output("dense"), **OUTPUT)
    boxes, _ = reference.regions("all")
    raw = model.encode_regions(images, boxes, normalize=False)
    torch.testing.assert_close(raw, reference.output("roi_v2"), **OUTPUT)
    unit = model.encode_regions(images, boxes)
    torch.testing.assert_close(unit, reference.output("roi_v2_norm"), **OUTPUT)
    boxes, _ = reference.regions("ragged")
    ragged = model.encode_regions(images, boxes, normalize=False)
    torch.testing.assert_close(ragged, reference.output("roi_v2_ragged"), **OUTPUT)
    masks = model.encode_masks(images, list(reference.input("masks")), normalize=False)
    torch.testing.assert_close(masks, reference.output("mask_pool"), **OUTPUT)


def pretraining_batch(reference, batch):
    boxes, valid = reference.regions(batch)
    counts = torch.tensor([len(b) for b in boxes])
    return {
        "images": reference.input("images"),
        "texts": reference.input("texts"),
        "boxes": torch.cat(boxes),
        "region_image": torch.arange(len(boxes)).repeat_interleave(counts),
        "crops": reference.input("crops").flatten(0, 1)[valid],
        "region_texts": reference.input("region_texts").flatten(0, 1)[valid],
    }


def make_pretrainer(reference):
    return FineCLIPPretrainer(
        reference.model,
        [GlobalContrastive(), RegionContrastive(), SelfDistillation()],
        trainable=("image", "text", "logit_scale"),
    )


# With every box valid the release's padding is empty; on the ragged batch "_nopad" is the value
# over the valid rows, which is also what its multi-process runs return.
@pytest.mark.parametrize(("batch", "region"), [("all", ""), ("ragged", "_nopad")])
def test_losses(reference, batch, region):
    losses = make_pretrainer(reference)(**pretraining_batch(reference, batch), mode="loss")
    for name, recorded in (
        ("loss_global", "global_itc"),
        ("loss_region", f"region_itc{region}"),
        ("loss_distill", "distill"),
    ):
        expected = reference.loss(f"{batch}.v2.{recorded}")
        torch.testing.assert_close(losses[name], expected, msg=f"{name} on {batch}", **LOSS)


def test_gradients(reference):
    pretrainer = make_pretrainer(reference)
    pretrainer.zero_grad()
    losses = pretrainer(**pretraining_batch(reference, "all"), mode="loss")
    sum(value for name, value in losses.items() if name.startswith("loss_")).backward()
    gradients = {name: p.grad for name, p in reference.model.clip.named_parameters()}
    seen = set()
    for name, step, expected, largest in reference.sampled_gradients():
        actual = gradients[name].flatten()[::step]
        error = (actual - expected).abs().max().item()
        assert error <= 1e-4 * largest + 1e-7, f"{name}: {error:.2e} of {largest:.2e}"
        seen.add(name)
    assert seen == set(gradients), "every parameter has a recorded gradient"


def test_objectives_accept_recorded_embeddings(reference):
    """The objectives alone, on recorded (unnormalised) embeddings."""
    _, valid = reference.regions("ragged")
    embeddings = Embeddings(
        image=reference.output("image_raw"),
        text=reference.output("text_raw"),
        region=reference.output("roi_v2_ragged"),
        crop=reference.output("crop_raw")[valid],
        region_text=reference.output("region_text_raw")[valid],
        logit_scale=reference.model.logit_scale.detach(),
    )
    for objective, recorded in (
        (GlobalContrastive(), "global_itc"),
        (RegionContrastive(), "region_itc_nopad"),
        (SelfDistillation(), "distill"),
    ):
        (value,) = objective(embeddings).values()
        torch.testing.assert_close(value, reference.loss(f"ragged.v2.{recorded}"), **LOSS)
