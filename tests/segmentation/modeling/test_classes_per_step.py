"""Training on some of the classes at a time."""

import pytest
import torch

from segmentation.modeling import build_segmenter
from segmentation.modeling.segmenter import sample_classes

NAMES = [f"thing {i}" for i in range(9)]


def labels(*values):
    return torch.tensor(values).repeat(4, 1)


def test_present_classes_are_always_chosen_and_labels_follow():
    given = [labels(7, 2, 255), labels(2, 5, 5)]
    chosen, mapped = sample_classes(given, 9, 5, ignore_value=255)
    assert len(chosen) == 5 and chosen == sorted(chosen) and {2, 5, 7} <= set(chosen)
    back = torch.tensor([*chosen, *[255] * 251])
    for before, after in zip(given, mapped, strict=True):
        assert torch.equal(back[after], before)
    assert sample_classes(given, 9, 5, ignore_value=255)[0] == chosen
    assert len(sample_classes(given, 9, 2, ignore_value=255)[0]) == 3
    drawn = {tuple(sample_classes([labels(i, i, 0)], 9, 4, ignore_value=255)[0]) for i in range(9)}
    assert len(drawn) > 5


def test_what_cannot_be_chosen_from():
    with pytest.raises(ValueError, match="ignore value 1 is one of the 9 classes"):
        sample_classes([labels(0, 1, 2)], 9, 3, ignore_value=1)
    with pytest.raises(ValueError, match=r"labels \[-3, 9\] are neither one of the 9 classes"):
        sample_classes([labels(0, 9, -3)], 9, 3, ignore_value=255)


def test_loss_is_that_of_the_chosen_names():
    torch.manual_seed(5)
    settings = {
        "grid": (4, 4),
        "hidden_dim": 16,
        "num_heads": 2,
        "window_size": 4,
        "decoder_dims": (16, 16),
        "decoder_guidance_dims": (12, 8),
        "decoder_guidance_proj_dims": (8, 4),
    }
    model = build_segmenter("ViT-Ti-16", train_classes=NAMES, **settings)
    image = torch.randint(0, 256, (3, 32, 32), dtype=torch.uint8)
    label = torch.randint(3, 6, (32, 32))
    model.classes_per_step = 5
    found = model.loss([image], [label])
    chosen, mapped = sample_classes([label], 9, 5, ignore_value=255)
    model.classes_per_step = 0
    model.sem_seg_head.train_classes = tuple(NAMES[index] for index in chosen)
    torch.testing.assert_close(found, model.loss([image], mapped))
