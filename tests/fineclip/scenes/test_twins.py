"""Twins among the validation scenes: one difference, which every caption of the two states."""

import dataclasses
import itertools
import json
import math
import re
from collections import Counter

import pytest

from fineclip.scenes import (
    COLORS,
    DIFFERENCES,
    SHAPES,
    SIZES,
    TEXTURES,
    make_scenes,
    sample_scene,
    scene_captions,
    validation_scene,
)
from fineclip.scenes.world import is_arrangement

PAIRS = 120
PHRASE = re.compile(
    rf"(?:({'|'.join(SIZES)}) )?(?:({'|'.join(TEXTURES)}) )?"
    rf"({'|'.join(COLORS)}) ({'|'.join(SHAPES)})"
)
AXES = {"left of": (0, -1), "right of": (0, 1), "above": (1, -1), "below": (1, 1)}


@pytest.fixture(scope="module")
def pairs() -> list:
    pairs = [[validation_scene(4, 2 * k + i, 1.0) for i in (0, 1)] for k in range(PAIRS)]
    assert all(first[1] == second[1] for first, second in pairs)
    return [(first[0], second[0], first[1]) for first, second in pairs]


def could_be_true(caption, scene) -> bool:
    """Whether objects of a scene can be found that are as a sentence says."""
    if caption.mentions_background and not all(
        surface.name in caption.text for surface in scene.background.surfaces
    ):
        return False
    phrases = PHRASE.findall(caption.text)
    places = {number: k for k, number in enumerate(caption.objects)}
    for objects in itertools.permutations(scene.objects, len(phrases)):
        described = all(
            size in ("", item.size)
            and texture in ("", item.texture)
            and (color, shape) == (item.category.color, item.category.shape)
            for (size, texture, color, shape), item in zip(phrases, objects, strict=True)
        )
        related = True
        for relation in caption.relations:
            axis, sign = AXES[relation.name]
            subject, other = (objects[places[n]] for n in (relation.subject, relation.object))
            related &= sign * (subject.center[axis] - other.center[axis]) > 0
        if described and related:
            return True
    return False


def test_captions_are_true_of_their_scene_and_false_of_its_twin(pairs):
    for first, second, difference in pairs:
        for scene, other in ((first, second), (second, first)):
            captions = scene_captions(scene, difference=difference)
            assert len({caption.text for caption in captions}) == 2
            for caption in captions:
                assert could_be_true(caption, scene), caption.text
                assert not could_be_true(caption, other), (caption.text, difference)


def test_twins_differ_in_exactly_one_thing(pairs):
    for first, second, difference in pairs:
        assert is_arrangement(second.objects)
        same = dataclasses.replace(second, index=first.index)
        if difference.kind == "background":
            surfaces = [scene.background.surfaces for scene in (first, second)]
            assert sum(a != b for a, b in zip(*surfaces, strict=True)) == 1
            assert [a.kind for a in surfaces[0]] == [b.kind for b in surfaces[1]]
            background = dataclasses.replace(second.background, surfaces=surfaces[0])
            assert dataclasses.replace(same, background=background) == first
            continue
        assert dataclasses.replace(same, objects=first.objects) == first
        changed = [
            n
            for n, items in enumerate(zip(first.objects, second.objects, strict=True))
            if items[0] != items[1]
        ]
        assert changed == sorted(difference.objects)
        for number in changed:
            old, new = first.objects[number], second.objects[number]
            said = {
                "color": old.category.color != new.category.color,
                "shape": old.category.shape != new.category.shape,
                "texture": old.texture != new.texture,
                "size": old.size != new.size,
                "relation": old.center != new.center,
            }
            assert [kind for kind, differs in said.items() if differs] == [difference.kind]
    kinds = Counter(difference.kind for _, _, difference in pairs)
    assert set(kinds) == set(DIFFERENCES)
    assert min(kinds.values()) > PAIRS / 20


def test_the_share_of_twins_is_the_one_asked_for(pairs):
    found = [validation_scene(4, 2 * k, 0.5)[1] for k in range(PAIRS)]
    count = sum(difference is not None for difference in found)
    assert abs(count - PAIRS / 2) < 3 * math.sqrt(PAIRS / 4)
    for k, difference in enumerate(found):
        # A pair is the same whatever the share is; what is no pair is the scene without twins.
        assert difference in (None, pairs[k][2])
    for k, difference in enumerate(found[:20]):
        scenes = [validation_scene(4, 2 * k + i, 0.5)[0] for i in (0, 1)]
        plain = [sample_scene(4, "val", 2 * k + i) for i in (0, 1)]
        assert scenes == (plain if difference is None else list(pairs[k][:2]))
        assert scenes[0] == plain[0]


def test_files_hold_the_twins(tmp_path):
    settings = {"images": 1, "val_images": 7, "size": 32}
    make_scenes(tmp_path / "twins", **settings, twins=1)
    statistics = make_scenes(tmp_path / "none", **settings, twins=0)
    assert sum(statistics["val"]["images_by_difference"].values()) == 0
    texts = {}
    for name in ("twins", "none"):
        content = json.loads((tmp_path / name / "annotations" / "captions_val.json").read_text())
        assert len(content["images"]) == 7
        texts[name] = [entry["caption"] for entry in content["annotations"]]
    scenes = [validation_scene(0, index, 1.0) for index in range(7)]
    expected = [c.text for scene, d in scenes for c in scene_captions(scene, difference=d)]
    assert texts["twins"] == expected
    plain = [sample_scene(0, "val", index) for index in range(7)]
    assert texts["none"] == [c.text for scene in plain for c in scene_captions(scene)]
    train = [tmp_path / n / "annotations" / "captions_train.json" for n in ("twins", "none")]
    assert train[0].read_bytes() == train[1].read_bytes()
