"""Pictures of results."""

from fineclip.visualization.boxes import draw_boxes
from fineclip.visualization.heat_maps import draw_heat
from fineclip.visualization.label_maps import (
    NONE_OF_THESE,
    draw_label_map,
    save_label_map,
    save_score_map,
)
from fineclip.visualization.lettering import typeset, undrawable
from fineclip.visualization.pictures import class_color, enlargement, save_png, text_color

__all__ = [
    "NONE_OF_THESE",
    "class_color",
    "draw_boxes",
    "draw_heat",
    "draw_label_map",
    "enlargement",
    "save_label_map",
    "save_png",
    "save_score_map",
    "text_color",
    "typeset",
    "undrawable",
]
