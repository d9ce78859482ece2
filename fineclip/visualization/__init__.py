"""Pictures of results."""

from fineclip.visualization.boxes import draw_boxes
from fineclip.visualization.label_maps import draw_label_map, save_label_map
from fineclip.visualization.lettering import undrawable
from fineclip.visualization.pictures import class_color, save_png

__all__ = [
    "class_color",
    "draw_boxes",
    "draw_label_map",
    "save_label_map",
    "save_png",
    "undrawable",
]
