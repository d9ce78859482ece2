"""FineCLIP's released boxes and region captions of COCO, read as they are by the COCO config."""

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fineclip.datasets import collate_region_text
from fineclip.engine import load_config
from fineclip.registry import DATASETS
from fineclip.text.tokenizers import get_tokenizer

CONFIG = Path(__file__).parents[2] / "configs" / "fineclip" / "coco_eva02-b-16.py"
IMAGES = {"000000000009.jpg": (64, 48), "000000000025.jpg": (40, 60)}
# Proposals are no round numbers, and keys have them truncated.
BOXES = [
    (9, [3.97, 2.01, 30.99, 20.5], "000000000009.jpg_3_2_30_20.jpg", "a bowl of broccoli"),
    (9, [0.0, 10.25, 63.99, 37.75], "000000000009.jpg_0_10_63_37.jpg", "a tray of food"),
    (25, [5.5, 5.5, 20.0, 40.0], "000000000025.jpg_5_5_20_40.jpg", "a giraffe eating leaves"),
]


@pytest.fixture
def coco(tmp_path):
    """A COCO folder with the two released files in its annotations."""
    (tmp_path / "train2017").mkdir()
    (tmp_path / "annotations").mkdir()
    images = []
    for name, (width, height) in IMAGES.items():
        pixels = np.random.default_rng(0).integers(0, 255, (height, width, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "train2017" / name)
        id_ = int(name.removesuffix(".jpg"))
        images.append({"id": id_, "file_name": name, "width": width, "height": height})
    annotations = [
        {"id": number, "image_id": image, "bbox": box, "category_id": 1, "iscrowd": 0, "area": 100}
        for number, (image, box, _, _) in enumerate(BOXES, 1)
    ]
    captions = [{"id": i["id"], "image_id": i["id"], "caption": "food"} for i in images]
    files = {
        "coco_proposals.json": {
            "images": images,
            "annotations": annotations,
            "categories": [{"id": 1, "name": "object"}],
        },
        "coco_captions.json": {key: caption for _, _, key, caption in BOXES},
        "captions_train2017.json": {"images": images, "annotations": captions},
    }
    for name, content in files.items():
        (tmp_path / "annotations" / name).write_text(json.dumps(content))
    return tmp_path


def test_recommended_setup_gives_every_box_its_released_caption(coco):
    options = {
        "data_root": str(coco),
        "annotations": "annotations/coco_proposals.json",
        "region_captions": "annotations/coco_captions.json",
        "model_name": "EVA02-Ti-16",
        "image_size": 32,
        "crop_size": 32,
    }
    dataset = DATASETS.build(load_config(CONFIG, options).train_dataloader.dataset)
    batch = collate_region_text([dataset[0, index] for index in range(len(dataset))])
    assert batch["skipped"] == []
    found = {}
    for image, box, text in zip(
        batch["region_image"].tolist(), batch["boxes"], batch["region_texts"], strict=True
    ):
        width, height = list(IMAGES.values())[image]
        x0, y0, x1, y1 = (box * box.new_tensor([width, height, width, height])).tolist()
        found[tuple(round(value, 2) for value in (x0, y0, x1 - x0, y1 - y0))] = text.tolist()
    expected = get_tokenizer("EVA02-Ti-16")([caption for *_, caption in BOXES])
    assert found == {
        tuple(box): text for (_, box, _, _), text in zip(BOXES, expected.tolist(), strict=True)
    }
