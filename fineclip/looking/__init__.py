"""A photograph asked about words: answers of a CLIP, and a picture of them."""

from fineclip.looking.answers import (
    Answer,
    EncodedPhotograph,
    Looker,
    embed_classes,
    load_trained_clip,
    trained_model,
)
from fineclip.looking.photographs import look_at_photographs
from fineclip.looking.picture import draw_answer, draw_regions
from fineclip.looking.regions import Proposer, boxes_of_file, cells_of_grid

__all__ = [
    "Answer",
    "EncodedPhotograph",
    "Looker",
    "Proposer",
    "boxes_of_file",
    "cells_of_grid",
    "draw_answer",
    "draw_regions",
    "embed_classes",
    "look_at_photographs",
    "load_trained_clip",
    "trained_model",
]
