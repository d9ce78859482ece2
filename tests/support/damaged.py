"""A small annotation file, and the ways in which files that people bring differ from it."""

import copy
import json
import math

WIDTH, HEIGHT = 120, 90
BOXES = {  # by image: category and box
    11: [(1, [70, 10, 40, 30]), (2, [60, 50, 30.5, 25]), (5, [5, 40, 20, 40])],
    12: [(1, [80, 60, 25, 20]), (1, [10, 10, 50, 50]), (5, [50, 20, 12, 18])],
    13: [(2, [90, 5, 20, 60]), (5, [40, 64, 16, 20])],
}


def annotations():
    """Three images, eight boxes with masks, three categories; all as COCO has it."""
    boxes = [(image, *box) for image, found in BOXES.items() for box in found]
    return {
        "images": [
            {"id": i, "file_name": f"val/{i}.jpg", "width": WIDTH, "height": HEIGHT} for i in BOXES
        ],
        "categories": [
            {"id": 1, "name": "cat"},
            {"id": 2, "name": "dog"},
            {"id": 5, "name": "owl"},
        ],
        "annotations": [
            {
                "id": number,
                "image_id": image,
                "category_id": category,
                "bbox": list(box),
                "area": box[2] * box[3],
                "iscrowd": 0,
                "segmentation": [polygon(box)],
            }
            for number, (image, category, box) in enumerate(boxes, 501)
        ],
    }


def lvis(data):
    """The same in LVIS's format."""
    data = copy.deepcopy(data)
    for image in data["images"]:
        image["coco_url"] = f"http://host/{image.pop('file_name')}".replace("\\", "/")
        image |= {"neg_category_ids": [], "not_exhaustive_category_ids": []}
    for category in data["categories"]:
        category["frequency"] = "f"
    for annotation in data["annotations"]:
        annotation.pop("iscrowd", None)
    return data


def polygon(box):
    x, y, w, h = box
    return [x, y, x + w, y, x + w, y + h, x, y + h]


def damage(change, data=None):
    """A copy that was changed."""
    data = copy.deepcopy(annotations() if data is None else data)
    change(data)
    return data


def write(path, data, name=""):
    """Writes it; a variant whose name says so starts with a byte order mark."""
    encoding = "utf-8-sig" if name.startswith("byte order mark") else "utf-8"
    path.write_text(json.dumps(data, ensure_ascii=not name.endswith("names")), encoding=encoding)
    return path


def boxes(change):
    """A change of every box."""

    def all_boxes(data):
        for number, annotation in enumerate(data["annotations"]):
            change(annotation, number)

    return all_boxes


def one(number, **values):
    return lambda data: data["annotations"][number].update(values)


def image(number, **values):
    return lambda data: data["images"][number].update(values)


def without(key):
    return boxes(lambda a, _: a.pop(key))


def setting(key, value):
    return boxes(lambda a, _: a.update({key: value}))


def strings(*keys):
    """These keys of everything as strings."""

    def change(data):
        for entry in (*data["images"], *data["annotations"], *data["categories"]):
            for key in keys:
                if key in entry:
                    value = entry[key]
                    entry[key] = list(map(str, value)) if type(value) is list else str(value)

    return change


def image_ids_as_strings(data):
    for entry in data["images"]:
        entry["id"] = str(entry["id"])
    for entry in data["annotations"]:
        entry["image_id"] = str(entry["image_id"])


def category_ids_as_strings(data):
    for entry in data["categories"]:
        entry["id"] = str(entry["id"])
    for entry in data["annotations"]:
        entry["category_id"] = str(entry["category_id"])


def as_corners(annotation, _):
    x, y, w, h = annotation["bbox"]
    annotation["bbox"] = [x, y, x + w, y + h]


def normalised(annotation, _):
    x, y, w, h = annotation["bbox"]
    annotation["bbox"] = [x / WIDTH, y / HEIGHT, w / WIDTH, h / HEIGHT]


def windows(data):
    for entry in data["images"]:
        if "file_name" in entry:
            entry["file_name"] = entry["file_name"].replace("/", "\\")


def nothing(data):
    pass


MENDED = {
    "no iscrowd": (without("iscrowd"), "iscrowd missing", 8),
    "one without iscrowd": (lambda d: d["annotations"][2].pop("iscrowd"), "iscrowd missing", 1),
    "iscrowd null": (setting("iscrowd", None), "iscrowd missing", 8),
    "iscrowd false": (setting("iscrowd", False), "iscrowd given as bool", 8),
    "iscrowd a string": (setting("iscrowd", "0"), "iscrowd given as str", 8),
    "no area": (without("area"), "area missing or 0", 8),
    "area 0": (setting("area", 0), "area missing or 0", 8),
    "area null": (one(3, area=None), "area missing or 0", 1),
    "no segmentation": (without("segmentation"), "segmentation missing", 8),
    "segmentation null": (one(3, segmentation=None), "segmentation missing", 1),
    "a line for a mask": (one(3, segmentation=[[1, 2, 3, 4]]), "fewer than three points", 1),
    "ids repeated": (setting("id", 7), "annotation ids repeated", 8),
    "two with one id": (one(5, id=501), "annotation ids repeated", 8),
    "ids from 0": (boxes(lambda a, number: a.update(id=number)), "annotation ids from 0", 8),
    "one id 0": (one(4, id=0), "annotation ids from 0", 8),
    "ids negative": (one(4, id=-4), "no positive integers", 8),
    "ids are words": (boxes(lambda a, n: a.update(id=f"box{n}")), "no positive integers", 8),
    "no ids": (without("id"), "annotations without id", 8),
    "boxes as strings": (strings("bbox"), "bbox given as list", 8),
    "sizes as strings": (strings("width", "height"), "width given as str", 3),
    "area as strings": (strings("area"), "area given as str", 8),
    "polygons as strings": (
        lambda d: d["annotations"][0].update(segmentation=[list(map(str, polygon([1, 2, 3, 4])))]),
        "segmentation given as str",
        1,
    ),
    "image ids as strings": (image_ids_as_strings, "image_id given as str", 11),
    "category ids as strings": (category_ids_as_strings, "category_id given as str", 11),
    "sizes as floats": (image(1, width=120.0), "width given as float", 1),
    "box beyond the right": (one(2, bbox=[100, 40, 50, 40]), "beyond its image", 1),
    "box beyond two sides": (one(1, bbox=[-20, -9.5, 60, 200]), "beyond its image", 1),
    "box as wide as the world": (one(6, bbox=[90, 5, 1e6, 60]), "beyond its image", 1),
    "Windows separators": (windows, "Windows separators", 3),
    "byte order mark": (nothing, "byte order mark", 1),
    "byte order mark and names": (image(0, file_name="val/é.jpg"), "byte order mark", 1),
}
"""Change, words of the reason, and how often it is counted."""

DROPPED = {
    "no width": (one(2, bbox=[30, 40, 0, 40]), "without width or height"),
    "a point": (one(2, bbox=[30, 40, 0.0, 0.0]), "without width or height"),
    "right of the image": (one(2, bbox=[130, 40, 10, 10]), "outside its image"),
    "above the image": (one(2, bbox=[30, -40, 10, 10]), "outside its image"),
}

REFUSED = {
    "two images with one id": (image(2, id=11), r"images\[0\] and images\[2\] have the same id"),
    "two categories with one name": (
        lambda d: d["categories"][2].update(name="cat"),
        r"categories\[0\] .* and categories\[2\] .* same name 'cat'",
    ),
    "two categories with one id": (
        lambda d: d["categories"][2].update(id=1),
        r"categories\[0\] and categories\[2\] have the same id 1",
    ),
    "the images of another split": (
        lambda d: d.update(images=[{**i, "id": i["id"] + 700} for i in d["images"]]),
        r"annotations\[0\]: image_id 11 is not among 'images'.*annotations\[1\]",
    ),
    "one image is missing": (
        lambda d: d["images"].pop(1),
        r"annotations\[3\]: image_id 12 is not .*\(3 such; the next: annotations\[4\]",
    ),
    "image_id a string": (
        boxes(lambda a, _: a.update(image_id=str(a["image_id"]))),
        r"annotations\[0\]: image_id '11' is a string, images\[0\] has the id 11, a number",
    ),
    "category_id a number, its category's a string": (
        lambda d: d["categories"][1].update(id="two"),
        r"categories\[1\]: 'id' must be an integer, got 'two'",
    ),
    "a category that is not listed": (
        one(4, category_id=99),
        r"annotations\[4\]: category_id 99 is not among the file's categories",
    ),
    "box null": (one(3, bbox=None), r"annotations\[3\]: 'bbox' must be four numbers"),
    "box of three": (one(3, bbox=[1, 2, 3]), r"annotations\[3\]: 'bbox' must be four numbers"),
    "box of words": (one(3, bbox=[1, 2, "x", 4]), r"annotations\[3\]: 'bbox' must be four"),
    "NaN": (one(3, bbox=[1, 2, math.nan, 4]), r"annotations\[3\]: 'bbox' must be four numbers"),
    "infinite": (one(3, bbox=[1, math.inf, 3, 4]), r"annotations\[3\]: 'bbox' must be four"),
    "negative size": (one(3, bbox=[10, 10, -3, 4]), r"annotations\[3\]: .*negative size"),
    "area NaN": (one(3, area=math.nan), r"annotations\[3\]: 'area' must be a number from 0"),
    "width null": (image(1, width=None), r"images\[1\]: 'width' must be a number of pixels"),
    "height 0": (image(1, height=0), r"images\[1\]: 'height' must be a number of pixels"),
    "width negative": (image(1, width=-640), r"images\[1\]: 'width' must be a number of pixels"),
    "corners": (boxes(as_corners), r"fit as corners .*annotations\[0\].* and annotations\[1\]"),
    "corners as floats": (
        boxes(lambda a, n: (as_corners(a, n), a.update(bbox=[v + 0.25 for v in a["bbox"]]))),
        "fit as corners",
    ),
    "normalised": (boxes(normalised), r"normalised .*annotations\[0\].* and annotations\[1\]"),
    "normalised strings": (
        boxes(lambda a, n: (normalised(a, n), a.update(bbox=list(map(str, a["bbox"]))))),
        "normalised",
    ),
    "flat polygon": (one(3, segmentation=polygon([1, 2, 3, 4])), r"annotations\[3\]: .*flat list"),
    "flat strings": (one(3, segmentation=["1", "2"]), r"annotations\[3\]: .*flat list"),
    "polygon of nulls": (one(3, segmentation=[[None] * 6]), r"annotations\[3\]: .*finite numbers"),
    "mask of another size": (
        one(3, segmentation={"size": [WIDTH, HEIGHT], "counts": [WIDTH * HEIGHT]}),
        r"annotations\[3\]: .*run-length code with the image's size",
    ),
    "images by name": (
        lambda d: d.update(images={str(i["id"]): i for i in d["images"]}),
        "images: expected a list, got dict",
    ),
    "images null": (lambda d: d.update(images=None), "images: expected a list, got NoneType"),
    "categories are names": (
        lambda d: d.update(categories=["cat", "dog", "owl"]),
        r"categories\[0\]: expected a JSON object, got str.*3 such; the next: categories\[1\]",
    ),
    "categories by name": (
        lambda d: d.update(categories={"cat": 1}),
        "categories: expected a list, got dict",
    ),
    "annotations a string": (lambda d: d.update(annotations="x"), "annotations: expected a list"),
    "no file name": (lambda d: d["images"][1].pop("file_name"), r"images\[1\]: missing key 'file_"),
    "file name a number": (image(1, file_name=7), r"images\[1\]: 'file_name' must be a file name"),
    "id a list": (image(1, id=[12]), r"images\[1\]: 'id' must be an integer or a string"),
    "iscrowd 3": (one(3, iscrowd=3), r"annotations\[3\]: 'iscrowd' must be 0 or 1"),
}
"""Change, and a pattern of the message."""
