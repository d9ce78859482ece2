import json

import pytest
import torch
from PIL import Image

from fineclip.datasets.evaluation_batch import collate_evaluation
from fineclip.datasets.retrieval import RetrievalDataset


def tokenizer(texts):
    return torch.tensor([[len(text), 0, 0] for text in texts])


@pytest.fixture
def root(tmp_path):
    for name in ("a.jpg", "b.jpg", "c.jpg"):
        Image.new("RGB", (20, 10)).save(tmp_path / name)
    return tmp_path


COCO = {
    "images": [
        {"id": 5, "file_name": "a.jpg"},
        {"id": 6, "file_name": "b.jpg"},
        {"id": 7, "file_name": "c.jpg"},
    ],
    "annotations": [
        {"image_id": 7, "caption": "x"},
        {"image_id": 5, "caption": "xx"},
        {"image_id": 7, "caption": "Xxx. "},
    ],
}


def build(captions, root, **options):
    options = {"transform": {"size": 8}, "tokenizer": tokenizer, **options}
    return RetrievalDataset(captions, root, **options)


def test_all_captions_of_an_image_as_written(root):
    file = root / "captions.json"
    file.write_text(json.dumps(COCO))
    dataset = build(file, root)
    assert len(dataset) == 3
    item = dataset[2]
    assert item["texts"].tolist() == [[1, 0, 0], [5, 0, 0]]
    assert item["texts"].dtype == torch.int64
    assert item["data_sample"] == {
        "image_id": 7,
        "file_name": "c.jpg",
        "captions": ("x", "Xxx. "),
    }
    assert item["image"].shape == (3, 8, 8)


def test_images_without_caption_stay(root):
    item = build(COCO, root)[1]
    assert item["texts"].shape == (0, 3)
    batch = collate_evaluation([build(COCO, root)[i] for i in range(3)])
    assert batch["text_image"].tolist() == [0, 2, 2]
    assert batch["texts"].shape == (3, 3)
    assert "texts" not in collate_evaluation([item])


def test_lists_join_entries_of_one_image(root):
    entries = [
        {"image": "b.jpg", "caption": ["one", "two"]},
        {"image": "a.jpg", "caption": "three"},
        {"image": "b.jpg", "caption": "four"},
    ]
    dataset = build(entries, root)
    assert dataset.images == [
        ("b.jpg", "b.jpg", ("one", "two", "four")),
        ("a.jpg", "a.jpg", ("three",)),
    ]


def test_an_undecodable_image_is_a_record(root):
    (root / "a.jpg").write_bytes(b"")
    item = build(COCO, root)[0]
    assert set(item) == {"skipped"}
    assert item["skipped"][0][0] == str(root / "a.jpg")


def test_tokenizer_by_model_name(root):
    assert build(COCO, root, tokenizer="ViT-B-32")[2]["texts"].shape == (2, 77)
    short = build(COCO, root, tokenizer="ViT-B-32", context_length=9)
    assert short[2]["texts"].shape == (2, 9)


@pytest.mark.parametrize(
    ("captions", "message"),
    [
        ({"images": []}, "missing key 'annotations'"),
        ({"images": [{"id": 1}], "annotations": []}, r"images\[0\]: missing key 'file_name'"),
        ({**COCO, "annotations": []}, "no image has a caption"),
        ({**COCO, "annotations": [{"image_id": 5, "caption": " "}]}, "no image has a caption"),
        ([{"image": "a.jpg", "caption": [""]}], "no image has a caption"),
        ({**COCO, "annotations": [{"image_id": 1, "caption": "x"}]}, "image_id 1 is not among"),
        ({**COCO, "annotations": [{"image_id": 5, "caption": 3}]}, "'caption' must be a string"),
        ([{"image": "a.jpg"}], r"captions\[0\]: missing key 'caption'"),
        ([{"image": 3, "caption": "x"}], "'image' must be a file name"),
    ],
)
def test_malformed_captions(root, captions, message):
    with pytest.raises(ValueError, match=message):
        build(captions, root)


def test_missing_files(root):
    with pytest.raises(FileNotFoundError, match=r"nothing\.json does not exist"):
        build(root / "nothing.json", root)
    with pytest.raises(FileNotFoundError, match=r"images: folder .*nowhere does not exist"):
        build(COCO, root / "nowhere")
    (root / "empty").mkdir()
    with pytest.raises(FileNotFoundError, match="none of the 3 images"):
        build(COCO, root / "empty")
    with pytest.raises(TypeError, match="expected a mapping or a list"):
        build(3, root)
