"""Names of models without open_clip: the same that it lists."""

import open_clip
import pytest

import fineclip.tiny_models  # noqa: F401  (registers the tiny model names)
from fineclip.configuration.model_names import _descriptions, check_model_name, patch_side
from fineclip.models import DenseCLIP


def test_the_names_are_those_that_open_clip_lists():
    # Other tests teach open_clip the small models of recordings.
    listed = {name for name in open_clip.list_models() if "recorded" not in name}
    assert listed <= set(_descriptions())


@pytest.mark.parametrize("name", ["ViT-Ti-16", "EVA02-Ti-16", "Sigmoid-Ti-16", "ViT-Ti-8-scenes"])
def test_patches_are_those_of_the_model(name):
    assert DenseCLIP.create(name).patch_size == (patch_side(name),) * 2


def test_what_is_not_said():
    assert patch_side("RN50") is patch_side("MobileCLIP-S1") is patch_side("no-such") is None
    check_model_name("ViT-B/16", "--model")
    check_model_name("hf-hub:org/name", "--model")
    with pytest.raises(ValueError, match="--model: unknown model 'ViT-B/61'; did you mean ViT-B-"):
        check_model_name("ViT-B/61", "--model")
