"""The built-in synthetic world: pictures of coloured shapes with complete annotations.

Small enough to be made in a minute and learned on a CPU, rich enough to measure what the toolkit
is about: captions of whole images, captions of regions as captioners write them, boxes, masks, and
categories (colour and shape combinations) of which a third is novel. Everything follows from a
seed.
"""

from fineclip.scenes.captioner import (
    CAPTION_ERRORS,
    CaptionerRates,
    RegionCaption,
    captioner_captions,
)
from fineclip.scenes.categories import (
    BASE_CATEGORIES,
    COLORS,
    NOVEL_CATEGORIES,
    STUFF_CATEGORIES,
    THING_CATEGORIES,
    StuffCategory,
    ThingCategory,
)
from fineclip.scenes.dataset import VERSION, make_scenes
from fineclip.scenes.language import (
    Caption,
    RegionPhrase,
    Relation,
    region_phrases,
    scene_captions,
)
from fineclip.scenes.render import render_scene
from fineclip.scenes.shapes import SHAPES, TEXTURES
from fineclip.scenes.twins import DIFFERENCES, SceneDifference, validation_scene
from fineclip.scenes.world import (
    SIZES,
    SPLITS,
    Background,
    Distractor,
    Scene,
    SceneObject,
    sample_scene,
    true_relations,
)

__all__ = [
    "BASE_CATEGORIES",
    "CAPTION_ERRORS",
    "COLORS",
    "DIFFERENCES",
    "NOVEL_CATEGORIES",
    "SHAPES",
    "SIZES",
    "SPLITS",
    "STUFF_CATEGORIES",
    "TEXTURES",
    "THING_CATEGORIES",
    "VERSION",
    "Background",
    "Caption",
    "CaptionerRates",
    "SceneDifference",
    "Distractor",
    "RegionCaption",
    "RegionPhrase",
    "Relation",
    "Scene",
    "SceneObject",
    "StuffCategory",
    "ThingCategory",
    "captioner_captions",
    "make_scenes",
    "region_phrases",
    "render_scene",
    "sample_scene",
    "scene_captions",
    "true_relations",
    "validation_scene",
]
