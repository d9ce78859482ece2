"""Adapters of captioners of transformers: tiny random models, no network."""

import re

import numpy as np
import pytest
import tiny_transformers as tiny
import torch
from PIL import Image

from fineclip.annotation.interfaces import CaptionFailure, create_captioner


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    root = tmp_path_factory.mktemp("models")
    return lambda kind: tiny.make(kind, root / kind.__name__)


def crops():
    rng = np.random.default_rng(0)
    sizes = [(60, 40), (40, 60), (1, 1), (2, 3), (3, 1), (300, 5)]
    noise = [rng.integers(0, 256, (h, w, 3), np.uint8) for w, h in sizes]
    return [*map(Image.fromarray, noise), Image.new("L", (30, 30), 90)]


@pytest.mark.parametrize(
    ("kind", "prompt"),
    [
        (tiny.blip2, None),
        (tiny.blip2, "a photo of"),
        (tiny.blip, "a photo of"),
        (tiny.git, None),
        (tiny.encoder_decoder, None),
        (tiny.chat, None),
    ],
)
def test_captions(models, kind, prompt):
    captioner = create_captioner(
        f"hf:{models(kind)}", prompt=prompt, max_new_tokens=5, batch_size=3
    )
    assert captioner.needs_crops
    images = crops()
    captions = captioner.caption(images, [])
    assert len(captions) == len(images)
    for caption in captions:
        assert set(re.findall(r"\w+|[?.]", caption)) <= {*tiny.WORDS, "?"}
        assert not caption.startswith("a photo of")
    assert len(set(captions)) > 1 or prompt, "all crops are described alike"
    # Each alone, and again: greedy, and beside whatever else.
    for place in (0, 2, 5):
        assert captioner.caption([images[place]], []) == [captions[place]]
    assert captioner.caption([], []) == []


def test_blip_2_answers_as_its_library_does(models):
    import transformers

    folder = models(tiny.blip2)
    model = transformers.Blip2ForConditionalGeneration.from_pretrained(folder)
    processor = transformers.AutoProcessor.from_pretrained(folder)
    inputs = processor(images=crops()[:2], return_tensors="pt")
    with torch.inference_mode():
        tokens = model.generate(**inputs, do_sample=False, num_beams=1, max_new_tokens=5)
    expected = processor.batch_decode(tokens, skip_special_tokens=True)
    captioner = create_captioner(f"hf:{folder}", max_new_tokens=5)
    assert captioner.caption(crops()[:2], []) == [" ".join(text.split()) for text in expected]
    assert captioner.identity.startswith("hf:blip2@sha256:")


def test_half_the_memory(models):
    captioner = create_captioner(f"hf:{models(tiny.blip2)}", max_new_tokens=2, amp="bf16")
    assert len(captioner.caption(crops()[:2], [])) == 2
    assert next(captioner._model.parameters()).dtype == torch.bfloat16


def test_crops_that_a_model_refuses(models, monkeypatch):
    captioner = create_captioner(f"hf:{models(tiny.git)}", max_new_tokens=2)
    prepare = captioner._prepared

    def narrow_is_refused(image):
        if image.width < 2:
            raise ValueError("height and width must be larger than factor 28")
        return prepare(image)

    expected = captioner.caption(crops(), [])
    monkeypatch.setattr(captioner, "_prepared", narrow_is_refused)
    expected[2] = CaptionFailure("model refused the crop")
    assert captioner.caption(crops(), []) == expected


def test_refusals(models, tmp_path):
    with pytest.raises(ValueError, match="writes no text about"):
        create_captioner(f"hf:{models(tiny.rt_detr)}")
    with pytest.raises(ValueError, match="takes no prompt"):
        create_captioner(f"hf:{models(tiny.encoder_decoder)}", prompt="a photo of")
    with pytest.raises(ValueError, match="pickles are never loaded"):
        create_captioner(f"hf:{tiny.pickled(tiny.make(tiny.git, tmp_path / 'git'))}")
    with pytest.raises(ValueError, match="a model is missing"):
        create_captioner("hf")
