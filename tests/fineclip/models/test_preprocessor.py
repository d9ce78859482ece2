import torch

from fineclip.datasets import ShapedCrops
from fineclip.models import CLIPPreprocessor


def test_pixels_are_normalised_and_all_else_is_kept():
    preprocess = CLIPPreprocessor(mean=(0.5, 0.5, 0.5), std=(0.25, 0.5, 1.0))
    pixels = torch.full((1, 3, 1, 1), 255, dtype=torch.uint8)
    ready = torch.zeros(1, 3, 1, 1)
    views = pixels.expand(1, 2, 3, 1, 1)  # (B, V, 3, H, W)
    tokens = torch.tensor([[255]])
    batch = preprocess(
        {
            "images": pixels,
            "crops": ready,
            "local_views": views,
            "texts": tokens,
            "data_samples": [{"image_id": 3}],
            "skipped": [("a", "b")],
        }
    )
    assert batch["local_views"][0, 1].flatten().tolist() == [2.0, 1.0, 0.5]
    assert batch["images"].flatten().tolist() == [2.0, 1.0, 0.5]
    assert torch.equal(batch["crops"], ready)
    assert torch.equal(batch["texts"], tokens)
    assert batch["data_samples"] == [{"image_id": 3}]
    assert "skipped" not in batch


def test_crops_of_several_shapes_are_pixels_as_well():
    preprocess = CLIPPreprocessor(mean=(0.5, 0.5, 0.5), std=(0.25, 0.5, 1.0))
    crops = [torch.full((3, h, 2), 255, dtype=torch.uint8) for h in (1, 2)]
    found = preprocess({"crops": ShapedCrops.of(crops, [(2, 2), (1, 2)])})["crops"]
    assert isinstance(found, ShapedCrops)
    assert [group.shape for group in found.groups] == [(1, 3, 2, 2), (1, 3, 1, 2)]
    for group in found.groups:
        assert group[0, :, 0, 0].tolist() == [2.0, 1.0, 0.5]
    assert found.places.tolist() == [1, 0]
