"""Folders per class, images with masks, images with captions."""

import json

import numpy as np
import own_data
import pytest
from PIL import Image

from fineclip.datasets.description import read_description
from fineclip.datasets.image_folder import find_image_folder
from fineclip.datasets.label_maps import read_label_map
from fineclip.importing import ImportOptions, import_data

STEMS = tuple(own_data.SIZES)


def captions_of(out, split):
    data = json.loads((out / "annotations" / f"captions_{split}.json").read_text())
    names = {image["id"]: image["file_name"] for image in data["images"]}
    found = {}
    for entry in data["annotations"]:
        found.setdefault(names[entry["image_id"]], []).append(entry["caption"])
    return found


# Folders per class.


def class_folders(root, splits=("",)):
    for number, stem in enumerate(STEMS):
        folder = (
            root / splits[number // 3 % len(splits)] / ("golden_retriever", "tench")[number % 2]
        )
        own_data.write_images(folder, [stem])


def test_folders_are_read_by_classification_and_pretraining(tmp_path):
    class_folders(tmp_path / "src" / "archive", ("train", "valid"))
    result = import_data(tmp_path / "src", tmp_path / "out")
    assert (result.form, result.counts) == ("folders", {"train": 3, "val": 2})
    folder = find_image_folder(tmp_path / "out")
    assert folder.vocabulary.names == tuple(result.classes) == ("golden_retriever", "tench")
    assert [path.name for path, _ in folder.files] == ["e.jpg", "d.jpg"]
    assert captions_of(tmp_path / "out", "train") == {
        "golden_retriever/a.jpg": ["a photo of golden retriever"],
        "tench/b b.jpg": ["a photo of tench"],
        "golden_retriever/ç.jpg": ["a photo of golden retriever"],
    }
    files = read_description(tmp_path / "out").require("train", "annotations", "captions")
    data = json.loads(files.annotations.read_text())
    assert len(data["images"]) == 3 and data["annotations"] == []  # no box is invented


def test_names_of_folders_come_from_a_map(tmp_path):
    class_folders(tmp_path / "src")
    (tmp_path / "map.txt").write_text("golden_retriever Golden, retriever\ntench tench, Tinca\n")
    options = ImportOptions(class_map=tmp_path / "map.txt")
    import_data(tmp_path / "src", tmp_path / "out", options=options, shares=[1])
    vocabulary = read_description(tmp_path / "out").vocabulary
    assert vocabulary.synonyms == (("Golden", "retriever"), ("tench", "Tinca"))
    assert (tmp_path / "out/train/Golden/a.jpg").is_file()


# Masks. All of these say the same: left third 0, middle third 1, right third nothing.


def thirds(stem, values, mode="L"):
    width, height = own_data.SIZES[stem]
    places = np.minimum(np.arange(width) * 3 // width, 2)
    return Image.fromarray(
        np.repeat(np.array(values, np.uint8)[places][None], height, axis=0), mode
    )


def write_masks(folder, values, mode="L", name="{}.png", stems=STEMS, palette=None):
    folder.mkdir(parents=True, exist_ok=True)
    for stem in stems:
        mask = thirds(stem, values, mode)
        if palette is not None:
            mask = mask.convert("P") if mode == "RGB" else mask
            mask.putpalette(palette)
        mask.save(folder / name.format(stem))


def numbered(root):
    own_data.write_images(root / "images")
    write_masks(root / "masks", [0, 1, 255])
    (root / "classes.txt").write_text("wall\nsky")
    return ImportOptions()


def zero_is_nothing(root):
    """As ADE20K's masks, in folders of splits."""
    for split in ("train", "val"):
        own_data.write_images(root / "images" / split, own_data.of_split(split))
        write_masks(root / "annotations" / split, [1, 2, 0], stems=own_data.of_split(split))
    return ImportOptions(classes=("wall", "sky"), reduce_zero=True)


def palette(root):
    """As VOC's SegmentationClass: the palette is for people; 0 is the background."""
    own_data.write_images(root / "JPEGImages")
    colors = [0, 0, 0, 128, 0, 0, 0, 128, 0]
    write_masks(root / "SegmentationClass", [1, 2, 0], palette=colors)
    return ImportOptions(classes=("background", "wall", "sky"))


def cvat_colors(root):
    own_data.write_images(root / "JPEGImages")
    colors = {"background": (0, 0, 0), "wall": (250, 50, 83), "sky": (51, 221, 255)}
    values = [colors["wall"], colors["sky"], colors["background"]]
    write_masks(root / "SegmentationClass", values, "RGB")
    lines = [f"{name}:{r},{g},{b}::" for name, (r, g, b) in colors.items()]
    (root / "labelmap.txt").write_text("# label:color_rgb:parts:actions\n" + "\n".join(lines))
    return ImportOptions()


def camvid(root):
    """Colours by another table; masks beside the images, all of them in one folder."""
    own_data.write_images(root)
    write_masks(root, [(9, 8, 7), (0, 0, 1), (4, 4, 4)], "RGB", name="{}_L.png")
    rows = ["name, r, g, b", "wall, 9, 8, 7", "sky, 0, 0, 1", "Void, 4, 4, 4"]
    (root / "class_dict.csv").write_text("\r\n".join(rows))
    return ImportOptions()


def same_names(root):
    own_data.write_images(root)
    write_masks(root, [0, 1, 255])
    return ImportOptions(classes=("wall", "sky"))


def cvat_palette(root):
    """The same colours in a palette, whose numbers mean nothing; masks of instances beside them."""
    cvat_colors(root)
    write_masks(root / "SegmentationObject", [1, 2, 3])
    write_masks(root / "SegmentationClass", [0, 2, 1], palette=[250, 50, 83, 0, 0, 0, 51, 221, 255])
    return ImportOptions()


def roboflow_masks(root):
    for split, folder in (("train", "train"), ("val", "valid")):
        own_data.write_images(root / folder, own_data.of_split(split))
        name = "{}_mask.png"
        write_masks(root / folder, [4, 7, 0], name=name, stems=own_data.of_split(split))
        (root / folder / "_classes.csv").write_text(
            "Pixel Value, Class\n0, background\n4, wall\n7, sky\n"
        )
    return ImportOptions()


def grey_in_colors(root):
    """Black and white, saved in three channels; white is what the name is for."""
    own_data.write_images(root / "img", suffix=".png")
    write_masks(root / "gt", [[0] * 3, [255] * 3, [0] * 3], "RGB")
    return ImportOptions(classes=("crack",))


@pytest.mark.parametrize(
    "layout",
    [
        *(numbered, zero_is_nothing, palette, cvat_colors, cvat_palette, roboflow_masks, camvid),
        same_names,
    ],
)
def test_masks_become_class_numbers(tmp_path, layout):
    options = layout(tmp_path / "src")
    result = import_data(tmp_path / "src", tmp_path / "out", options=options)
    assert result.form == "masks"
    assert list(result.classes) == ["wall", "sky"]
    description = read_description(tmp_path / "out")
    for split in description.splits:
        files = description.require(split, "masks", "annotations")
        for image in files.images.iterdir():
            mask = read_label_map(
                files.masks / f"{image.stem}.png", num_classes=2, ignore_label=255
            )
            assert (mask == np.array(thirds(image.stem, [0, 1, 255]))).all()
    if layout in (zero_is_nothing, roboflow_masks):
        assert result.counts == {"train": 4, "val": 1}


def test_black_and_white_masks(tmp_path):
    """One name is for white; a second one gives black a class."""
    grey_in_colors(tmp_path / "src")
    for names, black, white in ((("crack",), 255, 0), (("road", "crack"), 0, 1)):
        options = ImportOptions(classes=names)
        out = tmp_path / names[0]
        result = import_data(tmp_path / "src", out, options=options, shares=[1])
        assert tuple(result.classes) == names
        mask = read_label_map(
            out / "annotations/semantic_train/a.png", num_classes=len(names), ignore_label=255
        )
        assert (mask == np.array(thirds("a", [black, white, black]))).all()


# Captions. All of these give "a" two captions and "d" one.

EXPECTED = {"a.jpg": ["a cat, asleep", "two\u00a0cats"], "d.jpg": ["ein Hund"]}


def csv_with_header(root):
    rows = (
        'file_name,text\na.jpg,"a cat, asleep"\na.jpg,two\u00a0cats\nd.jpg,ein Hund\ngone.jpg,x\n'
    )
    (root / "metadata.csv").write_text("\ufeff" + rows.replace("\n", "\r\n"), newline="")


def csv_without_header(root):
    (root / "captions.csv").write_text("a.jpg,a cat, asleep\na.jpg,two\u00a0cats\nd.jpg,ein Hund")


def semicolons(root):
    text = "Image Path;Caption\nC:\\x\\a.JPG;a cat, asleep\nx\\a.jpg;two\u00a0cats\nd;ein Hund\n"
    (root / "captions.csv").write_bytes(text.encode("utf-16"))


def tsv(root):
    text = "id\tsplit\tcaption\na\ttrain\ta cat, asleep\na\ttrain\ttwo\u00a0cats\nd\tval\tein Hund"
    (root / "captions.tsv").write_text(text)


def jsonl(root):
    rows = [
        {"image": "a.jpg", "captions": EXPECTED["a.jpg"]},
        {"image": "d.jpg", "captions": "ein Hund"},
    ]
    (root / "data.jsonl").write_text("\n".join(map(json.dumps, rows)) + "\n\n")


def flickr(root):
    (root / "captions.txt").write_text(
        "image,caption\n"
        + "".join(f'"{name}","{text}"\n' for name, texts in EXPECTED.items() for text in texts)
    )


def flickr_numbered(root):
    (root / "captions.txt").write_text(
        "".join(
            f"{n}#{k}\t{text}\n" for n, texts in EXPECTED.items() for k, text in enumerate(texts)
        )
    )


def sidecars(root):
    (root / "a.txt").write_text("a cat, asleep\n\n  two\u00a0cats  \n")
    (root / "d.txt").write_text("\ufeffein Hund")
    (root / "e.txt").write_text(" \n")


@pytest.mark.parametrize(
    "layout",
    [
        csv_with_header,
        csv_without_header,
        semicolons,
        tsv,
        jsonl,
        flickr,
        flickr_numbered,
        sidecars,
    ],
)
def test_captions(tmp_path, layout):
    src = tmp_path / "src"
    own_data.write_images(src, ["a", "d", "e"])
    layout(src)
    shares = None if layout is tsv else [1]
    result = import_data(src, tmp_path / "out", shares=shares)
    assert result.form == "captions"
    found = captions_of(tmp_path / "out", "train")
    if layout is tsv:
        found |= captions_of(tmp_path / "out", "val")
        assert result.counts == {"train": 1, "val": 1}
    expected = EXPECTED
    if layout is not sidecars:  # spaces of tables are made plain
        expected = {
            name: [text.replace("\u00a0", " ") for text in own] for name, own in EXPECTED.items()
        }
    assert found == expected
    told = "\n".join(result.lines())
    assert "1 x images without a caption: e.jpg" in told
    assert ("empty captions" in told) == (layout is sidecars)
    assert ("captions of images that are not there: 5 gone.jpg" in told) == (
        layout is csv_with_header
    )
    assert "captions name no classes, so data.yaml has 'object' alone" in told
    assert read_description(tmp_path / "out").vocabulary.names == ("object",)


def test_columns_of_captions_can_be_named(tmp_path):
    own_data.write_images(tmp_path / "src", ["a", "d"])
    (tmp_path / "src/x.csv").write_text(
        "caption,photo,de\na cat,a.jpg,eine Katze\ndog,d.jpg,Hund\n"
    )
    options = ImportOptions(image_column="photo", caption_column="de", classes=("cat", "dog"))
    result = import_data(tmp_path / "src/x.csv", tmp_path / "out", options=options, shares=[1])
    assert captions_of(tmp_path / "out", "train") == {"a.jpg": ["eine Katze"], "d.jpg": ["Hund"]}
    assert tuple(result.classes) == ("cat", "dog")
