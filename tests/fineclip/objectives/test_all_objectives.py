"""What holds for every objective that can be configured."""

import pytest
import torch

from fineclip import objectives
from fineclip.embeddings import Embeddings
from fineclip.objectives import Objective
from fineclip.registry import OBJECTIVES

SETTINGS = {
    "LocalToGlobalDistillation": {"num_prototypes": 7},
    "MGCA": {"embed_dim": 8, "num_prototypes": 6},
}
NAMES = [
    name
    for name in objectives.__all__
    if isinstance(getattr(objectives, name), type)
    and issubclass(getattr(objectives, name), Objective)
    and name != "Objective"
]
# These take each other's place; all others may be combined.
ALTERNATIVES = {
    "SigmoidGlobalContrastive",
    "SigmoidRegionContrastive",
    "SigmoidViewContrastive",
    "ViewContrastive",
}


def build(name, **settings):
    torch.manual_seed(0)  # of parameters, where there are any
    return OBJECTIVES.build({"type": name, **SETTINGS.get(name, {}), **settings})


def everything(dtype=torch.float32):
    """Every field, for 3 images and 4 regions."""
    shapes = {
        **dict.fromkeys(("image", "text"), (3, 8)),
        **dict.fromkeys(("region", "crop", "region_text", "teacher_crop"), (4, 8)),
        "vocabulary": (9, 8),
        "student_prototypes": (3, 3, 7),
        "teacher_prototypes": (2, 3, 7),
        "global_view": (2, 3, 8),
        "patches": (3, 5, 8),
        "text_tokens": (3, 6, 8),
    }
    generator = torch.Generator().manual_seed(0)
    floats = {
        name: torch.randn(*shape, generator=generator).to(dtype) for name, shape in shapes.items()
    }
    return Embeddings(
        **floats,
        region_image=torch.tensor([0, 0, 1, 2]),
        region_label=torch.tensor([1, -1, 3, 1]),
        text_mask=torch.arange(6) < torch.tensor([[3], [6], [1]]),
        logit_scale=torch.tensor(1.5),
        logit_bias=torch.tensor(-1.0),
    )


def test_all_are_exported_and_registered():
    registered = {
        name
        for name, objective in OBJECTIVES.module_dict.items()
        if objective.__module__.startswith("fineclip.")
    }
    assert set(NAMES) == registered
    assert len(NAMES) == 16


@pytest.mark.parametrize("name", NAMES)
def test_weight_scales_every_loss(name):
    one, half = build(name)(everything()), build(name, weight=0.5)(everything())
    assert one.keys() == half.keys()
    for key in one:
        assert key.startswith("loss_")
        assert one[key].item() != 0
        assert half[key].item() == pytest.approx(one[key].item() / 2)


def test_names_of_losses_are_distinct():
    names = [key for name in NAMES if name not in ALTERNATIVES for key in build(name)(everything())]
    assert len(names) == len(set(names))


@pytest.mark.parametrize("name", NAMES)
def test_losses_are_float32_whatever_comes_in(name):
    half = everything(torch.bfloat16)
    exact = Embeddings(
        **{
            key: value.float() if value.dtype == torch.bfloat16 else value
            for key, value in vars(half).items()
        }
    )
    expected = build(name)(exact)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        losses = build(name)(half)
    for key, loss in losses.items():
        assert loss.dtype == torch.float32
        assert loss.item() == pytest.approx(expected[key].item(), rel=1e-6), key


@pytest.mark.parametrize("name", NAMES)
def test_missing_fields_are_named(name):
    for field in build(name).needs:
        embeddings = everything()
        setattr(embeddings, field, None)
        with pytest.raises(ValueError, match=f"{name} needs the embeddings {field}"):
            build(name)(embeddings)


@pytest.mark.parametrize("name", NAMES)
def test_inputs_are_left_alone(name):
    embeddings, untouched = everything(), everything()
    build(name)(embeddings)
    for key, value in vars(untouched).items():
        assert torch.equal(getattr(embeddings, key), value), key
