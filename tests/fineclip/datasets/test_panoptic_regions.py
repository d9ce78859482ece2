import json

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as mask_utils

from fineclip.datasets.evaluation_batch import collate_evaluation
from fineclip.datasets.panoptic_regions import (
    InstanceRegionDataset,
    PanopticRegionDataset,
    pixel_span_box,
)
from fineclip.datasets.transforms import ImageTransform
from fineclip.registry import DATASETS, FUNCTIONS

CATEGORIES = [
    {"id": 3, "name": "cat", "isthing": 1},
    {"id": 9, "name": "sky", "isthing": 0},
]
WIDTH, HEIGHT = 40, 30


def segment(id_, category_id, bbox, **more):
    return {"id": id_, "category_id": category_id, "bbox": bbox, "area": 1, "iscrowd": 0, **more}


@pytest.fixture
def root(tmp_path):
    """Two images: a cat, sky in two pieces, a tiny sky and a crowd; then a cat alone."""
    (tmp_path / "val").mkdir()
    (tmp_path / "panoptic_val").mkdir()
    for name in ("a", "b"):
        Image.new("RGB", (WIDTH, HEIGHT), (10, 20, 30)).save(tmp_path / "val" / f"{name}.jpg")
    ids = np.zeros((HEIGHT, WIDTH), dtype=np.int64)
    ids[10:25, 5:20] = 70_000  # the cat: R = 112, G = 17, B = 1
    ids[0:4, 0:10] = 300  # sky, upper piece
    ids[8:9, 30:35] = 300  # sky, lower piece: span 0..34 x 0..8
    ids[28:30, 0:3] = 5  # tiny sky: span 2 x 1
    png = np.stack([ids % 256, ids // 256 % 256, ids // 65536], axis=-1).astype(np.uint8)
    Image.fromarray(png).save(tmp_path / "panoptic_val" / "a.png")
    Image.fromarray(np.zeros_like(png)).save(tmp_path / "panoptic_val" / "b.png")
    write(tmp_path, annotations())
    return tmp_path


def annotations():
    return {
        "images": [
            {"id": 11, "file_name": "a.jpg", "width": WIDTH, "height": HEIGHT},
            {"id": 12, "file_name": "b.jpg", "width": WIDTH, "height": HEIGHT},
            {"id": 13, "file_name": "unlabelled.jpg", "width": 1, "height": 1},
        ],
        "categories": CATEGORIES,
        "annotations": [
            {
                "image_id": 11,
                "file_name": "a.png",
                # The annotated boxes of stuff are not used; the cat's is.
                "segments_info": [
                    segment(70_000, 3, [5, 10, 15, 15]),
                    segment(300, 9, [0, 0, 35, 9]),
                    segment(5, 9, [0, 28, 3, 2]),
                    segment(6, 3, [0, 0, 40, 30], iscrowd=1),
                ],
            },
            {
                "image_id": 12,
                "file_name": "b.png",
                "segments_info": [segment(1, 3, [0, 0, 8, 8]), segment(2, 3, [0, 0, 8, 7.9])],
            },
        ],
    }


def write(root, data, name="panoptic_val.json"):
    (root / name).write_text(json.dumps(data))


def build(root, **options):
    options = {"transform": {"size": 16}, **options}
    return PanopticRegionDataset(
        root / "panoptic_val.json", root / "val", root / "panoptic_val", **options
    )


def test_pixel_span_box_ends_at_the_last_pixel_index():
    mask = np.zeros((6, 8), dtype=bool)
    mask[2:5, 1:4] = True
    assert pixel_span_box(mask) == (1, 2, 3, 4)
    assert pixel_span_box(np.zeros((2, 2), bool)) is None


def test_regions_follow_the_published_protocol(root):
    item = build(root)[0]
    sample = item["data_sample"]
    # cat as annotated, sky one pixel short on both axes, tiny sky dropped, the crowd kept
    assert sample["labels"].tolist() == [0, 1, 0]
    assert sample["areas"].tolist() == [15 * 15, 34 * 8, 1200]
    assert (sample["image_id"], sample["file_name"]) == (11, "a.jpg")
    expected = torch.tensor([[5, 10, 20, 25], [0, 0, 34, 8], [0, 0, 40, 30]])
    expected = expected / torch.tensor([WIDTH, HEIGHT] * 2)
    assert torch.allclose(item["boxes"], expected)
    assert item["image"].shape == (3, 16, 16)
    assert item["image"].dtype == torch.uint8
    assert item["skipped"] == []


def test_limits_on_the_area_are_inclusive(root):
    assert build(root)[1]["data_sample"]["areas"].tolist() == [64]
    assert build(root, min_area=0)[1]["data_sample"]["areas"].tolist() == [64, 8 * 7.9]
    assert build(root, max_area=300)[0]["data_sample"]["areas"].tolist() == [225, 272]


def test_segments_are_counted_before_the_area_is_looked_at(root):
    # Of the first three the third is too small; it is not replaced by the fourth.
    assert build(root, max_regions=3)[0]["data_sample"]["labels"].tolist() == [0, 1]


def test_images_without_segments_are_left_out(root):
    assert [image.image_id for image in build(root).images] == [11, 12]


def test_padding_scales_boxes_by_the_longer_side(root):
    item = build(root, transform=ImageTransform(16, "pad"))[0]
    assert torch.allclose(item["boxes"][0], torch.tensor([5, 10, 20, 25]) / 40)


def test_boxes_are_clipped_and_those_outside_reported(root):
    data = annotations()
    data["annotations"][1]["segments_info"] = [
        segment(1, 3, [30, 20, 20, 20]),
        segment(2, 3, [100, 0, 20, 20]),
    ]
    write(root, data)
    item = build(root)[1]
    assert torch.allclose(item["boxes"], torch.tensor([[30 / 40, 20 / 30, 1.0, 1.0]]))
    assert item["data_sample"]["areas"].tolist() == [400]
    assert item["skipped"] == [(str(root / "val" / "b.jpg"), "1 boxes lie outside the image")]


def test_a_vocabulary_maps_ids_to_its_own_indices(root):
    file = root / "vocabulary.json"
    categories = [
        {"id": 1, "name": "dog", "isthing": 1},
        {"id": 9, "name": "blue sky", "synonyms": ["sky"], "isthing": 0},
        {"id": 3, "name": "cat", "isthing": 1},
    ]
    file.write_text(json.dumps({"categories": categories}))
    dataset = build(root, vocabulary=file)
    assert dataset.metainfo["classes"] == ("dog", "blue sky", "cat")
    assert dataset[0]["data_sample"]["labels"].tolist() == [2, 1, 2]


@pytest.mark.parametrize(
    ("categories", "message"),
    [
        ([{"id": 3, "name": "cat", "isthing": 1}], r"category 9 \('sky'\) is not in"),
        ([{"id": 3, "name": "dog", "isthing": 1}, CATEGORIES[1]], "category 3 is 'cat' here but"),
        ([CATEGORIES[0], {"id": 9, "name": "sky"}], "whether 'sky' is a thing"),
    ],
)
def test_a_vocabulary_that_does_not_fit(root, categories, message):
    file = root / "vocabulary.json"
    file.write_text(json.dumps({"categories": categories}))
    with pytest.raises(ValueError, match=message):
        build(root, vocabulary=str(file))


def test_unusable_files_are_records_not_crashes(root):
    dataset = build(root)
    (root / "val" / "b.jpg").write_bytes(b"no image")
    (root / "panoptic_val" / "a.png").unlink()
    assert dataset[0] == {"skipped": [(str(root / "panoptic_val" / "a.png"), "no such file")]}
    (file, reason), *rest = dataset[1]["skipped"]
    assert (file, rest) == (str(root / "val" / "b.jpg"), [])
    assert "cannot be decoded" in reason
    batch = collate_evaluation([dataset[0], dataset[1]])
    assert batch["images"].shape[0] == 0
    assert batch["data_samples"] == []
    assert [file for file, _ in batch["skipped"]] == [
        str(root / "panoptic_val" / "a.png"),
        str(root / "val" / "b.jpg"),
    ]


def test_truncated_image(root):
    path = root / "val" / "a.jpg"
    path.write_bytes(path.read_bytes()[:-200])
    assert "cannot be decoded" in build(root)[0]["skipped"][0][1]


@pytest.mark.parametrize("folder", ["val", "panoptic_val"])
def test_sizes_must_agree(root, folder):
    name = "a.jpg" if folder == "val" else "a.png"
    Image.new("RGB", (7, 5)).save(root / folder / name)
    assert "is 7 x 5 pixels" in build(root)[0]["skipped"][0][1]


def test_a_stuff_segment_without_pixels_is_reported(root):
    Image.new("RGB", (WIDTH, HEIGHT)).save(root / "panoptic_val" / "a.png")
    item = build(root)[0]
    assert item["data_sample"]["labels"].tolist() == [0, 0]
    assert [reason for _, reason in item["skipped"]] == [
        "segment 300 has no pixels",
        "segment 5 has no pixels",
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.pop("categories"), "missing key 'categories'"),
        (lambda d: d["images"][0].pop("width"), r"images\[0\]: missing key 'width'"),
        (lambda d: d["annotations"][1].pop("file_name"), r"annotations\[1\]: missing key 'file_"),
        (
            lambda d: d["annotations"][0]["segments_info"][0].update(bbox=[1, 2, 3]),
            "'bbox' must be four numbers",
        ),
        (
            lambda d: d["annotations"][0]["segments_info"][0].update(category_id=4),
            r"segments_info\[0\]: category_id 4 is not among the file's categories",
        ),
        (lambda d: d["annotations"][0].update(image_id=99), "image_id 99 is not among 'images'"),
        (lambda d: d.update(annotations=[]), "no image has an annotated region"),
        (
            lambda d: d.update(annotations=[{"image_id": 11, "category_id": 3, "bbox": [0] * 4}]),
            "use InstanceRegionDataset",
        ),
    ],
)
def test_malformed_annotations_are_one_clear_error(root, change, message):
    data = annotations()
    change(data)
    write(root, data)
    with pytest.raises(ValueError, match=message) as error:
        build(root)
    assert "panoptic_val.json" in str(error.value)


def test_missing_files_and_folders(root):
    with pytest.raises(FileNotFoundError, match=r"missing\.json does not exist"):
        PanopticRegionDataset(
            root / "missing.json", root / "val", root / "panoptic_val", transform={"size": 8}
        )
    with pytest.raises(FileNotFoundError, match=r"panoptic PNGs: folder .*nowhere"):
        PanopticRegionDataset(
            root / "panoptic_val.json", root / "val", root / "nowhere", transform={"size": 8}
        )
    with pytest.raises(FileNotFoundError, match=r"none of the 2 images .* is in .*panoptic_val "):
        PanopticRegionDataset(
            root / "panoptic_val.json",
            root / "panoptic_val",
            root / "panoptic_val",
            transform={"size": 8},
        )


def test_not_json(root):
    (root / "panoptic_val.json").write_text("{")
    with pytest.raises(ValueError, match=r"panoptic_val\.json is not valid JSON"):
        build(root)


def test_contradictory_limits(root):
    with pytest.raises(ValueError, match="min_area"):
        build(root, min_area=10, max_area=5)
    with pytest.raises(ValueError, match="max_regions"):
        build(root, max_regions=0)
    with pytest.raises(TypeError, match="transform must be"):
        build(root, transform=224)


def instances():
    def annotation(image_id, category_id, bbox):
        return {"image_id": image_id, "category_id": category_id, "bbox": bbox}

    data = annotations()
    data["annotations"] = [
        annotation(12, 9, [0, 0, 10, 10]),
        annotation(11, 3, [5, 10, 15, 15]),
        annotation(11, 9, [0, 0, 2, 2]),
        annotation(11, 9, [0, 0, 40, 30]),
    ]
    return data


def test_instances_as_the_source(root):
    write(root, instances(), "instances_val.json")
    dataset = InstanceRegionDataset(
        root / "instances_val.json", root / "val", transform={"size": 16}, max_regions=2
    )
    assert [image.image_id for image in dataset.images] == [11, 12]
    assert dataset[0]["data_sample"]["labels"].tolist() == [0]
    assert torch.allclose(dataset[0]["boxes"], torch.tensor([[5 / 40, 10 / 30, 20 / 40, 25 / 30]]))
    assert dataset[1]["data_sample"]["labels"].tolist() == [1]
    with pytest.raises(ValueError, match="use PanopticRegionDataset"):
        InstanceRegionDataset(root / "panoptic_val.json", root / "val", transform={"size": 16})


def test_lvis_style_paths(root):
    data = instances()
    for image in data["images"]:
        image["coco_url"] = f"http://somewhere/val/{image.pop('file_name')}"
    write(root, data, "lvis.json")
    dataset = InstanceRegionDataset(root / "lvis.json", root, transform={"size": 16})
    assert dataset[0]["data_sample"]["file_name"] == "val/a.jpg"


def test_masks_in_place_of_boxes(root):
    """Cells of 20 x 15 pixels; the cat is 15 x 15 of them, 10 in the upper row."""
    item = build(root, mask_grid=(2, 2))[0]
    expected = [[[75 / 300, 0], [150 / 300, 0]], [[40 / 300, 5 / 300], [0, 0]]]
    torch.testing.assert_close(item["masks"], torch.tensor(expected))
    assert "boxes" not in item
    assert item["data_sample"]["labels"].tolist() == [0, 1]
    assert item["data_sample"]["areas"].tolist() == [225, 45]
    # The crowd has no pixel of its own in the PNG.
    assert item["skipped"] == [(str(root / "val" / "a.jpg"), "region 3 has no mask")]


def test_masks_of_instances_in_every_form(root):
    left = np.zeros((HEIGHT, WIDTH), dtype=np.uint8, order="F")
    left[:, :10] = 1
    code = mask_utils.encode(left)["counts"].decode()
    size = {"size": [HEIGHT, WIDTH]}
    forms = [
        [[0, 0, 10, 0, 10, HEIGHT, 0, HEIGHT]],
        {**size, "counts": [0, HEIGHT * 10, HEIGHT * 30]},
        {**size, "counts": code},
        None,
    ]
    data = annotations() | {
        "annotations": [
            {"image_id": 11, "category_id": 3, "bbox": [0, 0, 9, 9], "segmentation": form}
            for form in forms
        ]
    }

    def item():
        write(root, data, "masks.json")
        grid = {"transform": {"size": 16}, "mask_grid": (1, 2)}
        return InstanceRegionDataset(root / "masks.json", root / "val", **grid)[0]

    found = item()
    torch.testing.assert_close(found["masks"], torch.tensor([[[0.5, 0]]] * 3))
    assert found["skipped"] == [(str(root / "val" / "a.jpg"), "region 3 has no mask")]
    data["annotations"][2]["segmentation"]["counts"] = code[:-1] + "~"
    assert item()["skipped"][0][1].startswith("region 2: a segmentation cannot be decoded")


def test_collate_packs_regions(root):
    dataset = build(root)
    bad = {"skipped": [("x.jpg", "broken")]}
    batch = collate_evaluation([dataset[1], bad, dataset[0]])
    assert batch["images"].shape == (2, 3, 16, 16)
    assert batch["boxes"].shape == (4, 4)
    assert batch["region_image"].tolist() == [0, 1, 1, 1]
    assert [sample["image_id"] for sample in batch["data_samples"]] == [12, 11]
    assert batch["skipped"] == [("x.jpg", "broken")]
    assert "texts" not in batch


def test_collate_leaves_out_boxes_without_rows(root):
    batch = collate_evaluation([build(root, min_area=5000)[0]])
    assert "boxes" not in batch
    assert len(batch["images"]) == 1


def test_configs_can_name_dataset_and_collate(root):
    dataset = DATASETS.build(
        {
            "type": "fineclip.PanopticRegionDataset",
            "annotation_file": str(root / "panoptic_val.json"),
            "image_root": str(root / "val"),
            "panoptic_root": str(root / "panoptic_val"),
            "transform": {"size": 16},
        }
    )
    assert len(dataset) == 2
    # mmengine's loaders ask the root registry, which finds the name with its scope alone.
    assert FUNCTIONS.parent.get("fineclip.collate_evaluation") is collate_evaluation
