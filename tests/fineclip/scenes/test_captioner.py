"""The captioner: every kind of error at its rate, and nothing else changes with it."""

import json
import math
import re
from collections import Counter

import pytest

from fineclip.scenes import (
    CAPTION_ERRORS,
    COLORS,
    SHAPES,
    SIZES,
    STUFF_CATEGORIES,
    TEXTURES,
    CaptionerRates,
    captioner_captions,
    make_scenes,
    region_phrases,
    sample_scene,
)
from fineclip.scenes.captioner import HYPERNYMS, SYNONYMS

PERFECT = CaptionerRates.from_options(None)
WORDS = {"color": COLORS, "size": SIZES, "texture": TEXTURES}


@pytest.fixture(scope="module")
def scenes() -> list:
    return [sample_scene(1, "train", index) for index in range(150)]


def only(error: str, rate: float) -> CaptionerRates:
    return CaptionerRates(**{**vars(PERFECT), error: rate})


def captions(scenes, rates) -> list:
    return [caption for scene in scenes for caption in captioner_captions(scene, rates)]


def test_without_errors_captions_are_the_true_descriptions(scenes):
    expected = [phrase.text for scene in scenes for phrase in region_phrases(scene)]
    found = captions(scenes, PERFECT)
    assert [caption.text for caption in found] == expected
    assert not any(caption.errors for caption in found)


@pytest.mark.parametrize("error", CAPTION_ERRORS)
def test_each_error_happens_at_its_rate_and_is_counted(scenes, error):
    before = captions(scenes, PERFECT)
    always, sometimes = captions(scenes, only(error, 1.0)), captions(scenes, only(error, 0.3))
    possible = 0
    for old, all_of_them, new in zip(before, always, sometimes, strict=True):
        assert all_of_them.errors <= {error}
        possible += bool(all_of_them.errors)
        # One that happens says the same at every rate; one that does not leaves the caption alone.
        assert new == (all_of_them if new.errors else old)
        if all_of_them.errors and "object" not in error:
            assert all_of_them.text != old.text
    count = sum(bool(caption.errors) for caption in sometimes)
    assert possible > 100
    assert abs(count - 0.3 * possible) < 3 * math.sqrt(0.3 * 0.7 * possible)


def described(scenes, error):
    """Phrases of things, and what is written if the error always happens."""
    for scene in scenes:
        new = captioner_captions(scene, only(error, 1.0))
        for item, phrase, caption in zip(scene.objects, region_phrases(scene), new, strict=False):
            if caption.errors:
                yield item, phrase, caption.text


@pytest.mark.parametrize("slot", WORDS)
def test_left_out_words_are_gone_and_wrong_ones_differ(scenes, slot):
    nouns = {"striped": "stripes", "dotted": "dots", "checkered": "checks"}
    for _, phrase, text in described(scenes, f"omitted_{slot}"):
        assert getattr(phrase, slot) not in text.split()
        assert nouns.get(phrase.texture, "none") not in text or slot != "texture"
        assert phrase.noun in text
    for _, phrase, text in described(scenes, f"wrong_{slot}"):
        said = [w for w in WORDS[slot] if w in text.split() or nouns.get(w, "none") in text.split()]
        assert len(said) == 1
        assert said != [getattr(phrase, slot)]


def test_nouns(scenes):
    for _, phrase, text in described(scenes, "wrong_noun"):
        assert [shape for shape in SHAPES if shape in text.split()] not in ([], [phrase.noun])
    for _, phrase, text in described(scenes, "hypernym"):
        assert set(text.split()) & set(HYPERNYMS)
        assert phrase.noun not in text.split()
    for _, phrase, text in described(scenes, "synonym"):
        changed = Counter(phrase.text.split()) - Counter(text.split())
        stated = {phrase.noun, phrase.color, phrase.size, phrase.texture}
        changed = {*changed} - {"a", "an", "with", "stripes", "dots", "checks"}
        assert len(changed) <= 1
        assert changed <= stated
        assert set(text.split()) & {word for words in SYNONYMS.values() for word in words}
    assert not re.search(
        r"\ba [aeiou]", " ".join(c.text for c in captions(scenes, CaptionerRates()))
    )


def test_surfaces_are_called_walls_and_floors_or_other_ones(scenes):
    for error in ("hypernym", "wrong_noun"):
        for scene in scenes:
            texts = captioner_captions(scene, only(error, 1.0))[len(scene.objects) :]
            for surface, caption in zip(scene.background.surfaces, texts, strict=True):
                others = {f"a {c.name}" for c in STUFF_CATEGORIES if c.kind == surface.kind}
                known = {f"a {surface.kind}"} if error == "hypernym" else others
                assert caption.text in known - {f"a {surface.name}"}


def test_other_objects_are_those_in_the_crop(scenes):
    overlaps = 0
    for scene in scenes:
        texts = [phrase.text for phrase in region_phrases(scene)]
        things = set(texts[: len(scene.objects)])
        for error in ("other_object", "added_object"):
            found = captioner_captions(scene, only(error, 1.0))
            for number, caption in enumerate(found):
                own = f"{texts[number]} and " if error == "added_object" else ""
                assert caption.text == texts[number] or caption.text.removeprefix(own) in things
                if not caption.errors or number >= len(scene.objects):
                    continue
                overlaps += 1
                a = scene.objects[number]
                assert any(
                    b is not a
                    and all(
                        abs(p - q) < (a.side + b.side) / 2
                        for p, q in zip(a.center, b.center, strict=True)
                    )
                    for b in scene.objects
                )
            if len(scene.background.surfaces) == 1:
                assert found[-1].errors  # everything is in the crop of the only surface
    assert overlaps > 10


def test_captions_fit_the_positions_of_a_text_tower(scenes):
    open_clip = pytest.importorskip("open_clip")
    texts = [caption.text for caption in captions(scenes, only("added_object", 1.0))]
    texts += [caption.text for caption in captions(scenes, only("synonym", 1.0))]
    lengths = (open_clip.get_tokenizer("ViT-B-32")(texts) != 0).sum(1)
    assert lengths.max() < 30


def test_a_captioner_changes_captions_of_training_regions_alone(tmp_path):
    for name, captioner in (
        ("default", {}),
        ("none", None),
        ("always", {"wrong_noun": 1, "hypernym": 0}),
    ):
        make_scenes(tmp_path / name, images=5, val_images=2, size=32, captioner=captioner)
    files = [p.relative_to(tmp_path / "none") for p in (tmp_path / "none").rglob("*.*")]
    for name in ("default", "always"):
        other = {
            str(f)
            for f in files
            if (tmp_path / name / f).read_bytes() != (tmp_path / "none" / f).read_bytes()
        }
        assert other == {"scenes.json", "annotations/region_captions_train.json"}
    manifest = json.loads((tmp_path / "always" / "scenes.json").read_text())
    counts = manifest["statistics"]["train"]["region_captions_by_error"]
    assert counts.keys() == {*CAPTION_ERRORS}
    assert counts["wrong_noun"] == sum(
        len(sample_scene(0, "train", index).segments) for index in range(5)
    )
