import json
import os

import pytest
from PIL import Image

from fineclip.annotations import audit_boxes, read_boxes, read_captions, read_panoptic
from fineclip.checkpoints import CheckpointError, read_checkpoint
from fineclip.datasets.retrieval import RetrievalDataset
from fineclip.datasets.shard_writer import make_shards
from fineclip.files import read_json
from fineclip.images import UnusableImageError, read_image
from fineclip.paths import inside, require_regular

OUTSIDE = ["../secret.txt", "/etc/hostname", "a/../../secret.txt", "..", "a/b/../../../c.jpg"]


@pytest.mark.parametrize("name", OUTSIDE)
def test_names_that_lead_out_are_refused(tmp_path, name):
    with pytest.raises(ValueError, match="leads out of the folder"):
        inside(tmp_path, name)


@pytest.mark.parametrize(
    ("name", "path"),
    [("a.jpg", "a.jpg"), ("a/../b.jpg", "b.jpg"), ("./a/b.jpg", "a/b.jpg"), ("..a/b..", "..a/b..")],
)
def test_names_within_a_folder(tmp_path, name, path):
    assert inside(tmp_path, name) == tmp_path / path


def test_a_folder_may_be_a_link(tmp_path):
    """``data/coco/train2017 -> /disk/train2017`` is what many have; ``..`` does not follow it."""
    (tmp_path / "disk/deep").mkdir(parents=True)
    (tmp_path / "root").mkdir()
    (tmp_path / "root/train").symlink_to(tmp_path / "disk/deep")
    Image.new("RGB", (8, 8)).save(tmp_path / "disk/deep/a.png")
    Image.new("RGB", (8, 8)).save(tmp_path / "disk/secret.png")
    assert read_image(inside(tmp_path / "root", "train/a.png")).size == (8, 8)
    with pytest.raises(UnusableImageError, match=r"root/secret\.png: no such file"):
        read_image(inside(tmp_path / "root", "train/../secret.png"))


def annotations(name, key="file_name"):
    image = {"id": 1, key: name, "width": 8, "height": 8}
    box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0, 0, 4, 4], "iscrowd": 0, "area": 16}
    return {
        "images": [image],
        "annotations": [box],
        "categories": [{"id": 1, "name": "cat"}],
    }


def captions(name):
    return {
        "images": [{"id": 1, "file_name": name}],
        "annotations": [{"id": 1, "image_id": 1, "caption": "a cat"}],
    }


def panoptic(name):
    right = annotations("a.jpg")
    segments = {"image_id": 1, "file_name": name, "segments_info": []}
    return {**right, "annotations": [segments]}


@pytest.mark.parametrize("name", OUTSIDE)
@pytest.mark.parametrize(
    ("content", "read"),
    [
        (annotations, read_boxes),
        (captions, lambda file: read_captions(file, images=True)),
        (panoptic, read_panoptic),
    ],
)
def test_annotation_files_that_name_them_are_refused(tmp_path, name, content, read):
    (tmp_path / "a.json").write_text(json.dumps(content(name)))
    with pytest.raises(ValueError, match=r"a\.json.*file_name.*stays in the folder"):
        read(tmp_path / "a.json")


def test_an_address_may_not_end_in_one(tmp_path):
    """Of which the last two parts are the file."""
    data = annotations("http://host/../secret.jpg", "coco_url")
    (tmp_path / "a.json").write_text(json.dumps(data))
    with pytest.raises(ValueError, match=r"a\.json.*coco_url.*stays in the folder"):
        read_boxes(tmp_path / "a.json")


def test_an_lvis_file_may_not_hide_one(tmp_path):
    image = {
        "id": 1,
        "width": 8,
        "height": 8,
        "coco_url": "http://host/train2017/1.jpg",
        "neg_category_ids": [],
        "not_exhaustive_category_ids": [],
        "file_name": "../1.jpg",
    }
    _, report = audit_boxes({**annotations(""), "images": [image]}, "a.json")
    assert report.verdict == "refused"


def test_a_list_of_captions_may_not_name_them(tmp_path):
    with pytest.raises(ValueError, match="stays in the folder"):
        RetrievalDataset(
            [{"image": "../a.jpg", "caption": "a cat"}],
            tmp_path,
            tokenizer="ViT-Ti-16",
            transform={"size": 16},
        )


@pytest.mark.parametrize("name", ["../secret.txt", "/etc/hostname", "pipe.jpg", "null.jpg"])
def test_shards_hold_images_of_the_folder_alone(tmp_path, name):
    (tmp_path / "images").mkdir()
    (tmp_path / "secret.txt").write_text("secret")
    os.mkfifo(tmp_path / "images/pipe.jpg")
    (tmp_path / "images/null.jpg").symlink_to("/dev/zero")
    (tmp_path / "a.json").write_text(json.dumps(annotations(name)))
    with pytest.raises((ValueError, OSError), match=r"stays in the folder|pipe, socket or device"):
        make_shards(
            tmp_path / "out", image_root=tmp_path / "images", annotations=tmp_path / "a.json"
        )
    assert not (tmp_path / "out").exists()


def _pipe(folder):
    os.mkfifo(folder / "pipe.json")
    return folder / "pipe.json"


@pytest.mark.parametrize("make", [_pipe, lambda folder: "/dev/zero"])
@pytest.mark.parametrize(
    ("read", "error"),
    [
        (require_regular, OSError),
        (read_image, UnusableImageError),
        (lambda file: read_json(file, "annotations"), ValueError),
        (read_boxes, ValueError),
        (read_checkpoint, CheckpointError),
    ],
)
def test_no_reader_waits_for_a_pipe_or_reads_a_device(tmp_path, make, read, error):
    with pytest.raises(error, match=r"pipe, socket or device"):
        read(make(tmp_path))


def test_an_image_file_has_a_largest_size(tmp_path):
    with (tmp_path / "a.jpg").open("wb") as file:
        file.truncate(1 << 33)  # of nothing: no disk is taken
    with pytest.raises(UnusableImageError, match=r"a\.jpg: has 8589934592 bytes, more than"):
        read_image(tmp_path / "a.jpg")
