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
    "voc2007": 20,
    "voc20b": 59,
}


def test_every_vocabulary_has_its_published_number_of_classes():
    assert {name: len(load_vocabulary(name)) for name in known_vocabularies()} == COUNTS


def test_what_goes_into_prompts_may_differ_from_the_name():
    """Annotations are matched by names, published numbers were made with these prompts."""
    differing = {
        name: {c.name: c.prompt for c in load_vocabulary(name).categories if c.prompt}
        for name in known_vocabularies()
    }
    assert {name: pairs for name, pairs in differing.items() if pairs} == {
        "objects365v1": {"hamimelon": "hami melon"},
        "voc2007": {
            "diningtable": "dining table",
            "pottedplant": "potted plant",
            "tvmonitor": "tv monitor",
        },
    }
    vocabulary = as_vocabulary(["owl", {"name": "n01", "prompt": "barn owl"}])
    assert vocabulary.names == ("owl", "n01")
    assert vocabulary.prompt_names == ("owl", "barn owl")
    assert vocabulary.synonyms == (("owl",), ("barn owl",))
    with pytest.raises(ValueError, match=r"\[0\]: 'prompt' must be a non-empty string, got ''"):
        as_vocabulary([{"name": "n01", "prompt": ""}])
    with pytest.raises(ValueError, match="are both 'owl'"):
        as_vocabulary(["owl", {"name": "n01", "prompt": "owl"}])


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


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("mine.txt", b"cat\ndog\n"),
        ("mine.names", b"# two animals\r\n\r\n  cat \r\ndog"),
        ("mine", "\ufeffcat\n\n\ndog\n\n".encode()),
        ("mine.txt", "cat\ndog\n".encode("utf-16")),
        ("mine.txt", b'["cat", "dog"]'),
        ("mine.json", '\ufeff["cat", "dog"]'.encode()),
        ("mine.json", '{"cat": null, "dog": null}'.encode("utf-16")),
    ],
)
def test_a_file_holds_json_or_a_name_a_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert load_vocabulary(tmp_path / name).names == ("cat", "dog")


def test_names_of_any_script(tmp_path):
    names = ("кошка", "猫", "قطة", "chien d'arrêt")
    (tmp_path / "mine.txt").write_text("\n".join(names), encoding="utf-8")
    assert load_vocabulary(tmp_path / "mine.txt").names == names


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("mine.txt", b"cat\n\ndog\ncat\n", "line 1 and line 4 are both 'cat'"),
        ("mine.txt", b"traffic_light\nTraffic  light", "line 1, 'traffic_light', and line 2"),
        ("mine.txt", "é\ne\u0301".encode(), "read the same in prompts"),
        ("mine.txt", b"cat\nbackground", "line 2: 'background' is no class.*'sky'"),
        ("mine.json", b'["cat", "__Background__"]', "'__Background__' is no class"),
        ("mine.txt", b"cat\tanimal\ndog", "line 1: .* holds a tab"),
        ("mine.txt", b"0: cat\n1: dog", "line 1, '0: cat', begins with a number"),
        ("mine.txt", b"1 cat\n2 dog", "line 1, '1 cat', begins with a number"),
        ("mine.txt", b"\n# nothing\n", "holds no names"),
        ("mine.txt", b"_", "the name '_' is empty"),
        ("mine.txt", b"coco", "built-in vocabulary.*--vocabulary-file coco"),
        ("mine.json", b'["voc20"]', "built-in vocabulary.*in a config 'voc20'"),
        ("mine.txt", b"gar\xe7on", "no text in UTF-8"),
        ("mine.csv", b"cat,dog", r"expected JSON, .* or a name a line.*\.csv"),
        ("mine.json", b'{"cat": 1, "cat": 2}', "the key 'cat' occurs twice"),
        ("mine.json", b'{"names": ["cat", "dog"]}', "'names' is taken for a class"),
        ("mine.json", b'{"nc": 2, "classes": ["cat", "dog"]}', "'classes' is taken for a class"),
        ("mine.json", b'{"0": "cat", "1": "dog"}', "write the names as a list"),
        ("mine.json", b"[" * 100_000, "not valid JSON"),
        ("mine.json", b'[{"name": "a", "synonyms": 3}]', "'synonyms' must be a list"),
        ("mine.json", b'[{"name": "a", "id": 1.5}]', "'id' must be an integer"),
        ("mine.json", b'[{"name": "a", "frequency": 7}]', "'frequency' must be 'r', 'c' or 'f'"),
        ("mine.json", b'[{"name": "a", "image_count": -1}]', "'image_count' must be"),
        ("mine.json", b'{"name": ["x"], "categories": ["a"]}', "'name' must be a string"),
        ("mine.json", b'{"notes": 5, "categories": ["a"]}', "'notes' must be a list"),
    ],
)
def test_files_that_are_no_vocabulary_are_refused_with_a_hint(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=message) as error:
        load_vocabulary(tmp_path / name)
    assert str(tmp_path / name) in str(error.value)


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["cat", "cat"], r"categories\[0\] and categories\[1\] are both 'cat'"),
        (["cat", "BACKGROUND"], "'BACKGROUND' is no class"),
        (["cat", ""], "must be a non-empty string"),
        (["scenes"], "built-in vocabulary"),
        ([3], "expected a name or an object, got int"),
        ({3: None}, "expected names as keys"),
    ],
)
def test_lists_follow_the_same_rule(names, message):
    with pytest.raises(ValueError, match=message):
        as_vocabulary(names)
    with pytest.raises(ValueError, match=r"^--vocabulary: "):
        as_vocabulary(names, "--vocabulary")


def test_annotations_with_one_class_may_call_it_anything():
    assert Vocabulary.from_coco({"categories": [{"id": 1, "name": "coco"}]}).names == ("coco",)


def test_names_without_ids_are_matched_by_name():
    annotated = Vocabulary.from_coco(
        {"categories": [{"id": 4, "name": "cat", "isthing": 1}, {"id": 9, "name": "sky"}]}
    )
    found = as_vocabulary({"heaven": ["heaven", "sky"], "owl": None, "cat": None})
    found = found.with_ids_of(annotated)
    assert found.names == ("heaven", "owl", "cat")
    assert found.ids == (9, None, 4)
    assert found.isthing == (None, None, True)
    kept = as_vocabulary({"cat": 1})
    assert kept.with_ids_of(annotated) is kept
