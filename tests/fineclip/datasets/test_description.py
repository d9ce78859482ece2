"""The description of a data set: what it says, what is refused, and where a vocabulary takes it."""

from __future__ import annotations

from pathlib import Path

import pytest

from fineclip.datasets.description import SplitFiles, read_description, write_description
from fineclip.text import load_vocabulary

GOOD = """
classes:
  - widget
  - bolt: [screw, threaded bolt]
  - Mutter: nut
novel: [bolt]
train: {images: train, annotations: annotations/train.json}
test: {images: ../elsewhere, masks: maps}
"""


def _written(folder: Path, text: str) -> Path:
    file = folder / "data.yaml"
    file.write_text(text, encoding="utf-8")
    return file


def test_says_where_files_are_and_what_they_show(tmp_path):
    folder = tmp_path / "my parts!"
    folder.mkdir()
    file = _written(folder, GOOD)
    found = read_description(folder)
    assert found.file == file
    assert found.name == "my-parts"
    assert found.vocabulary.names == ("widget", "bolt", "Mutter")
    assert found.vocabulary.synonyms[1:] == (("bolt", "screw", "threaded bolt"), ("Mutter", "nut"))
    assert found.vocabulary.split == ("base", "novel", "base")
    assert found.ignore_label == 255
    assert found.splits == {
        "train": SplitFiles(folder / "train", folder / "annotations/train.json"),
        "test": SplitFiles(folder / "../elsewhere", masks=folder / "maps"),
    }
    assert found.evaluation_split == "test"
    assert load_vocabulary(file).categories == found.vocabulary.categories


def test_without_novel_there_is_no_split(tmp_path):
    file = _written(tmp_path, "classes: [a, b]\nval: {images: val}")
    assert read_description(file).vocabulary.split == (None, None)


def test_round_trip(tmp_path):
    found = read_description(_written(tmp_path, GOOD + "ignore_label: 0xffff\nname: x\n"))
    write_description(found)
    again = read_description(tmp_path)
    assert again.splits.keys() == found.splits.keys()
    for split, files in found.splits.items():
        for kind, path in vars(files).items():
            other = getattr(again.splits[split], kind)
            assert (path and path.resolve()) == (other and other.resolve())
    assert (again.name, again.vocabulary, again.ignore_label) == ("x", found.vocabulary, 65535)


def test_what_is_needed_is_there(tmp_path):
    found = read_description(_written(tmp_path, GOOD))
    with pytest.raises(ValueError, match=r"data.yaml has no split 'val'.*it has train, test"):
        found.require("val")
    with pytest.raises(FileNotFoundError, match=r"data.yaml: train: images: folder .*train"):
        found.require("train")
    (tmp_path / "train").mkdir()
    with pytest.raises(ValueError, match=r"data.yaml: train: missing key 'masks'"):
        found.require("train", "masks")
    with pytest.raises(FileNotFoundError, match=r"train: annotations: .*train.json"):
        found.require("train", "annotations")
    assert found.require("train").images == tmp_path / "train"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "classes: [a, no]\ntrain: {images: x}",
            r"classes\[1\]: expected a name, got False.*quote",
        ),
        ("classes: [a]\nclasses: [b]", "the key 'classes' occurs twice"),
        ("names: [a]\ntrain: x", "tools/import_data.py SRC OUT --from yolo"),
        ("clases: [a]", "missing key 'classes'"),
        ("classes: a", "classes: expected a list"),
        ("classes: [{a: b, c: d}]", r"classes\[0\]: expected one name with its synonyms"),
        ("classes: [{a: 3}]", "expected a list of synonyms of 'a', got 3"),
        ("classes: [a, A]\ntrain: {images: x}", "read the same in prompts"),
        ("classes: [a, b]\nnovel: [c]", "novel: 'c' is not among the classes, which are a, b"),
        ("classes: [a]\nnovel: [a]", "all classes are novel"),
        ("classes: [a]", "expected at least one of the keys train, val, test"),
        ("classes: [a]\ntrain: x", "train: expected the key 'images'"),
        ("classes: [a]\ntrain: {images: 3}", "train: images: expected text"),
        ("classes: [a]\ntrain: {images: x, mask: y}", "unknown key 'mask'; did you mean 'masks'"),
        ("classes: [a]\ntrian: {images: x}", "unknown key 'trian'; did you mean 'train'"),
        ("classes: [a]\nignore_label: 0\ntrain: {images: x}", "ignore_label: 0 is the number"),
        ("classes: [a]\nname: ../x\ntrain: {images: x}", "name: expected letters"),
        ("classes: [a", "not valid YAML"),
        ("!!python/object/apply:os.system ['ls']", "not valid YAML"),
    ],
)
def test_refuses(tmp_path, text, message):
    file = _written(tmp_path, text)
    with pytest.raises(ValueError, match=message) as caught:
        read_description(file)
    assert str(file) in str(caught.value)
    assert "\n" not in str(caught.value)
