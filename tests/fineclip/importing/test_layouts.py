"""Layouts of other programs: what they say comes out the same, image files byte for byte."""

import json
import os
from pathlib import Path

import numpy as np
import own_data
import pytest
import supervision
from PIL import Image

from fineclip.datasets.description import read_description
from fineclip.importing import ImportOptions, import_data

LAYOUTS = [(form, layout) for form, layouts in own_data.LAYOUTS.items() for layout in layouts]


@pytest.mark.parametrize(("form", "layout"), LAYOUTS, ids=[each.__name__ for _, each in LAYOUTS])
def test_every_layout_says_the_same(tmp_path, form, layout):
    """Also without --from, and classes keep the order of their numbers."""
    layout(tmp_path / "src")
    result = import_data(tmp_path / "src", tmp_path / "out")
    assert result.form == form
    expected = own_data.expected()
    if layout is own_data.label_studio:
        expected = {f"0a1b2c3d-{s}" if v[0] == "train" else s: v for s, v in expected.items()}
    assert own_data.imported(tmp_path / "out") == expected
    classes = sorted(own_data.CLASSES) if form == "voc" else list(own_data.CLASSES)
    assert list(result.classes) == classes
    description = read_description(tmp_path / "out")
    assert list(description.vocabulary.names) == classes
    for split in ("train", "val"):
        assert description.require(split, "annotations").captions is None


def test_image_files_are_copied_byte_for_byte(tmp_path):
    own_data.ultralytics(tmp_path / "src")
    import_data(tmp_path / "src", tmp_path / "out", form="yolo")
    source, copy = tmp_path / "src/images/train/ç.jpg", tmp_path / "out/train/ç.jpg"
    assert copy.read_bytes() == source.read_bytes()
    assert copy.stat().st_ino != source.stat().st_ino
    import_data(tmp_path / "src", tmp_path / "out", form="yolo", link=True, overwrite=True)
    assert copy.stat().st_ino == source.stat().st_ino


@pytest.fixture
def written(tmp_path):
    """The data as another library holds it, ready for its writers; the last box has a mask."""
    own_data.write_images(tmp_path / "pictures")
    annotations = {}
    for stem, boxes in own_data.BOXES.items():
        width, height = own_data.SIZES[stem]
        corners = np.array([(x, y, x + w, y + h) for _, x, y, w, h in boxes], float).reshape(-1, 4)
        masks = np.zeros((len(boxes), height, width), bool)
        for mask, (_, x, y, w, h) in zip(masks, boxes, strict=True):
            mask[y : y + h, x : x + w] = True
        labels = np.array([box[0] for box in boxes], int)
        path = str(tmp_path / "pictures" / f"{stem}.jpg")
        annotations[path] = supervision.Detections(corners, mask=masks, class_id=labels)
    return supervision.DetectionDataset(list(own_data.CLASSES), list(annotations), annotations)


def _without_masks(dataset):
    for detections in dataset.annotations.values():
        detections.mask = None
    return dataset


def test_what_supervision_writes_as_yolo(tmp_path, written):
    src = tmp_path / "src"
    _without_masks(written).as_yolo(
        str(src / "images"), str(src / "labels"), str(src / "data.yaml")
    )
    import_data(src, tmp_path / "out", form="yolo", shares=[1])
    found = own_data.imported(tmp_path / "out")
    assert {stem: boxes for stem, (_, boxes) in found.items()} == {
        stem: [(name, *(pytest.approx(v, abs=0.01) for v in box)) for name, *box in boxes]
        for stem, (_, boxes) in own_data.expected().items()
    }


def test_what_supervision_writes_as_pascal_voc(tmp_path, written):
    src = tmp_path / "src"
    _without_masks(written).as_pascal_voc(str(src / "images"), str(src / "annotations"))
    import_data(src, tmp_path / "out", form="voc", shares=[1])
    found = own_data.imported(tmp_path / "out")
    expected = own_data.expected()
    assert {s: boxes for s, (_, boxes) in found.items()} == {s: b for s, (_, b) in expected.items()}


def test_what_supervision_writes_as_coco_with_masks(tmp_path, written):
    src = tmp_path / "src"
    written.as_coco(str(src / "images"), str(src / "result.json"))
    import_data(src, tmp_path / "out", form="coco", shares=[1])
    found = own_data.imported(tmp_path / "out")
    expected = own_data.expected()
    assert {s: boxes for s, (_, boxes) in found.items()} == {s: b for s, (_, b) in expected.items()}
    data = json.loads((tmp_path / "out/annotations/instances_train.json").read_text())
    before = json.loads((src / "result.json").read_text())["annotations"]
    assert all(annotation["segmentation"] for annotation in data["annotations"])
    for key in ("area", "segmentation"):
        assert sorted(str(a[key]) for a in data["annotations"]) == sorted(
            str(a[key]) for a in before
        )


def test_polygons_and_oriented_boxes_of_yolo(tmp_path):
    src = tmp_path / "src"
    own_data.write_images(src, ["a"])
    polygon = [4, 4, 24, 4, 24, 16, 14, 10, 4, 16]
    line = " ".join(f"{v / (48, 32)[i % 2]:.7f}" for i, v in enumerate(polygon))
    (src / "a.txt").write_text(f"1 {line}\n0 0.5 0.5 0.25 0.25\n")
    options = ImportOptions(classes=own_data.CLASSES)
    import_data(src, tmp_path / "out", form="yolo", options=options)
    data = json.loads((tmp_path / "out/annotations/instances_train.json").read_text())
    with_mask, plain = data["annotations"]
    assert with_mask["segmentation"] == [pytest.approx(polygon, abs=1e-3)]
    assert with_mask["bbox"] == pytest.approx([4, 4, 20, 12], abs=1e-3)
    assert with_mask["area"] == pytest.approx(20 * 12 - 60, abs=0.01)
    assert plain["bbox"] == [18, 12, 12, 8]


def test_messy_labels_are_mended_and_counted(tmp_path):
    """Empty, missing, repeated, sticking out, with scores, beyond images, unpaired."""
    src = tmp_path / "src"
    own_data.write_images(src / "images")
    (src / "images" / "note.gif.part").write_text("")
    own_data.write_yolo_labels(src / "labels", ["a", "ç"])
    lines = [own_data.yolo_line("d", *box) for box in own_data.BOXES["d"]]
    text = "\n".join([lines[0], lines[0], f"{lines[1]} 0.93", "0 0.99 0.5 0.2 0.5", "", "  "])
    (src / "labels" / "d.txt").write_text(text + "\r\n2 0.5 0.5 0 0.1")
    (src / "labels" / "gone.txt").write_text("0 0.5 0.5 0.5 0.5")
    options = ImportOptions(classes=own_data.CLASSES)
    result = import_data(src, tmp_path / "out", form="yolo", options=options, shares=[1])
    told = "\n".join(result.lines())
    for line in (
        "dropped 1 x scores after a box: labels/d.txt:3",
        "mended  1 x repeated lines of a label file, left out: labels/d.txt:2",
        "noted   2 x images without a label file: nothing is on them: images/b b.jpg, images/e.jpg",
        "noted   1 x label files without an image: labels/gone.txt",
        "mended  1 x box beyond its image, cut to it: labels/d.txt:4",
        "dropped 1 x box without width or height: labels/d.txt:7",
    ):
        assert line in told
    found = own_data.imported(tmp_path / "out")
    assert found["d"][1] == [
        ("bolt", 0, 10, 16, 30),
        ("bolt", 16, 4, 32, 20),
        ("widget", 56.96, 10, 7.04, 20),
    ]
    assert found["ç"][1] == found["e"][1] == []


def test_a_split_without_labels_is_no_split_of_empty_images(tmp_path):
    """As COCO's test images are; and of key points the box is taken."""
    own_data.write_images(tmp_path / "src/train/images", ["a", "ç"])
    own_data.write_images(tmp_path / "src/test/images", ["d", "e"])
    text = "kpt_shape: [2, 3]\ntrain: train/images\ntest: test/images\nnames: [x]"
    (tmp_path / "src/data.yaml").write_text(text)
    (tmp_path / "src/train/labels").mkdir()
    label = "0 0.5 0.5 0.5 0.5 0.1 0.1 2 0.2 0.2 0"
    (tmp_path / "src/train/labels/a.txt").write_text(label)
    result = import_data(tmp_path / "src", tmp_path / "out")
    told = "\n".join(result.lines())
    assert "2 x images of test, of which none has a label file, left out" in told
    found = own_data.imported(tmp_path / "out")
    assert {name: boxes for name, (_, boxes) in found.items()} == {
        "a": [("x", 12, 8, 24, 16)],
        "ç": [],
    }
    # Training alone leaves nothing to evaluate on, so it was divided.
    assert {split for split, _ in found.values()} == {"train", "val"}


@pytest.mark.parametrize("val", ["images", "val.txt"])
def test_images_of_several_splits_are_trained_on_or_divided(tmp_path, val):
    """Many name one folder for both; whatever is evaluated on must not be trained on."""
    src, out = tmp_path / "src", tmp_path / "out"
    own_data.write_images(src / "images", ["a", "d", "e"])
    own_data.write_yolo_labels(src / "images", ["a", "d", "e"])
    names = "\n".join(f"  - {name}" for name in own_data.CLASSES)
    text = f"train: {'images' if val == 'images' else 'train.txt'}\nval: {val}\nnames:\n{names}"
    (src / "data.yaml").write_text(text)
    (src / "train.txt").write_text("images/a.jpg\nimages/d.jpg\n")
    (src / "val.txt").write_text("images/d.jpg\nimages/e.jpg\n")
    result = import_data(src, out, form="yolo")
    assert "x images that several splits hold" in "\n".join(result.lines())
    found = {name: split for name, (split, _) in own_data.imported(out).items()}
    if val == "images":
        assert sorted(found.values()) == ["test", "train", "val"]
    else:
        assert found == {"a": "train", "d": "train", "e": "val"}


def test_names_that_are_no_text(tmp_path):
    """From old archives; the new ones can be written to annotation files, and printed."""
    own_data.write_images(tmp_path / "src", ["a"])
    (tmp_path / "src/a.jpg").rename(os.fsdecode(bytes(tmp_path / "src") + b"/caf\xe9.jpg"))
    Path(os.fsdecode(bytes(tmp_path / "src") + b"/caf\xe9.txt")).write_text("0 0.5 0.5 0.5 0.5")
    options = ImportOptions(classes=["x"])
    result = import_data(tmp_path / "src", tmp_path / "out", form="yolo", options=options)
    assert own_data.imported(tmp_path / "out").keys() == {r"caf_udce9"}
    "\n".join(result.lines()).encode()


def test_images_of_one_name_stay_two(tmp_path):
    src = tmp_path / "src"
    for number, folder in enumerate(("left", "Right")):
        (src / folder).mkdir(parents=True)
        own_data.picture(number, (40, 40)).save(src / folder / "1.jpg")
        (src / folder / "1.txt").write_text(f"{number} 0.5 0.5 0.5 0.5")
    own_data.picture(7, (40, 40)).save(src / "1.png")
    (src / "1.txt").write_text("2 0.5 0.5 0.5 0.5")
    (src / "classes.txt").write_text("\n".join(own_data.CLASSES))
    result = import_data(src, tmp_path / "out", form="yolo", shares=[1])
    found = own_data.imported(tmp_path / "out")
    assert {stem: boxes[0][0] for stem, (_, boxes) in found.items()} == {
        "1": "big nut",
        "left_1": "widget",
        "Right_1": "bolt",
    }
    assert "2 x images renamed" in "\n".join(result.lines())


def test_boxes_are_of_the_upright_image(tmp_path):
    src = tmp_path / "src"
    src.mkdir()
    exif = Image.Exif()
    exif[0x112] = 6  # to be turned by 90 degrees
    own_data.picture(1, (40, 20)).save(src / "a.jpg", exif=exif)
    (src / "a.txt").write_text("0 0.5 0.25 1 0.5")
    options = ImportOptions(classes=["x"])
    import_data(src, tmp_path / "out", form="yolo", options=options)
    data = json.loads((tmp_path / "out/annotations/instances_train.json").read_text())
    assert (data["images"][0]["width"], data["images"][0]["height"]) == (20, 40)
    assert data["annotations"][0]["bbox"] == [0, 0, 20, 20]


def test_difficult_objects_are_ignored_regions(tmp_path):
    src = tmp_path / "src"
    own_data.write_images(src, ["a"])
    xml = own_data.voc_xml("a").replace("<difficult>0", "<difficult>1", 1)
    (src / "a.xml").write_text(xml)
    import_data(src, tmp_path / "out", form="voc")
    data = json.loads((tmp_path / "out/annotations/instances_train.json").read_text())
    names = {c["id"]: c["name"] for c in data["categories"]}
    found = {names[a["category_id"]]: a["iscrowd"] for a in data["annotations"]}
    assert found == {"widget": 1, "bolt": 0}


def test_a_name_finds_no_file_outside(tmp_path):
    """Neither by a path upwards nor by an absolute one; a link that the user has laid counts."""
    own_data.write_images(tmp_path / "secret", ["a"])
    own_data.write_images(tmp_path / "src", ["d"])

    def naming(name):
        names = {"a": name, "d": "d.jpg"}
        data = own_data.coco_file(["a", "d"], names.__getitem__)
        own_data.write_json(tmp_path / "src/x.json", data)

    naming("../secret/a.jpg")
    with pytest.raises(ValueError, match="leads out of the folder"):
        import_data(tmp_path / "src", tmp_path / "out")
    assert not (tmp_path / "out").exists()
    naming(str(tmp_path / "secret/a.jpg"))
    result = import_data(tmp_path / "src", tmp_path / "out")
    assert own_data.imported(tmp_path / "out").keys() == {"d"}
    assert "1 x images that are not there or cannot be read: x.json: images[0]" in "\n".join(
        result.lines()
    )
    (tmp_path / "src/a.jpg").symlink_to(tmp_path / "secret/a.jpg")
    import_data(tmp_path / "src", tmp_path / "out", overwrite=True)
    assert own_data.imported(tmp_path / "out").keys() == {"a", "d"}


def test_an_import_is_whole_or_absent(tmp_path):
    own_data.plain_coco(tmp_path / "src")
    out = tmp_path / "out"

    def stop(what, done, total):
        if what == "images" and done == 3:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_data(tmp_path / "src", out, progress=stop)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["src"]
    import_data(tmp_path / "src", out)
    before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    with pytest.raises(FileExistsError, match="--overwrite"):
        import_data(tmp_path / "src", out)
    with pytest.raises(KeyboardInterrupt):
        import_data(tmp_path / "src", out, overwrite=True, progress=stop)
    assert before == {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
    (out / "mine.txt").write_text("by hand")
    with pytest.raises(FileExistsError, match=r"holds mine\.txt, which no import has written"):
        import_data(tmp_path / "src", out, overwrite=True)
    with pytest.raises(ValueError, match="lie in one another"):
        import_data(tmp_path / "src", tmp_path / "src" / "out")
