"""The built-in synthetic world: pictures of coloured shapes with complete annotations.

Small enough to be made in a minute and learned on a CPU, rich enough to measure what the toolkit
is about: captions of whole images, captions of regions, boxes, masks, and categories (colour and
shape combinations) of which a third is novel. Everything follows from a seed.
"""

from fineclip.scenes.categories import (
    BASE_CATEGORIES,
    COLORS,
    NOVEL_CATEGORIES,
    STUFF_CATEGORIES,
    THING_CATEGORIES,
    StuffCategory,
    ThingCategory,
)
from fineclip.scenes.dataset import make_scenes
from fineclip.scenes.language import (
    Caption,
    Relation,
    region_captions,
    scene_captions,
    true_relations,
)
from fineclip.scenes.render import render_scene
from fineclip.scenes.shapes import SHAPES, TEXTURES
from fineclip.scenes.world import (
    SIZES,
    SPLITS,
    Background,
    Distractor,
    Scene,
    SceneObject,
    sample_scene,
)

__all__ = [
    "BASE_CATEGORIES",
    "COLORS",
    "NOVEL_CATEGORIES",
    "SHAPES",
    "SIZES",
    "SPLITS",
    "STUFF_CATEGORIES",
    "TEXTURES",
    "THING_CATEGORIES",
    "Background",
    "Caption",
    "Distractor",
    "Relation",
    "Scene",
    "SceneObject",
    "StuffCategory",
    "ThingCategory",
    "scene_captions",
    "make_scenes",
    "region_captions",
    "render_scene",
    "sample_scene",
    "true_relations",
]
