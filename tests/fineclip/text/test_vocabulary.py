import json

import pytest

from fineclip.text.vocabulary import Vocabulary, known_vocabularies, load_vocabulary

COUNTS = {
    "ade150": 150,
    "ade847": 847,
    "coco_panoptic": 133,
    "coco_stuff171": 171,
    "lvis_v1": 1203,
    "ov_coco": 65,
    "pc459": 459,
    "pc59": 59,
    "voc20": 20,
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


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(ValueError, match=r"unknown vocabulary 'coco'.*coco_panoptic.*voc20"):
        load_vocabulary("coco")


def test_missing_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.json: no such file"):
        load_vocabulary(tmp_path / "nothing.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "not valid JSON"),
        ("[]", "key 'categories'"),
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
