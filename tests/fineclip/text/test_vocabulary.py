import json

import pytest

from fineclip.scenes import THING_CATEGORIES
from fineclip.text.vocabulary import (
    Vocabulary,
    as_vocabulary,
    known_vocabularies,
    load_vocabulary,
)

COUNTS = {
    "ade150": 150,
    "ade847": 847,
    "coco": 80,
    "coco_panoptic": 133,
    "coco_stuff171": 171,
    "lvis_v1": 1203,
    "objects365v1": 365,
    "ov_coco": 65,
    "pc459": 459,
    "pc59": 59,
    "scenes": 42,
    "scenes_base": 30,
    "scenes_things": 36,
    "voc20": 20,
    "voc20b": 59,
}


def test_every_vocabulary_has_its_published_number_of_classes():
    assert {name: len(load_vocabulary(name)) for name in known_vocabularies()} == COUNTS


def test_coco_panoptic_has_80_things_and_53_stuff_classes_in_ascending_id():
    vocabulary = load_vocabulary("coco_panoptic")
    assert vocabulary.isthing.count(True) == 80
    assert vocabulary.isthing.count(False) == 53
    assert list(vocabulary.ids) == sorted(vocabulary.ids)
    assert vocabulary.names[vocabulary.index_of_id[200]] == "rug-merged"


def test_ov_coco_splits_48_base_17_novel_and_keeps_the_15_unused():
    vocabulary = load_vocabulary("ov_coco")
    assert len(vocabulary.indices("base")) == 48
    assert len(vocabulary.indices("novel")) == 17
    assert len(vocabulary.unused) == 15
    assert vocabulary.split[vocabulary.index_of_id[5]] == "novel"  # airplane


def test_coco_is_ov_coco_and_its_unused_classes():
    ov_coco = load_vocabulary("ov_coco")
    expected = {c.id: c.name for c in (*ov_coco.categories, *ov_coco.unused)}
    coco = load_vocabulary("coco")
    assert dict(zip(coco.ids, coco.names, strict=True)) == expected
    assert list(coco.ids) == sorted(coco.ids)


def test_scenes_things_are_those_of_the_built_in_world():
    assert [
        (c.id, c.name, c.split, c.frequency) for c in load_vocabulary("scenes_things").categories
    ] == [(c.id, c.name, c.split, c.frequency) for c in THING_CATEGORIES]


def test_lvis_novel_classes_are_the_337_rare_ones_and_bull_keeps_its_name():
    vocabulary = load_vocabulary("lvis_v1")
    rare = [i for i, c in enumerate(vocabulary.categories) if c.frequency == "r"]
    assert list(vocabulary.indices("novel")) == rare
    assert len(rare) == 337
    bull = vocabulary.categories[vocabulary.index_of_id[162]]
    assert (bull.name, bull.synonyms) == ("bull", ("horned_cow",))


def test_names_are_not_cleaned_and_may_repeat():
    assert "bed " in load_vocabulary("ade150").names
    assert load_vocabulary("ade847").names.count("bag") == 3


def test_synonyms_default_to_the_name():
    vocabulary = Vocabulary.from_dict({"categories": [{"name": "cat"}]})
    assert vocabulary.synonyms == (("cat",),)
    assert vocabulary.ids == (None,)
    assert vocabulary.isthing == (None,)


def test_from_coco_sorts_by_id_and_reads_files(tmp_path):
    data = {
        "images": [],
        "categories": [{"id": 7, "name": "b", "isthing": 0}, {"id": 2, "name": "a", "isthing": 1}],
    }
    file = tmp_path / "instances.json"
    file.write_text(json.dumps(data))
    for source in (data, file):
        vocabulary = Vocabulary.from_coco(source)
        assert vocabulary.names == ("a", "b")
        assert vocabulary.isthing == (True, False)
        assert dict(vocabulary.index_of_id) == {2: 0, 7: 1}


def test_a_file_keeps_its_own_order(tmp_path):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps({"categories": [{"id": 7, "name": "b"}, {"id": 2, "name": "a"}]}))
    vocabulary = load_vocabulary(file)
    assert (vocabulary.name, vocabulary.names) == ("mine", ("b", "a"))


SHORT_FORMS = [
    (["cat", "dog"], (None, None), (("cat",), ("dog",))),
    ({"cat": None, "dog": 7}, (None, 7), (("cat",), ("dog",))),
    ({"cat": ["cat", "kitten"], "dog": {"id": 7}}, (None, 7), (("cat", "kitten"), ("dog",))),
    ({"categories": ["cat", {"name": "dog", "id": 7}]}, (None, 7), (("cat",), ("dog",))),
    (["cat", {"name": "dog", "id": 7}], (None, 7), (("cat",), ("dog",))),
]


@pytest.mark.parametrize(("data", "ids", "synonyms"), SHORT_FORMS)
def test_short_forms(tmp_path, data, ids, synonyms):
    file = tmp_path / "mine.json"
    file.write_text(json.dumps(data))
    for vocabulary in (load_vocabulary(file), as_vocabulary(data), as_vocabulary(str(file))):
        assert vocabulary.names == ("cat", "dog")
        assert vocabulary.ids == ids
        assert vocabulary.synonyms == synonyms


def test_as_vocabulary_returns_a_vocabulary_as_it_is():
    vocabulary = load_vocabulary("voc20")
    assert as_vocabulary(vocabulary) is vocabulary
    assert as_vocabulary("voc20") == vocabulary


def test_annotations_are_a_vocabulary_in_ascending_ids(tmp_path):
    file = tmp_path / "instances.json"
    categories = [{"id": 7, "name": "b"}, {"id": 2, "name": "a", "split": "novel"}]
    file.write_text(json.dumps({"images": [], "annotations": [], "categories": categories}))
    vocabulary = load_vocabulary(file)
    assert vocabulary.names == ("a", "b")
    assert vocabulary.split == ("novel", None)


def test_annotations_without_categories_are_no_list_of_names(tmp_path):
    file = tmp_path / "instances.json"
    file.write_text(json.dumps({"images": [], "annotations": []}))
    with pytest.raises(ValueError, match=r"instances\.json.*without the key 'categories'"):
        load_vocabulary(file)


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown vocabulary 'cocoa'.*coco_panoptic.*voc20"):
        load_vocabulary("cocoa")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.json': expected one of ade150"):
        load_vocabulary(tmp_path / "nothing.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "has no categories"),
        ("{}", "has no categories"),
        ("3", "key 'categories', a list of names"),
        ('"cat"', "key 'categories', a list of names"),
        ('["cat", 3]', r"categories\[1\]: expected a name or an object"),
        ('["cat", " "]', r"categories\[1\]: 'name' must be"),
        ('{"cat": "kitten"}', "'cat': expected null, an id, a list of synonyms"),
        ('{"cat": {"name": "dog"}}', "'cat': expected null"),
        ('{"cat": true}', "'cat': expected null"),
        ('{"categories": {}}', "expected a list"),
        ('{"categories": []}', "has no categories"),
        ('{"categories": [{"id": 1}]}', r"categories\[0\]: 'name' must be"),
        ('{"categories": [{"name": "a", "id": "1"}]}', r"categories\[0\]: 'id' must be"),
        ('{"categories": [{"name": "a", "split": "seen"}]}', "'split' must be 'base' or 'novel'"),
        ('{"categories": [{"name": "a", "isthing": 2}]}', "'isthing' must be 0 or 1"),
        ('{"categories": [{"name": "a", "synonyms": "b"}]}', "'synonyms' must be a list"),
        (
            '{"categories": [{"name": "a", "id": 1}, {"name": "b", "id": 1}]}',
            "category id 1 repeats",
        ),
    ],
)
def test_malformed_files_name_file_and_key(tmp_path, content, message):
    file = tmp_path / "broken.json"
    file.write_text(content)
    with pytest.raises(ValueError, match=message) as error:
        load_vocabulary(file)
    assert "broken" in str(error.value)


def test_from_coco_needs_ids_and_categories():
    with pytest.raises(ValueError, match="'a' has no id"):
        Vocabulary.from_coco({"categories": [{"name": "a"}]})
    with pytest.raises(ValueError, match="categories"):
        Vocabulary.from_coco({"images": []})
