"""Pictures of classes: in vocabulary files, on the command line, and what is refused."""

import json
import re
from pathlib import Path

import pytest
from PIL import Image

from fineclip.command_line.images import asked_exemplars, with_exemplars
from fineclip.images import UnusableImageError
from fineclip.text import as_vocabulary, load_vocabulary
from fineclip.text.exemplars import Exemplar


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "crops").mkdir()
    for name in ("b.png", "a.png", "c.jpg"):
        Image.new("RGB", (40, 20), "red").save(tmp_path / "crops" / name)
    (tmp_path / "crops" / "notes.txt").write_text("")
    return tmp_path


def written(folder, *categories):
    file = folder / "v.json"
    file.write_text(json.dumps({"categories": categories}))
    return file


def test_a_vocabulary_file_names_pictures_beside_it(folder):
    box = {"file": "crops/../crops/c.jpg", "box": [30, 5, 20, 10]}
    part = {"name": "my part", "exemplars": ["crops/a.png", box], "exemplar_weight": 1}
    vocabulary = load_vocabulary(written(folder, "cat", part))
    assert vocabulary.has_exemplars and vocabulary.categories[1].exemplar_weight == 1
    whole, cut = vocabulary.categories[1].exemplars
    assert whole == Exemplar(folder / "crops/a.png")
    image, area = cut.picture()
    assert (image.size, area) == ((40, 20), (0.75, 0.25, 1, 0.75))  # cut to the picture
    assert whole.picture()[1] == (0, 0, 1, 1)
    assert not as_vocabulary(["cat"]).has_exemplars


@pytest.mark.parametrize(
    ("exemplars", "said"),
    [
        ("a.png", r"exemplars: expected a list of picture files, got 'a\.png'"),
        ([], "exemplars: expected a list of picture files"),
        ([3], r"exemplars\[0\]: expected a file name or an object"),
        ([{"box": [0, 0, 1, 1]}], r"exemplars\[0\]: expected a file name or an object"),
        (["../a.png"], r"exemplars\[0\]: file name '\.\./a\.png' leads out of the folder"),
        (["a.png", "/etc/x.png"], r"exemplars\[1\]: file name '/etc/x\.png' leads out"),
        ([{"file": "a.png", "bbox": [0, 0, 1, 1]}], r"exemplars\[0\]: unknown key 'bbox'"),
        ([{"file": "a.png", "box": [0, 0, 1]}], r"exemplars\[0\]: box: expected x, y, width"),
        ([{"file": "a.png", "box": [0, 0, 0, 4]}], "both sides above 0"),
        ([{"file": "a.png", "box": [0, 0, 10**400, 4]}], "expected x, y, width, height"),
        ([{"file": "a.png", "box": [0, True, 2, 4]}], "expected x, y, width, height"),
    ],
)
def test_files_that_list_something_else(folder, exemplars, said):
    file = written(folder, {"name": "my part", "exemplars": exemplars})
    with pytest.raises(ValueError, match=said) as caught:
        load_vocabulary(file)
    assert str(file) in str(caught.value)


def test_weights_and_places_that_are_none(folder):
    file = written(folder, {"name": "x", "exemplars": ["a.png"], "exemplar_weight": 1.5})
    with pytest.raises(ValueError, match="'exemplar_weight' must be a number from 0 to 1"):
        load_vocabulary(file)
    with pytest.raises(ValueError, match="exemplars are files beside a vocabulary file"):
        as_vocabulary([{"name": "x", "exemplars": ["a.png"]}])


def test_pictures_that_cannot_be_used(folder):
    with pytest.raises(UnusableImageError, match=r"missing\.png"):
        Exemplar(folder / "missing.png").picture()
    with pytest.raises(ValueError, match=r"a\.png: the box .* outside the picture of 40 x 20"):
        Exemplar(folder / "crops/a.png", (40, 0, 5, 5)).picture()


def test_what_is_typed(folder, monkeypatch):
    monkeypatch.chdir(folder)
    names = ("photo@2x.png", "odd.png@1,2,3,4")  # a file of that very name is meant
    for name in names:
        Image.new("RGB", (8, 8)).save(name, "PNG")
    found = asked_exemplars(
        [
            "my part=crops/*.png",
            "other = crops",
            "my part=crops/c.jpg@10,2.5,20,10",
            *(f"odd={name}" for name in names),
            "everything=crops/*",
        ]
    )
    crops = [Exemplar(Path("crops", name)) for name in ("a.png", "b.png", "c.jpg")]
    cut = Exemplar(Path("crops/c.jpg"), (10, 2.5, 20, 10))
    assert found["my part"] == (*crops[:2], cut)
    assert found["other"] == found["everything"] == tuple(crops)
    assert found["odd"] == tuple(Exemplar(Path(name)) for name in names)


@pytest.mark.parametrize(
    ("typed", "error", "said"),
    [
        ("crops/a.png", ValueError, "'crops/a.png': expected NAME=FILES"),
        ("=crops/a.png", ValueError, "expected NAME=FILES"),
        ("x=", ValueError, "expected NAME=FILES"),
        ("x=nowhere/*.png", FileNotFoundError, "no such picture, folder or pattern"),
        ("x=crops/*.txt", FileNotFoundError, "no such picture"),
        ("x=crops/z.png@1,2,3,4", FileNotFoundError, "crops/z.png does not exist"),
        ("x=crops/a.png@1,2,3", ValueError, "expected x, y, width, height"),
        ("x=crops/a.png@1,2,3,b", ValueError, "expected x, y, width, height"),
        ("x=crops/a.png@1,2,3,1e400", ValueError, "expected x, y, width, height"),
        ("x=~nobody/a.png", FileNotFoundError, "no such picture"),
        ("x=.", ValueError, "holds no images"),
    ],
)
def test_what_is_typed_wrongly(folder, monkeypatch, typed, error, said):
    monkeypatch.chdir(folder)
    with pytest.raises(error, match=re.escape(said)):
        asked_exemplars([typed])


def test_words_and_pictures_meet_by_name():
    pictures = (Exemplar(Path("a.png")),)
    both = with_exemplars(as_vocabulary(["red_ring", "cat"]), {"Red ring": pictures, "x": pictures})
    assert both.names == ("red_ring", "cat", "x")
    assert [c.exemplar_weight for c in both.categories] == [None, None, 1]
    assert [c.exemplars for c in both.categories] == [pictures, (), pictures]
    assert with_exemplars(None, {"x": pictures}).names == ("x",)
    words = as_vocabulary(["cat"])
    assert with_exemplars(words, {}) == words
    with pytest.raises(ValueError, match="--exemplar: 'background': 'background' is no class"):
        with_exemplars(words, {"background": pictures})
