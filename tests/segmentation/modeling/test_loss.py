"""The loss, over all classes or over some that are chosen for the step."""

import pytest
import torch
import torch.nn.functional as F

from segmentation.experiments.networks import NETWORKS
from segmentation.modeling import build_segmenter
from segmentation.modeling.loss import choose_classes, class_loss

NAMES = [f"thing {i}" for i in range(9)]


def labels(*values):
    return torch.tensor(values).repeat(4, 1)


def test_loss_against_one_hot_targets():
    logits, target = torch.randn(2, 4, 3, 5) * 3, torch.randint(0, 4, (2, 3, 5))
    target[0, 1], target[1, 2, 3] = 255, 255
    valid = (target != 255).float()[:, None].expand_as(logits)
    one_hot = F.one_hot(target.clamp(max=4), 5)[..., :4].permute(0, 3, 1, 2).float()
    each = F.binary_cross_entropy_with_logits(logits, one_hot, reduction="none")
    found = class_loss(logits, target, ignore_value=255)
    torch.testing.assert_close(found, each.mean())
    found = class_loss(logits, target, ignore_value=255, ignored_as_negatives=False)
    torch.testing.assert_close(found, (each * valid).sum() / valid.sum())
    nothing = torch.full_like(target, 255)
    assert class_loss(logits, nothing, ignore_value=255, ignored_as_negatives=False) == 0


def test_a_label_that_is_no_class():
    with pytest.raises(ValueError, match=r"labels \[4, 9\] .* 4 classes"):
        target = torch.tensor([[[0, 9], [255, 4]]])
        class_loss(torch.zeros(1, 4, 2, 2), target, ignore_value=255)


def test_present_classes_are_always_chosen_and_labels_follow():
    given = [labels(7, 2, 255), labels(2, 5, 5)]
    chosen, mapped = choose_classes(given, 9, 5, ignore_value=255)
    assert len(chosen) == 5 and chosen == sorted(chosen) and {2, 5, 7} <= set(chosen)
    back = torch.tensor([*chosen, *[255] * 251])
    for before, after in zip(given, mapped, strict=True):
        assert torch.equal(back[after], before)
    assert choose_classes(given, 9, 5, ignore_value=255)[0] == chosen
    assert len(choose_classes(given, 9, 2, ignore_value=255)[0]) == 3
    drawn = {tuple(choose_classes([labels(i, i, 0)], 9, 4, ignore_value=255)[0]) for i in range(9)}
    assert len(drawn) > 5


def test_draws_stay():
    """A training begun with an older version is resumed with the same classes."""
    given = [torch.tensor([[7, 2, 255]]), torch.tensor([[2, 5, 5]])]
    assert choose_classes(given, 9, 5, ignore_value=255)[0] == [2, 4, 5, 6, 7]


def test_what_cannot_be_chosen_from():
    with pytest.raises(ValueError, match="ignore value 1 is one of the 9 classes"):
        choose_classes([labels(0, 1, 2)], 9, 3, ignore_value=1)
    with pytest.raises(ValueError, match=r"labels \[-3, 9\] are neither one of the 9 classes"):
        choose_classes([labels(0, 9, -3)], 9, 3, ignore_value=255)


def test_loss_is_that_of_the_chosen_names():
    torch.manual_seed(5)
    model = build_segmenter("ViT-Ti-16", train_classes=NAMES, grid=(4, 4), **NETWORKS["tiny"])
    image = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    label = torch.randint(3, 6, (32, 32))
    model.classes_per_step = 5
    found = model.loss([image], [label])
    chosen, mapped = choose_classes([label], 9, 5, ignore_value=255)
    model.classes_per_step = 0
    model.sem_seg_head.train_classes = tuple(NAMES[index] for index in chosen)
    torch.testing.assert_close(found, model.loss([image], mapped))
