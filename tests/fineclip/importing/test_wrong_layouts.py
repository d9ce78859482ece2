"""Sources that are wrong: one line each, which names the file and the option that helps."""

from pathlib import Path

import numpy as np
import own_data
import pytest
from PIL import Image

from fineclip.importing import ImportOptions, import_data

LINE = "0 0.5 0.5 0.2 0.2"


def texts(root, **contents):
    for name, text in contents.items():
        path = root / name.replace("__", "/").replace("_dot_", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text) if isinstance(text, bytes) else path.write_text(text, "utf-8")


def yolo(classes="x\ny", labels=(LINE,), **others):
    """An image with the labels, and ``classes.txt``."""

    def write(root):
        own_data.write_images(root, ["a"])
        texts(root, a_dot_txt="\n".join(labels), **others)
        if classes:
            texts(root, classes_dot_txt=classes)

    return write


def yolo_yaml(text, **others):
    def write(root):
        own_data.write_images(root / "images", ["a"])
        texts(root, data_dot_yaml=text, labels__a_dot_txt=LINE, **others)

    return write


def voc(text=None, **others):
    def write(root):
        own_data.write_images(root, ["a"])
        texts(root, a_dot_xml=own_data.voc_xml("a") if text is None else text, **others)

    return write


def coco(change=lambda data: None, stems=("a", "d"), **others):
    def write(root):
        own_data.write_images(root, stems)
        data = own_data.coco_file(list(stems))
        change(data)
        own_data.write_json(root / "boxes.json", data)
        texts(root, **others)

    return write


def images(*folders):
    def write(root):
        for number, folder in enumerate(folders):
            own_data.write_images(root / folder, [list(own_data.SIZES)[number]])

    return write


def masks(values, suffix=".png", names="", size=(32, 48), stem="a", **others):
    def write(root):
        own_data.write_images(root / "images", ["a"])
        (root / "masks").mkdir()
        Image.fromarray(np.resize(np.array(values, np.uint8), (*size, *np.shape(values)[1:]))).save(
            root / "masks" / f"{stem}{suffix}"
        )
        texts(root, **others)
        if names:
            texts(root, classes_dot_txt=names)

    return write


def table(text, name="captions.csv"):
    def write(root):
        own_data.write_images(root, ["a", "d"])
        (root / name).write_text(text)

    return write


def two_files(first, second):
    def write(root):
        own_data.write_images(root, ["a"])
        for name in (first, second):
            own_data.write_json(root / name, own_data.coco_file(["a"]))

    return write


def both(*writers):
    return lambda root: [writer(root) for writer in writers]


def boxes_as_corners(data):
    for entry in data["annotations"]:
        x, y, w, h = entry["bbox"]
        entry["bbox"] = [x + 1, y + 1, x + w, y + h]


def panoptic(data):
    data["annotations"] = [{"image_id": 10, "file_name": "a.png", "segments_info": []}]


BOMB = '<!DOCTYPE a [<!ENTITY b "bbbb"><!ENTITY c "&b;&b;">]><annotation>&c;</annotation>'
EMPTY = "<annotation><filename>a.jpg</filename></annotation>"
NO_NAME = "<annotation><object><bndbox/></object></annotation>"

WRONG = {
    # What is not there.
    "no source": ("yolo", None, {}, "src does not exist", "SRC"),
    "an archive": ("yolo", None, {}, "parts.zip is an archive", "unpack it"),
    "no images": (
        "yolo",
        lambda r: texts(r, a_dot_txt=LINE),
        {},
        "src holds no images",
        "--images",
    ),
    "images of unknown kinds": (
        *("coco", lambda r: texts(r, a_dot_heic="x", b_dot_json="{}"), {}),
        *("files there: .heic, .json", "--images"),
    ),
    "nothing known": (None, images(""), {}, "src: which format this is, is not clear", "--from"),
    "two formats": (None, both(yolo(), voc()), {}, "(voc or yolo)", "--from"),
    "no folder of images": ("coco", coco(), {"images": "gone"}, "gone does not exist", "--images"),
    "no folder of labels": ("coco", coco(), {"labels": "gone"}, "gone does not exist", "--labels"),
    "damaged images": (
        *("yolo", lambda r: texts(r, a_dot_jpg="no", a_dot_txt=LINE, classes_dot_txt="x"), {}),
        *("a.jpg: cannot be decoded", "all that there were"),
    ),
    # YOLO.
    "no labels": ("yolo", images(""), {"classes": ["x"]}, "none of the 1 images", "--labels"),
    "no names": ("yolo", yolo(classes=""), {}, "src: no names of classes", "--classes"),
    "no file of names": ("yolo", yolo(), {"classes": ["no.txt"]}, "no.txt does not", "--classes"),
    "an empty line among names": ("yolo", yolo("x\n\ny"), {}, "classes.txt: line 2", "--classes"),
    "names in Latin-1": (
        *("yolo", yolo("", classes_dot_txt="é".encode("latin-1")), {}),
        *("classes.txt is no text in UTF-8", "save it with that encoding"),
    ),
    "names that read the same": ("yolo", yolo("x y\nX_y"), {}, "read the same", "--classes"),
    "a class beyond the names": (
        *("yolo", yolo("x", [LINE, "1 0.5 0.5 0.1 0.1"]), {}),
        *("a.txt:2 (1 0.5 0.5 0.1 0.1): class 1, but", "--classes"),
    ),
    "classes from 1": (
        *("yolo", yolo(labels=["1 0.5 0.5 0.1 0.1", "2 0.5 0.5 0.1 0.1"]), {}),
        *("a.txt:2 (2 0.5 0.5 0.1 0.1): class 2", "numbers from 1 on are one too many; --classes"),
    ),
    "pixels": ("yolo", yolo(labels=["0 20 10 8 8"]), {}, "a.txt:1 (0 20 10 8 8)", "--from"),
    "corners": ("yolo", yolo(labels=["0 0.1 0.1 0.9 0.8"]), {}, "a.txt:1 (0 0.1 0.1", "--from"),
    "commas": ("yolo", yolo(labels=["0,0.5,0.5,0.1,0.1"]), {}, "a.txt:1 (0,0.5", "--from"),
    "names for numbers": ("yolo", yolo(labels=["x 0.5 0.5 0.1 0.1"]), {}, "a.txt:1 (x 0", "--from"),
    "negative sizes": ("yolo", yolo(labels=["0 0.5 0.5 -1 0.1"]), {}, "a.txt:1 (0 0", "--labels"),
    "broken YAML": ("yolo", yolo_yaml("names: [a"), {}, "data.yaml is not valid", "--classes"),
    "no names in YAML": ("yolo", yolo_yaml("train: x"), {}, "src: no names of", "--classes"),
    "names from 1": ("yolo", yolo_yaml("names: {1: x}"), {}, "numbered from 0 to 0", "--classes"),
    "a name that is no word": ("yolo", yolo_yaml("names: [no]"), {}, "holds False", "--classes"),
    "nc of another number": ("yolo", yolo_yaml("nc: 3\nnames: [x]"), {}, "'nc' is 3", "--classes"),
    "two YAML files": (
        "yolo",
        yolo_yaml("names: [x]", b_dot_yaml="names: [y]"),
        {},
        "b.yaml",
        "SRC",
    ),
    "train is not there": (
        *("yolo", yolo_yaml("train: pictures\nnames: [x]"), {}),
        *("data.yaml: 'train' names pictures", "--images"),
    ),
    "train is a number": (
        "yolo",
        yolo_yaml("train: 3\nnames: [x]"),
        {},
        "data.yaml: 'train'",
        "--images",
    ),
    "a list of other images": (
        *("yolo", yolo_yaml("train: t.txt\nnames: [x]", t_dot_txt="images/b.jpg"), {}),
        *("t.txt: none of the images that it lists", "--images"),
    ),
    # Pascal VOC.
    "no XML": ("voc", images(""), {}, "src holds no annotations (*.xml)", "--labels"),
    "CVAT's own XML": (
        "voc",
        voc("<annotations/>"),
        {},
        "a.xml is CVAT's own format",
        "--from coco",
    ),
    "other XML": ("voc", voc("<html/>"), {}, "a.xml: expected <annotation>", "--labels"),
    "no XML inside": ("voc", voc("nothing"), {}, "a.xml is no XML", "--labels"),
    "entities": ("voc", voc(BOMB), {}, "a.xml declares entities", "--labels"),
    "no objects": ("voc", voc(EMPTY), {}, "none of the 1 annotations has an object", "--labels"),
    "objects without a name": ("voc", voc(NO_NAME), {}, "a.xml: object 1 has no <name>", "--from"),
    "images elsewhere": (
        *("voc", lambda r: [voc()(r), (r / "a.jpg").rename(r / "b.jpg")], {}),
        *("none of the images of 1 annotations, such as a.xml", "--images"),
    ),
    "a class that is not named": (
        *("voc", voc(), {"classes": ["bolt"]}, "a.xml: object 1 is a 'widget'", "--classes"),
    ),
    # COCO.
    "no COCO files": ("coco", images(""), {}, "src: no annotations in COCO's format", "--labels"),
    "broken JSON": ("coco", coco(b_dot_json="{"), {}, "b.json is not valid JSON", "--labels"),
    "panoptic": ("coco", coco(panoptic), {}, "boxes.json holds panoptic segments", "--labels"),
    "corners in COCO": (
        "coco",
        coco(boxes_as_corners),
        {},
        "boxes.json: annotations: ",
        "--labels",
    ),
    "an unknown category": (
        *("coco", coco(lambda d: d["annotations"][0].update(category_id=9)), {}),
        *("boxes.json: annotations[0]", "--labels"),
    ),
    "other images": (
        *("coco", coco(lambda d: [i.update(file_name="z.jpg") for i in d["images"]]), {}),
        *("boxes.json: none of its images (first: z.jpg)", "--images"),
    ),
    "a name upwards": (
        *("coco", coco(lambda d: d["images"][0].update(file_name="../../z.jpg")), {}),
        *("boxes.json: images[0]: file name '../../z.jpg' leads out", "--images"),
    ),
    "two files of one split": (
        *("coco", two_files("a.json", "b.json"), {}, "b.json and ", "--labels"),
    ),
    "a class that COCO has alone": (
        *("coco", coco(), {"classes": ["bolt"]}, "category 'widget' is not in", "--classes"),
    ),
    # Folders.
    "images in no folder": ("folders", images(""), {}, "src: expected a folder", "--images"),
    "one class": ("folders", images("cat"), {}, "there is only cat/", "--from"),
    "a map without a folder": (
        *("folders", both(images("n1", "n2"), lambda r: texts(r, map_dot_txt="n1 cat"))),
        *({"class_map": "{src}/map.txt"}, "map.txt has no name for the folder n2/", "--class-map"),
    ),
    "a folder of no class": (
        *("folders", images("n1", "n2"), {"classes": ["n1"]}, "the folder n2/", "--class-map"),
    ),
    # Masks.
    "no masks": ("masks", images("images"), {}, "src: no masks", "--labels"),
    "masks of other names": ("masks", masks([0, 1], stem="b"), {}, "masks/b.png", "--labels"),
    "masks without names": ("masks", masks([0, 7]), {}, "2 values (value 0, value 7)", "--classes"),
    "a value beyond the names": (
        *("masks", masks([0, 1, 2], names="x\ny"), {}, "a.png holds value 2", "--reduce-zero"),
    ),
    "colours without a map": (
        *("masks", masks([[9, 0, 0], [0, 9, 0]], names="x\ny"), {}),
        *("a.png is a mask of colours", "labelmap.txt"),
    ),
    "colours without anything": (
        *("masks", masks([[9, 0, 0], [0, 9, 0]]), {}, "2 colours (colour 0,9,0", "labelmap.txt"),
    ),
    "a colour that the map lacks": (
        *("masks", masks([[9, 0, 0], [0, 9, 0]], labelmap_dot_txt="x:9,0,0::"), {}),
        *("a.png holds colour 0,9,0", "labelmap.txt"),
    ),
    "a broken map": (
        *("masks", masks([0, 1], labelmap_dot_txt="x 9,0,0"), {}, "labelmap.txt:1", "--classes"),
    ),
    "masks in JPEG": (
        "masks",
        masks([0, 1], ".jpg", "x\ny"),
        {"labels": "{src}/masks"},
        "a.jpg",
        "PNG",
    ),
    "masks of other sizes": (
        *("masks", masks([0, 1], names="x\ny", size=(9, 9)), {}, "stated 9 x 9", "--images"),
    ),
    # Captions.
    "no captions": ("captions", images(""), {}, "src: no captions", "--labels"),
    "unknown columns": (
        "captions",
        table("picture,words\na,b"),
        {},
        "'picture', ",
        "--image-column",
    ),
    "no caption column": (
        "captions",
        table("image,words\na,b"),
        {},
        "captions.csv",
        "--caption-col",
    ),
    "no such column": (
        *("captions", table("image,text\na,b"), {"caption_column": "txt"}, "no column 'txt'"),
        "--caption-column",
    ),
    "addresses": (
        "captions",
        table("image,text\nhttp://x/y.jpg,b"),
        {},
        "captions.csv:2",
        "--image-",
    ),
    "captions of others": (
        "captions",
        table("image,text\nz.jpg,b"),
        {},
        "first: z.jpg",
        "--images",
    ),
    "no JSON lines": ("captions", table("[1]", "c.jsonl"), {}, "c.jsonl:1: expected", "--labels"),
    "COCO's captions": (
        *(
            "captions",
            table('{"images": [], "annotations": []}', "c.json"),
            {},
            "c.json is in COCO",
        ),
        "--from coco",
    ),
    "another file": (
        *(
            "captions",
            table("x", "c.parquet"),
            {"labels": "{src}/c.parquet"},
            "c.parquet",
            "--labels",
        ),
    ),
    # Division.
    "more splits than images": (
        *("yolo", yolo(), {"shares": [0.5, 0.5]}, "1 images in 1 groups", "--split"),
    ),
}


@pytest.mark.parametrize("kind", WRONG)
def test_one_line_that_helps(tmp_path, kind):
    form, write, given, file, helps = WRONG[kind]
    src = tmp_path / "src"
    if write is not None:
        src.mkdir()
        write(src)
    given = {
        key: Path(value.format(src=src))
        if isinstance(value, str) and key != "caption_column"
        else value
        for key, value in given.items()
    }
    shares = given.pop("shares", None)
    if kind == "an archive":
        src = tmp_path / "parts.zip"
        src.write_bytes(b"PK")
    with pytest.raises((ValueError, OSError)) as caught:
        import_data(src, tmp_path / "out", form=form, options=ImportOptions(**given), shares=shares)
    message = str(caught.value)
    assert file in message and helps in message, message
    assert str(tmp_path) in message or "--" in message
    assert "\n" not in message and len(message) < 600, message
    assert not (tmp_path / "out").exists()
    assert not list(tmp_path.glob(".*"))


def test_kinds():
    assert len(WRONG) >= 50
