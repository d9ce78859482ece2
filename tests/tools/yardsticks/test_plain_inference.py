"""The plain formulas and the lean network give the same answers."""

from pathlib import Path

import pytest
import torch

from fineclip.experiments.measuring import load_yardstick
from segmentation.modeling import SlidingWindows, build_segmenter

FILE = Path(__file__).parents[3] / "tools" / "yardsticks" / "plain_inference.py"
PlainInference = load_yardstick(FILE, "plain").PlainInference

NAMES = ("cat", "dog", "grass", "sky", "a traffic light", "sea")
PICTURE = torch.randint(
    0, 256, (3, 50, 75), dtype=torch.uint8, generator=torch.Generator().manual_seed(3)
)


def make(**changes):
    settings = {
        "grid": (6, 6),
        "hidden_dim": 16,
        "num_heads": 2,
        "window_size": 3,
        "decoder_dims": (16, 16),
        "decoder_guidance_dims": (12, 8),
        "decoder_guidance_proj_dims": (8, 4),
        "pad_length": 8,
        **changes,
    }
    torch.manual_seed(5)
    model = build_segmenter("ViT-Ti-16", train_classes=NAMES[:3], **settings).eval()
    with torch.no_grad():  # zero at first: they would hide mistakes
        for layer in model.sem_seg_head.predictor.transformer.layers:
            for name in ("padding_tokens", "padding_guidance"):
                if hasattr(layer.attention, name):
                    getattr(layer.attention, name).normal_()
    return model


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"pad_length": 4},
        {"pad_length": 0, "doubled_residual": False},
        {"attention_type": "full", "pooling_size": (1, 1)},
        {"segmenter": {"windows": SlidingWindows((96, 112), 64)}},
        {"templates": ["a {}.", "the {}."]},
    ],
    ids=["padded", "truncated", "bare", "full", "windows", "prompts"],
)
def test_equal_answers(changes):
    model = make(**changes)
    plain = PlainInference(model)
    (ours,) = model.predict([PICTURE], [(40, 60)], NAMES)
    theirs = plain.predict(PICTURE, (40, 60), NAMES)
    assert ours.std() > 0.01
    torch.testing.assert_close(theirs, ours, atol=1e-4, rtol=0)
    (labels,) = model.predict_labels([PICTURE], [(40, 60)], NAMES)
    assert (plain.predict_labels(PICTURE, (40, 60), NAMES) == labels.labels).float().mean() > 0.99


def test_texts_of_a_vocabulary_are_encoded_once(monkeypatch):
    """As the release does."""
    model = make()
    encoder = model.sem_seg_head.predictor.text
    calls, encode = [], encoder._encode
    monkeypatch.setattr(encoder, "_encode", lambda names: calls.append(names) or encode(names))
    plain = PlainInference(model)
    for names in (NAMES, NAMES, NAMES[:2]):
        plain.predict(PICTURE, (8, 8), names)
    assert len(calls) == 2


def test_a_grid_that_the_window_does_not_divide_is_refused():
    with pytest.raises(ValueError, match="6 x 6 grid cannot be cut into windows of 4"):
        PlainInference(make(window_size=4)).predict(PICTURE, (8, 8), NAMES)
