"""Crops of their own aspect ratio: shapes, pixels, order, and the same from every source."""

import json
from itertools import pairwise

import numpy as np
import pytest
import torch
from PIL import Image
from region_text import region_text_dataset
from torch.utils.data import DataLoader

from fineclip.datasets import ImageTransform, ShapedCrops, collate_region_text
from fineclip.datasets.resampling import resize_pil
from fineclip.datasets.shard_writer import make_shards
from fineclip.datasets.transforms import AspectTransform, aspect_grids

SIZES = {"a.png": (90, 60), "b.png": (40, 40), "c.png": (50, 120)}
BOXES = {  # xywh
    "a.png": [[0, 0, 90, 30], [30, 20, 20, 20], [10, 0, 20, 60]],
    "b.png": [],
    "c.png": [[5, 10, 20, 20], [0, 0, 50, 120]],
}


def characters(texts):
    return torch.tensor([[ord(c) for c in text.ljust(4)[:4]] for text in texts])


@pytest.fixture
def files(tmp_path):
    (tmp_path / "images").mkdir()
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number, (name, (width, height)) in enumerate(SIZES.items(), 1):
        pixels = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "images" / name)
        images.append({"id": number, "file_name": name, "width": width, "height": height})
        for box in BOXES[name]:
            entry = {"id": len(annotations) + 1, "image_id": number, "category_id": 1, "bbox": box}
            annotations.append(entry)
    content = {
        "images": images,
        "annotations": annotations,
        "categories": [{"id": 1, "name": "cat"}],
    }
    captions = [{"image_id": number, "caption": "aaaa"} for number in (1, 2, 3)]
    (tmp_path / "instances.json").write_text(json.dumps(content))
    (tmp_path / "captions.json").write_text(json.dumps({"annotations": captions}))
    return {
        "image_root": tmp_path / "images",
        "annotations": tmp_path / "instances.json",
        "captions": tmp_path / "captions.json",
    }


def make(**options):
    options = {"crop_patch": 4, "crop_transform": {"size": 16}, **options}
    return region_text_dataset(
        tokenizer=characters, transform={"size": 32}, crop_scale=1.0, **options
    )


def rows(crops):
    """The crops one by one, in the order of their regions."""
    listed = [row for group in crops.groups for row in group]
    return [listed[place] for place in crops.places.tolist()]


@pytest.mark.parametrize("side", [1, 2, 4, 7, 10, 14, 24])
def test_no_grid_has_more_patches_than_the_square(side):
    grids = aspect_grids(side)
    assert (side, side) in grids
    assert all(0.7 * side**2 <= rows * columns <= side**2 for rows, columns in grids)
    assert {(columns, rows) for rows, columns in grids} == set(grids)
    assert len(grids) <= 7
    if side > 4:  # between neighbours, what an aspect ratio is off by at most
        ratios = sorted(columns / rows for rows, columns in grids)
        assert ratios[-1] >= 3
        assert max(b / a for a, b in pairwise(ratios)) < 2.1


def test_a_part_gets_the_nearest_shape():
    transform = AspectTransform(224, 16)
    sides = {(224, 224), (176, 272), (272, 176), (144, 336), (336, 144), (128, 384), (384, 128)}
    assert set(transform.shapes) == sides
    for (width, height), shape in {
        (100, 100): (224, 224),
        (120, 100): (224, 224),
        (100, 160): (272, 176),
        (230, 100): (144, 336),
        (900, 100): (128, 384),
    }.items():
        assert transform.shape(width, height) == shape
    assert transform.shrink(768, 128) == 1.0
    assert AspectTransform(32, 16).shape(90, 30) == (16, 64)


def test_crops_are_their_boxes_in_their_shapes(files):
    """In the order of regions, whatever the groups; an image without boxes adds none."""
    dataset = make(**files)
    batch = collate_region_text([dataset[0, index] for index in range(3)])
    crops, transform = batch["crops"], AspectTransform(16, 4)
    assert [tuple(group.shape[2:]) for group in crops.groups] == transform.shapes
    assert [len(group) for group in crops.groups].count(0) >= 1
    assert len(crops.places) == len(batch["boxes"]) == 5
    for box, image, crop in zip(
        batch["boxes"], batch["region_image"].tolist(), rows(crops), strict=True
    ):
        name = list(SIZES)[image]
        size = SIZES[name]
        x0, y0, x1, y1 = (box.double() * torch.tensor([*size, *size])).tolist()
        height, width = transform.shape(round(x1 - x0), round(y1 - y0))
        picture = Image.open(files["image_root"] / name)
        box = tuple(round(v) for v in (x0, y0, x1, y1))
        assert torch.equal(crop, resize_pil(picture, box, (width, height), "bilinear"))


def test_only_the_pixels_of_crops_differ_from_squares(files):
    """All draws are the same."""
    for epoch in range(4):
        shaped, square = make(**files)[epoch, 0], make(**files, crop_patch=None)[epoch, 0]
        assert shaped.keys() == square.keys()
        for name in shaped.keys() - {"crops", "skipped"}:
            assert torch.equal(shaped[name], square[name])
        # A square box is the same square.
        (place,) = [i for i, crop in enumerate(rows(shaped["crops"])) if crop.shape[1:] == (16, 16)]
        assert torch.equal(rows(shaped["crops"])[place], square["crops"][place])


@pytest.mark.parametrize("backend", ["pil", "tensor"])
def test_shards_and_workers_give_the_same(files, tmp_path, backend):
    make_shards(tmp_path / "shards", **files)
    plain = make(**files, backend=backend)
    expected = collate_region_text([plain[0, index] for index in range(3)])["crops"]
    # A loader with a worker, from shards.
    sharded = make(folder=tmp_path / "shards", backend=backend)
    (batch,) = DataLoader(
        sharded,
        batch_sampler=[[(0, 0), (0, 1), (0, 2)]],
        collate_fn=collate_region_text,
        num_workers=1,
    )
    assert isinstance(batch["crops"], ShapedCrops)
    assert torch.equal(batch["crops"].places, expected.places)
    for group, other in zip(batch["crops"].groups, expected.groups, strict=True):
        assert torch.equal(group, other)
        if backend == "tensor" and len(group):
            assert group.is_contiguous(memory_format=torch.channels_last)
    pixels = torch.cat([(a.int() - b.int()).flatten() for a, b in _pairs(plain, make(**files))])
    assert pixels.abs().float().mean() < 20  # noise, cut and resized by two libraries


def _pairs(one, other):
    for index in (0, 2):
        yield from zip(rows(one[0, index]["crops"]), rows(other[0, index]["crops"]), strict=True)


def test_images_that_cannot_be_read_have_no_crops(files):
    for name in ("a.png", "c.png"):
        (files["image_root"] / name).unlink()
    dataset = make(**files)
    crops = collate_region_text([dataset[0, index] for index in range(3)])["crops"]
    assert [len(group) for group in crops.groups] == [0] * len(crops.groups)
    assert crops.places.shape == (0,)
    assert crops.places.dtype == torch.int64


def test_settings_that_do_not_go_together(files):
    with pytest.raises(ValueError, match="size of crops is 18, no multiple of the patch of 4"):
        make(**files, crop_transform={"size": 18})
    with pytest.raises(ValueError, match="set its resize to 'squash', not 'pad_center'"):
        make(**files, crop_transform=ImageTransform(16, "pad_center"))
    with pytest.raises(ValueError, match="patch: expected an integer from 1 on, got 0"):
        make(**files, crop_patch=0)
