"""One decoding per sample, for either backend, at the size that is needed."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from region_text import region_text_dataset

from fineclip.datasets import collate_region_text
from fineclip.datasets import image_reader as module


def characters(texts):
    return torch.tensor([[ord(c) for c in text.ljust(4)[:4]] for text in texts])


@pytest.fixture
def folder(tmp_path):
    """One photograph-like JPEG of 320 x 256 pixels with a large, a middling and a small box."""
    rng = np.random.default_rng(0)
    coarse = Image.fromarray(rng.integers(0, 255, (16, 20, 3), dtype=np.uint8))
    coarse.resize((320, 256), Image.Resampling.BICUBIC).save(tmp_path / "a.jpg", quality=90)
    boxes = [[0, 0, 320, 256], [10, 10, 160, 128], [100, 50, 40, 32]]
    content = {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 320, "height": 256}],
        "annotations": [
            {"id": i, "image_id": 1, "category_id": 1, "bbox": box} for i, box in enumerate(boxes)
        ],
        "categories": [{"id": 1, "name": "cat"}],
    }
    (tmp_path / "instances.json").write_text(json.dumps(content))
    captions = [{"image_id": 1, "caption": text} for text in ("aaaa", "bbbb", "cccc")]
    (tmp_path / "captions.json").write_text(json.dumps({"annotations": captions}))
    return tmp_path


def make(folder, **options):
    return region_text_dataset(
        **{
            "image_root": folder,
            "annotations": folder / "instances.json",
            "captions": folder / "captions.json",
            "tokenizer": characters,
            "transform": {"size": 64},
            "crop_transform": {"size": 32, "resize": "pad_center"},
            "views": {"global_size": 32, "local_size": 16},
            **options,
        }
    )


def test_backends_draw_the_same_and_differ_by_little(folder):
    for epoch in range(5):
        pil, tensor = make(folder)[epoch, 0], make(folder, backend="tensor")[epoch, 0]
        assert pil.keys() == tensor.keys()
        for name in ("texts", "boxes", "region_image", "region_texts"):
            assert torch.equal(pil[name], tensor[name])
        for name in ("images", "crops", "global_views", "local_views"):
            assert pil[name].shape == tensor[name].shape
            assert (pil[name].int() - tensor[name].int()).abs().float().mean() < 1.5
        batch = collate_region_text([tensor, tensor])
        for name in ("images", "crops"):
            assert batch[name].is_contiguous(memory_format=torch.channels_last)
            assert tensor[name].is_contiguous(memory_format=torch.channels_last)
    # An image that drops out, and with it its memory format, changes nothing for the others.
    (folder / "a.jpg").unlink()
    batch = collate_region_text([make(folder, backend="tensor")[0, 0], tensor])
    assert batch["images"].is_contiguous(memory_format=torch.channels_last)
    assert len(batch["images"]) == len(batch["skipped"]) == 1
    with pytest.raises(ValueError, match="backend must be 'pil' or 'tensor', got 'cv2'"):
        make(folder, backend="cv2")


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # 256 rows to 64 pixels.
        ({"fields": (), "views": None}, 4),
        ({"fields": (), "views": None, "transform": {"size": 65}}, 2),
        ({"fields": (), "views": None, "transform": {"size": 129}}, 1),
        # Padded, the longer side decides.
        ({"fields": (), "views": None, "transform": {"size": 80, "resize": "pad"}}, 4),
        # The small box grows to 48 rows, or to the 40 columns that its longer side has.
        ({"views": None, "crop_transform": {"size": 12}}, 4),
        ({"views": None, "crop_transform": {"size": 13}}, 2),
        ({"views": None, "crop_transform": {"size": 25}}, 1),
        ({"views": None, "crop_transform": {"size": 25}, "min_area": 10_000}, 4),
        # Views of a quarter of the area or more, and of no side below 0.4 times the image's.
        ({"fields": (), "views": {"global_size": 8, "local_size": 4}}, 4),
        ({"fields": (), "views": {"global_size": 224, "local_size": 4}}, 1),
        ({"fields": (), "views": None, "reduced_decoding": False}, 1),
    ],
)
@pytest.mark.parametrize("backend", ["pil", "tensor"])
def test_decoded_once_as_small_as_every_output_allows(
    folder, monkeypatch, backend, options, expected
):
    reductions = []

    def decode(*args, **kwargs):
        reductions.append(kwargs["reduction"])
        return original(*args, **kwargs)

    original = module.decode_image
    monkeypatch.setattr(module, "decode_image", decode)
    dataset = make(folder, backend=backend, **options)
    for epoch in range(3):
        small = dataset[epoch, 0]
    assert reductions == [expected] * 3
    whole = make(folder, backend=backend, **options | {"reduced_decoding": False})[2, 0]
    for name in {"images", "crops"} & whole.keys():
        assert (small[name].int() - whole[name].int()).abs().float().mean() < 2.5
