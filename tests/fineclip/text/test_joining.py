"""Two vocabularies as one."""

from fineclip.text import Vocabulary
from fineclip.text.joining import joined_vocabulary


def vocabulary(name, *entries):
    return Vocabulary.from_dict({"name": name, "categories": list(entries)})


def test_classes_that_read_the_same_are_one():
    own = vocabulary("own", "bolt", {"name": "Red_ring", "synonyms": ["ring"]})
    start = vocabulary(
        "start",
        {"name": "red ring", "id": 4, "split": "novel"},
        {"name": "disk", "id": 7, "split": "novel"},
        {"name": "bar", "id": 9},
    )
    found = joined_vocabulary(own, start)
    assert found.names == ("bolt", "Red_ring", "disk", "bar")
    # What is labelled now is novel no more; ids are those of two different files.
    assert found.split == ("base", "base", "novel", "base")
    assert found.ids == (None,) * 4
    assert found.synonyms[1] == ("ring",)


def test_what_is_left_out_stays_so_unless_it_is_a_class():
    own = vocabulary("own", "bolt")
    start = Vocabulary.from_dict(
        {"categories": ["bar"], "unused_categories": [{"name": "Bolt", "id": 3}, {"name": "nut"}]}
    )
    found = joined_vocabulary(own, start)
    assert found.names == ("bolt", "bar")
    assert [category.name for category in found.unused] == ["nut"]
