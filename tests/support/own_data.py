"""A small data set in the layouts that other programs write, and what it holds.

Five images, three classes. A layout is a function that writes it below a folder; all of them say
the same, so that whatever reads one can be held against :data:`BOXES`.
"""

import json
import unicodedata
from collections.abc import Callable
from functools import cache
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
from PIL import Image, ImageOps

CLASSES = ("widget", "bolt", "big nut")
SIZES = {"a": (48, 32), "b b": (40, 40), "ç": (32, 48), "d": (64, 40), "e": (48, 48)}
BOXES: dict[str, list[tuple[int, int, int, int, int]]] = {
    "a": [(0, 4, 4, 20, 12), (1, 24, 8, 16, 16)],
    "b b": [(2, 10, 20, 20, 10)],
    "ç": [],
    "d": [(1, 16, 4, 32, 20), (1, 0, 10, 16, 30)],
    "e": [(0, 12, 24, 12, 12)],
}
"""By stem: class, x, y, width and height in pixels."""

SPLIT = {"a": "train", "b b": "train", "ç": "train", "d": "train", "e": "val"}


@cache
def picture(number: int, size: tuple[int, int]) -> Image.Image:
    """An image that is no other's copy: a coarse random pattern, enlarged."""
    coarse = np.random.default_rng(number).integers(0, 256, (8, 8, 3), np.uint8)
    return Image.fromarray(coarse).resize(size, Image.Resampling.BICUBIC)


def write_images(folder: Path, stems=tuple(SIZES), suffix=".jpg") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, stem in enumerate(SIZES):
        if stem in stems:
            kind = "PNG" if suffix == ".png" else "JPEG"
            picture(number, SIZES[stem]).save(folder / f"{stem}{suffix}", kind)


def of_split(split: str) -> list[str]:
    return [stem for stem, own in SPLIT.items() if own == split]


def yolo_line(stem: str, label: int, x: int, y: int, w: int, h: int) -> str:
    width, height = SIZES[stem]
    centre = (x + w / 2) / width, (y + h / 2) / height
    return " ".join(map(str, (label, *centre, w / width, h / height)))


def write_yolo_labels(folder: Path, stems=tuple(SIZES), end="\n", encoding="utf-8") -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for stem in stems:
        text = "".join(yolo_line(stem, *box) + end for box in BOXES[stem])
        (folder / f"{stem}.txt").write_text(text, encoding=encoding, newline="")


def ultralytics(root: Path) -> None:
    for split in ("train", "val"):
        write_images(root / "images" / split, of_split(split))
        write_yolo_labels(root / "labels" / split, of_split(split))
    names = "\n".join(f"  {index}: {name}" for index, name in enumerate(CLASSES))
    (root / "data.yaml").write_text(
        f"path: /home/somebody/datasets/parts\ntrain: images/train\nval: images/val\ntest:\n"
        f"names:\n{names}\n"
    )


def roboflow_yolo(root: Path) -> None:
    for split, folder in (("train", "train"), ("val", "valid")):
        write_images(root / folder / "images", of_split(split))
        write_yolo_labels(root / folder / "labels", of_split(split), end="\r\n")
    (root / "README.roboflow.txt").write_text("made by somebody")
    (root / "data.yaml").write_text(
        "train: ../train/images\nval: ../valid/images\ntest: ../test/images\n\n"
        f"nc: 3\nnames: {json.dumps(list(CLASSES))}\n\nroboflow:\n  version: 1\n"
    )


def darknet(root: Path) -> None:
    """As CVAT writes "YOLO 1.1"."""
    for split, folder in (("train", "obj_train_data"), ("val", "obj_valid_data")):
        write_images(root / folder, of_split(split))
        write_yolo_labels(root / folder, of_split(split), encoding="utf-8-sig")
        name = {"train": "train.txt", "val": "valid.txt"}[split]
        lines = [f"data/{folder}/{stem}.jpg" for stem in of_split(split)]
        (root / name).write_text("\n".join(lines) + "\n")
    (root / "obj.names").write_text("\n".join(CLASSES) + "\n\n")
    (root / "obj.data").write_text(
        "classes = 3\ntrain = data/train.txt\nvalid = data/valid.txt\nnames = data/obj.names\n"
        "backup = backup/\n"
    )


def lists_of_another_machine(root: Path) -> None:
    write_images(root / "pictures", suffix=".JPG")
    write_yolo_labels(root / "labels", encoding="utf-16")
    for split in ("train", "val"):
        lines = [rf"C:\Users\me\pictures\{stem}.jpg" for stem in of_split(split)]
        (root / f"{split}.txt").write_text("\r\n".join(lines), encoding="utf-8-sig")
    (root / "classes.txt").write_text("\ufeff" + "\r\n".join(CLASSES), newline="")


def linked_folders(root: Path) -> None:
    """Images and labels on another disk, and a link that leads around."""
    disk = root.with_name(f"{root.name}-disk")
    for split in ("train", "val"):
        write_images(disk / split, of_split(split))
        write_yolo_labels(disk / split, of_split(split))
    root.mkdir()
    (root / "all").symlink_to(disk)
    (disk / "again").symlink_to(disk)
    (root / "classes.txt").write_text("\n".join(CLASSES))


def label_studio_yolo(root: Path) -> None:
    """Labels called as the uploads were, images as they are on disk, Unicode composed otherwise."""
    for split in ("train", "val"):
        write_images(root / "images" / split, of_split(split))
    cedilla = root / "images" / "train" / "ç.jpg"
    cedilla.rename(cedilla.with_name(unicodedata.normalize("NFD", "ç.jpg")))
    write_yolo_labels(root / "labels")
    for number, label in enumerate(sorted((root / "labels").iterdir())):
        label.rename(label.with_name(f"{number:08x}-{label.name}"))
    (root / "classes.txt").write_text("\n".join(CLASSES))
    (root / "notes.json").write_text('{"categories": [], "info": {}}')


def voc_xml(stem: str, *, first=1, file_name: str | None = None, path="", size=True) -> str:
    root = ElementTree.Element("annotation")
    ElementTree.SubElement(root, "filename").text = file_name or f"{stem}.jpg"
    ElementTree.SubElement(root, "path").text = path
    sides = ElementTree.SubElement(root, "size")
    for key, value in zip(("width", "height"), SIZES[stem] if size else (0, 0), strict=True):
        ElementTree.SubElement(sides, key).text = str(value)
    for label, x, y, w, h in BOXES[stem]:
        item = ElementTree.SubElement(root, "object")
        ElementTree.SubElement(item, "name").text = CLASSES[label]
        ElementTree.SubElement(item, "difficult").text = "0"
        bounds = ElementTree.SubElement(item, "bndbox")
        for key, value in zip(
            ("xmin", "ymin", "xmax", "ymax"),
            (x + first, y + first, x + w, y + h),
            strict=True,
        ):
            ElementTree.SubElement(bounds, key).text = str(value)
    return ElementTree.tostring(root, encoding="unicode")


def write_voc(folder: Path, stems=tuple(SIZES), **options) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for stem in stems:
        (folder / f"{stem}.xml").write_text(voc_xml(stem, **options), encoding="utf-8")


def devkit(root: Path) -> None:
    year = root / "VOCdevkit" / "VOC2007"
    write_images(year / "JPEGImages")
    write_voc(year / "Annotations")
    main = year / "ImageSets" / "Main"
    main.mkdir(parents=True)
    for split in ("train", "val"):
        (main / f"{split}.txt").write_text("\n".join(of_split(split)))
    (main / "trainval.txt").write_text("\n".join(SPLIT))
    (main / "widget_train.txt").write_text("a  1\n")


def labelimg(root: Path) -> None:
    """XML beside images; name and path are those from before the files were moved."""
    for split in ("train", "val"):
        write_images(root / split, of_split(split), suffix=".png")
        path = r"C:\Users\me\Desktop\IMG.png"
        write_voc(root / split, of_split(split), file_name="IMG", path=path, size=False)


def counted_from_zero(root: Path) -> None:
    for split, folder in (("train", "train"), ("val", "valid")):
        write_images(root / folder, of_split(split))
        write_voc(root / folder, of_split(split), first=0)


def coco_file(
    stems, name: Callable[[str], str] = "{}.jpg".format, categories=None, first_id=1
) -> dict:
    images = [
        {"id": number, "file_name": name(stem), "width": SIZES[stem][0], "height": SIZES[stem][1]}
        for number, stem in enumerate(stems, 10)
    ]
    boxes = [(image["id"], box) for image, s in zip(images, stems, strict=True) for box in BOXES[s]]
    annotations = [
        {
            "id": number,
            "image_id": image,
            "category_id": label + first_id,
            "bbox": [x, y, w, h],
            "area": w * h,
            "iscrowd": 0,
            "segmentation": [],
        }
        for number, (image, (label, x, y, w, h)) in enumerate(boxes, 1)
    ]
    categories = categories or [
        {"id": index, "name": name} for index, name in enumerate(CLASSES, first_id)
    ]
    return {"images": images, "annotations": annotations, "categories": categories}


def write_json(path: Path, data) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8")


def plain_coco(root: Path) -> None:
    for split in ("train", "val"):
        write_images(root / f"{split}2017", of_split(split))
        data = coco_file(of_split(split))
        write_json(root / "annotations" / f"instances_{split}2017.json", data)
        write_json(root / "annotations" / f"person_keypoints_{split}2017.json", data)


def cvat(root: Path) -> None:
    for split in ("train", "val"):
        write_images(root / "images" / split, of_split(split))
    data = coco_file(list(SIZES), lambda stem: rf"{SPLIT[stem]}\{stem}.jpg")
    write_json(root / "annotations" / "instances_default.json", data)


def label_studio(root: Path) -> None:
    """Two projects: uploads with a hash before the name, and local files behind an address."""
    write_images(root / "images", of_split("train"))
    for stem in of_split("train"):
        (root / "images" / f"{stem}.jpg").rename(root / "images" / f"0a1b2c3d-{stem}.jpg")
    write_json(
        root / "train.json",
        coco_file(
            of_split("train"),
            lambda stem: f"../../media/upload/1/0a1b2c3d-{stem.replace(' ', '%20')}.jpg",
            first_id=0,
        ),
    )
    write_images(root / "local", of_split("val"))
    address = "/data/local-files/?d=local/{}.jpg".format
    write_json(root / "val.json", coco_file(of_split("val"), address, first_id=0))


def roboflow_coco(root: Path) -> None:
    categories = [
        {"id": 0, "name": "bolt", "supercategory": "none"},  # the project has a class's name
        *({"id": i, "name": n, "supercategory": "bolt"} for i, n in enumerate(CLASSES, 1)),
    ]
    for split, folder in (("train", "train"), ("val", "valid")):
        write_images(root / folder, of_split(split))
        data = coco_file(of_split(split), categories=categories)
        write_json(root / folder / "_annotations.coco.json", data)


LAYOUTS = {
    "yolo": (
        *(ultralytics, roboflow_yolo, darknet, lists_of_another_machine, linked_folders),
        label_studio_yolo,
    ),
    "voc": (devkit, labelimg, counted_from_zero),
    "coco": (plain_coco, cvat, label_studio, roboflow_coco),
}
"""Layouts by the format that they are of."""


def copy_of(image: Path, target: Path, *, scale=1.0, quality=60) -> None:
    """The same picture, in another size and compression."""
    with Image.open(image) as opened:
        size = tuple(max(1, round(side * scale)) for side in opened.size)
        opened.resize(size).save(target, "JPEG", quality=quality)


def imported(out: Path) -> dict[str, tuple[str, list[tuple]]]:
    """What a written data set says: by stem the split, and class name with box of each object."""
    found = {}
    for file in sorted((out / "annotations").glob("instances_*.json")):
        data = json.loads(file.read_text())
        split = file.stem.partition("_")[2]
        names = {category["id"]: category["name"] for category in data["categories"]}
        for image in data["images"]:
            path = out / split / image["file_name"]
            with Image.open(path) as opened:
                upright = ImageOps.exif_transpose(opened)
            assert upright.size == (image["width"], image["height"])
            boxes = [
                (names[a["category_id"]], *(round(value, 2) for value in a["bbox"]))
                for a in data["annotations"]
                if a["image_id"] == image["id"]
            ]
            found[unicodedata.normalize("NFC", path.stem)] = split, sorted(boxes)
    return found


def expected(classes=CLASSES) -> dict[str, tuple[str, list[tuple]]]:
    """What :func:`imported` gives for every one of the layouts."""
    return {
        stem: (SPLIT[stem], sorted((classes[label], *box) for label, *box in boxes))
        for stem, boxes in BOXES.items()
    }
