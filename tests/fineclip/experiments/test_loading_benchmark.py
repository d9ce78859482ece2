import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import transforms

from fineclip.datasets import AnnotationFiles, RegionTextDataset
from fineclip.experiments.loading_benchmark import format_loading, measure_loading
from fineclip.experiments.measuring import load_yardstick

FILE = Path(__file__).parents[3] / "tools" / "yardsticks" / "pillow_loading.py"
PillowPerBoxReader = load_yardstick(FILE, "reference").PillowPerBoxReader


@pytest.fixture
def folder(tmp_path):
    """Three images, with two, no and one box."""
    rng = np.random.default_rng(0)
    images, annotations = [], []
    for number, boxes in enumerate(([[0, 0, 20, 20], [5.5, 6, 30, 30]], [], [[1, 2, 30, 20]])):
        pixels = rng.integers(0, 255, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"{number}.jpg")
        images.append({"id": number, "file_name": f"{number}.jpg", "width": 50, "height": 40})
        annotations += [{"image_id": number, "category_id": 1, "bbox": box} for box in boxes]
    content = {"images": images, "annotations": annotations}
    content["categories"] = [{"id": 1, "name": "cat"}]
    (tmp_path / "instances.json").write_text(json.dumps(content))
    return tmp_path


def test_measures_three_paths(folder):
    calls = []
    result = measure_loading(
        folder,
        folder / "instances.json",
        yardstick=FILE,
        boxes=3,
        size=16,
        rounds=2,
        progress=lambda *counts: calls.append(counts),
    )
    assert (result["images"], result["boxes"], result["size"]) == (2, 3, 16)
    assert [path["path"] for path in result["paths"]] == ["reference", "pil", "tensor"]
    assert result["paths"][0]["speedup"] == result["paths"][0]["normalized_speedup"] == 1
    for path in result["paths"]:
        assert len(path["seconds_per_image"]) == 2
        assert path["images_per_second_per_core"] > 0
        times = zip(path["seconds_per_image"], path["normalized_seconds_per_image"], strict=True)
        assert all(whole > loaded > 0 for loaded, whole in times)
    assert calls[-1] == (9, 9)
    assert json.loads(json.dumps(result)) == result
    assert "tensor" in format_loading(result)


def test_reference_is_what_the_releases_do(folder):
    dataset = RegionTextDataset(
        source=AnnotationFiles(folder, folder / "instances.json"),
        tokenizer=lambda texts: torch.zeros(len(texts), 4),
        fields=("boxes", "crops"),
        images=PillowPerBoxReader(transform={"size": 16, "interpolation": "bicubic"}),
    )
    sample = dataset[0, 0]
    image = Image.open(folder / "0.jpg").convert("RGB")
    mean, std = (0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711)
    reference = transforms.Compose(
        [
            transforms.Resize((16, 16), transforms.InterpolationMode.BICUBIC),
            transforms.ToTensor(),
            transforms.Normalize(mean, std),
        ]
    )
    assert torch.equal(sample["images"][0], reference(image))
    # Enlarged 1.5 times about their centres and cut to the image.
    crops = [reference(image.crop(box)) for box in ((0, 0, 25, 25), (0, 0, 43, 40))]
    found = {crop.sum().item() for crop in sample["crops"]}
    assert found == {crop.sum().item() for crop in crops}


def test_bad_input(folder):
    with pytest.raises(ValueError, match="boxes must be at least 1, got 0"):
        measure_loading(folder, folder / "instances.json", yardstick=FILE, boxes=0)
    (folder / "instances.json").write_text('{"images": [], "annotations": []}')
    with pytest.raises(ValueError, match="no image has a box"):
        measure_loading(folder, folder / "instances.json", yardstick=FILE)
