"""Which categories captions name."""

import pytest
import torch

from fineclip.annotation.coverage import Coverage, words_of_text
from fineclip.annotation.near_words import add_near_words
from fineclip.text import Vocabulary, load_vocabulary


def named(vocabulary, *captions):
    """Name and counts of the categories that are named."""
    coverage = Coverage(vocabulary)
    for caption in captions:
        coverage.add(caption)
    return {c.name: dict(c.captions) for c in coverage.categories if c.total}


def of(*names):
    return Vocabulary.from_dict(list(names))


@pytest.mark.parametrize(
    ("names", "caption", "expected"),
    [
        (["cat"], "A Cat, and a cat.", {"cat": {"exact": 1}}),
        (["cat"], "two cats", {"cat": {"inflected": 1}}),
        (["cat"], "the cat's bowl", {"cat": {"exact": 1}}),
        (["cat"], "a catalogue of concatenation", {}),
        (["leaf"], "leaves on knives", {"leaf": {"inflected": 1}}),
        (["skis"], "one ski", {"skis": {"inflected": 1}}),
        (["cats"], "a cat among cats", {"cats": {"exact": 1}}),  # the better way counts
        (["sofa"], "an old couch", {"sofa": {"synonym": 1}}),
        (["sofa"], "old couches", {"sofa": {"synonym": 1}}),
        (["sofa", "couch"], "an old couch", {"couch": {"exact": 1}}),
        (["diningtable"], "a dining table", {"diningtable": {"exact": 1}}),
        (["dining table"], "two dining-tables", {"dining table": {"inflected": 1}}),
        (["dog", "hot dog"], "two hot dogs", {"hot dog": {"inflected": 1}}),
        (["dog"], "two hot dogs", {"dog": {"inflected": 1}}),
        (["wall-brick"], "a brick wall", {"wall-brick": {"exact": 1}}),
        (["sky-other-merged"], "a grey sky", {"sky-other-merged": {"exact": 1}}),
        (["bat_(animal)"], "a bat", {"bat_(animal)": {"exact": 1}}),
        (["stool/bench"], "a bench", {"stool/bench": {"exact": 1}}),
        (["other"], "the other", {"other": {"exact": 1}}),
        (["\u732b"], "\u732b \u72d7", {"\u732b": {"exact": 1}}),
        (["cat"], "", {}),
    ],
)  # fmt: skip
def test_how_captions_name_categories(names, caption, expected):
    assert named(of(*names), caption) == expected


def test_own_synonyms_but_not_what_names_another():
    vocabulary = Vocabulary.from_dict({"toilet": ["toilet", "loo", "can"], "can": None})
    found = named(vocabulary, "the loo", "a can", "a can of beans")
    assert found == {"toilet": {"synonym": 1}, "can": {"exact": 2}}


@pytest.mark.parametrize("name", ["pc59", "coco_stuff171", "lvis_v1"])
def test_every_category_is_named_by_its_own_name(name):
    vocabulary = load_vocabulary(name)
    coverage = Coverage(vocabulary)
    for text in vocabulary.prompt_names:
        coverage.add(text)
    assert [c.name for c in coverage.categories if not c.total] == []


def test_levels():
    coverage = Coverage(of("cat", "dog", "cow", "hen"))
    for caption in ("a cat", "cats", "a cat and a dog"):
        coverage.add(caption)
    coverage.categories[2].near = [("ox", 0.95)]
    coverage.judge(min_captions=3)
    levels = ["relevant", "weakly relevant", "weakly relevant", "absent"]
    assert [c.level for c in coverage.categories] == levels
    assert coverage.levels() == {"relevant": 1, "weakly relevant": 2, "absent": 1}
    assert coverage.as_json()["categories"][0]["captions"] == {
        "exact": 2,
        "inflected": 1,
        "synonym": 0,
    }


WORDS = {"ox": (1.0, 0.1), "cow": (1.0, 0.0), "house": (0.0, 1.0), "milk": (0.6, 0.8)}


class Encoder:
    """Embeds a prompt by its last word."""

    device = torch.device("cpu")

    def tokenizer(self, texts):
        known = list(WORDS)
        return torch.tensor([[known.index(text.rstrip(".").split()[-1])] for text in texts])

    def encode_text(self, tokens, normalize=True):
        return torch.tensor(list(WORDS.values()))[tokens[:, 0]]


def test_near_words():
    coverage = Coverage(of("cow", "house"))
    add_near_words(coverage, ["milk", "cow", "ox"], Encoder(), near=0.9)
    (cow, house) = coverage.categories
    assert [word for word, _ in cow.near] == ["ox"]  # its own name is no other word
    assert cow.near[0][1] == pytest.approx(0.995, abs=1e-3)
    assert house.near == []
    add_near_words(coverage, [], Encoder())


def test_words():
    assert words_of_text("The dog's bone\u2014it isn't RED-brown, 2nd!") == [
        *("the", "dog", "bone", "it", "isn't", "red", "brown", "2nd")
    ]
