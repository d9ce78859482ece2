"""Shares of a loss add up to it, and take no matrix of all rows against all rows."""

from dataclasses import fields, replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from fineclip import objectives
from fineclip.embeddings import Embeddings, Share, SharedEmbeddings
from fineclip.objectives import (
    FILIP,
    MGCA,
    PACL,
    SPARC,
    CLIPSelfDistillation,
    GlobalContrastive,
    GLoRIA,
    LocalToGlobalDistillation,
    RegionCLIPLoss,
    RegionConceptMatching,
    RegionContrastive,
    SelfDistillation,
    SigmoidGlobalContrastive,
    SigmoidRegionContrastive,
    SigmoidViewContrastive,
    ViewContrastive,
    compared_fields,
)
from fineclip.registry import OBJECTIVES

LOCAL = {
    GlobalContrastive: {"image", "text"},
    RegionContrastive: {"region", "region_text"},
    SigmoidGlobalContrastive: {"text"},
    SigmoidRegionContrastive: {"region_text"},
    ViewContrastive: {"global_view", "text"},
    SigmoidViewContrastive: {"text"},
    SelfDistillation: set(),
    CLIPSelfDistillation: set(),
}
WHOLE = {
    FILIP: {},
    PACL: {},
    SPARC: {},
    GLoRIA: {},
    MGCA: {"embed_dim": 8, "num_prototypes": 5},
    RegionConceptMatching: {},
    RegionCLIPLoss: {"num_sampled": 12},
    LocalToGlobalDistillation: {"num_prototypes": 7},
}
IMAGES = [3, 2, 1]  # of three processes
REGIONS = {"ragged": [5, 1, 3], "none in the middle": [4, 0, 2], "none at all": [0, 0, 0]}
PER_REGION = ("region", "crop", "region_text", "teacher_crop", "region_label", "region_image")
VIEWS = (
    "student_prototypes",
    "teacher_prototypes",
    "global_view",
)  # (V, B, P): images are the second size


def make_leaves(num_images, num_regions, dim=8):
    """Every field; floating point ones are leaves."""
    generator = torch.Generator().manual_seed(0)
    shapes = {
        **dict.fromkeys(("image", "text"), (num_images, dim)),
        **dict.fromkeys(("region", "crop", "region_text", "teacher_crop"), (num_regions, dim)),
        "vocabulary": (30, dim),
        "student_prototypes": (3, num_images, 7),
        "teacher_prototypes": (2, num_images, 7),
        "global_view": (2, num_images, dim),
        "patches": (num_images, 5, dim),
        "text_tokens": (num_images, 6, dim),
    }
    floats = {name: torch.randn(*s, generator=generator) for name, s in shapes.items()}
    floats.update(logit_scale=torch.tensor(1.5), logit_bias=torch.tensor(-1.0))
    return Embeddings(
        **{name: value.requires_grad_() for name, value in floats.items()},
        region_image=torch.zeros(num_regions, dtype=torch.int64),
        region_label=torch.arange(num_regions) % 30 - 1,
        text_mask=torch.ones(num_images, 6, dtype=torch.bool),
    )


def share_of(embeddings, images, regions, process, compared):
    """What one of several processes would see after gathering the compared fields."""
    first_image, first_region = sum(images[:process]), sum(regions[:process])
    own, whole = {}, {}
    for field in fields(Embeddings):
        rows = getattr(embeddings, field.name)
        if field.name in ("vocabulary", "logit_scale", "logit_bias"):
            own[field.name] = whole[field.name] = rows
            continue
        whole[field.name] = rows if field.name in compared else None
        if field.name in PER_REGION:
            own[field.name] = rows[first_region : first_region + regions[process]]
        elif field.name in VIEWS:
            own[field.name] = rows[:, first_image : first_image + images[process]]
        else:
            own[field.name] = rows[first_image : first_image + images[process]]
    share = Share(
        own=Embeddings(**own),
        first_image=first_image,
        first_region=first_region,
        num_regions=sum(regions),
        num_processes=len(images),
    )
    return SharedEmbeddings(**whole, share=share)


def gradients_of(embeddings):
    return {name: v.grad for name, v in vars(embeddings).items() if v.grad is not None}


def build(objective_class):
    torch.manual_seed(0)  # of parameters, where there are any
    return objective_class(weight=0.7, **WHOLE.get(objective_class, {}))


@pytest.mark.parametrize("regions", REGIONS.values(), ids=REGIONS)
@pytest.mark.parametrize("objective_class", [*LOCAL, *WHOLE], ids=lambda c: c.__name__)
def test_shares_add_up(objective_class, regions):
    """In value and gradient, whichever way the rows are split."""
    whole = make_leaves(sum(IMAGES), sum(regions))
    expected = build(objective_class)(whole)
    sum(expected.values()).backward()

    embeddings = make_leaves(sum(IMAGES), sum(regions))
    total = dict.fromkeys(expected, 0)
    for process in range(3):
        objective = build(objective_class)
        seen = share_of(embeddings, IMAGES, regions, process, compared_fields([objective]))
        shares = objective(seen)
        total = {name: total[name] + loss for name, loss in shares.items()}
        # A process without rows has to reach what was gathered too: others wait for it there.
        for name in compared_fields([objective]) & objective.needs:
            value = getattr(seen, name)
            if value is not None and value.requires_grad and name not in objective.detached:
                found = torch.autograd.grad(
                    sum(shares.values()), value, retain_graph=True, allow_unused=True
                )
                reached = getattr(whole, name).grad is not None
                assert (found[0] is not None) == reached, f"{name} of process {process}"
    assert total.keys() == expected.keys()
    for name in total:
        torch.testing.assert_close(total[name], expected[name], rtol=1e-6, atol=1e-7)
    sum(total.values()).backward()
    actual, wanted = gradients_of(embeddings), gradients_of(whole)
    assert actual.keys() >= wanted.keys()
    for name, gradient in actual.items():
        torch.testing.assert_close(
            gradient, wanted.get(name, torch.zeros_like(gradient)), rtol=1e-5, atol=1e-7, msg=name
        )


def test_every_objective_is_split():
    exported = {name for name in objectives.__all__ if name in OBJECTIVES}
    assert {c.__name__ for c in (*LOCAL, *WHOLE)} == exported


def test_compared_fields():
    for objective_class, compared in LOCAL.items():
        assert compared_fields([objective_class()]) == compared
    for objective_class, settings in WHOLE.items():
        assert compared_fields([objective_class(**settings)]) == objective_class.needs
    three = [GlobalContrastive(), RegionContrastive(), SelfDistillation()]
    assert compared_fields(three) == {"image", "text", "region", "region_text"}


def test_missing_fields_are_named():
    embeddings = make_leaves(6, 9)
    seen = share_of(embeddings, IMAGES, [5, 1, 3], 1, {"image"})
    with pytest.raises(ValueError, match=r"GlobalContrastive needs the embeddings text$"):
        GlobalContrastive()(seen)
    with pytest.raises(ValueError, match="SPARC needs the embeddings patches, text, text_mask"):
        SPARC()(seen)
    seen.share.own.crop = None
    with pytest.raises(ValueError, match=r"SelfDistillation needs the embeddings crop$"):
        SelfDistillation()(seen)


class LargestTensor(TorchDispatchMode):
    """Size of the largest tensor that any operation returns, forward or backward."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for value in result if isinstance(result, tuple | list) else (result,):
            if isinstance(value, torch.Tensor):
                self.elements = max(self.elements, value.numel())
        return result


def memory_of_step(objective, embeddings):
    """Elements of the largest tensor of forward and backward, and bytes kept in between."""
    inputs = {
        value.untyped_storage().data_ptr()
        for value in vars(embeddings).values()
        if isinstance(value, torch.Tensor)
    }
    kept = {}

    def keep(tensor):
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in inputs:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with LargestTensor() as largest:
        with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
            loss = sum(objective(embeddings).values())
        loss.backward()
    return largest.elements, sum(kept.values())


@pytest.mark.parametrize("objective_class", LOCAL, ids=lambda c: c.__name__)
def test_no_process_holds_all_pairs(objective_class):
    """4 processes of 60 rows, N = 240: the largest matrix is 60 x 240 where it was 240 x 240."""
    objective, counts, dim = objective_class(), [60] * 4, 16
    embeddings = make_leaves(240, 240, dim)
    largest, kept = memory_of_step(objective, embeddings)
    seen = share_of(make_leaves(240, 240, dim), counts, counts, 1, compared_fields([objective]))
    # The leaves of this test stand for what is gathered: their gradient would be (N, D) anyway.
    share_largest, share_kept = memory_of_step(objective, seen)
    if objective_class in (SelfDistillation, CLIPSelfDistillation):
        assert (largest, share_largest) == (240 * dim, 240 * dim)
        return
    assert (largest, share_largest) == (240 * 240, 60 * 240)
    # Normalised copies of the (N, D) columns stay; of the matrices a quarter.
    views = 2 if "global_view" in objective.needs else 1
    columns = 4 * 240 * dim * len(objective.compared) * 2 * views
    assert share_kept <= kept / 4 + columns
    assert share_kept < 0.6 * kept


def test_own_is_all_without_a_share():
    embeddings = make_leaves(2, 3)
    assert embeddings.share is None
    assert embeddings.own is embeddings
    assert embeddings.num_regions == 3
    assert replace(embeddings).share is None
