"""One picture of an answer: the photograph with its regions, bars of scores, maps of words."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image, ImageOps
from torch import Tensor

from fineclip.looking.answers import Answer
from fineclip.visualization import class_color, draw_boxes, typeset

MOST_REGIONS = 20
"""Regions that are drawn, those with the highest scores; JSON has all."""

_INCHES, _DPI = 11.0, 140  # width of the picture, and its resolution
_BAR, _TITLE = 1.0, 0.3  # inches that a colour bar and a line of text take
_WIDE = 0.4  # height over width below which a photograph takes the whole width
_SIDE = 1100  # longer side in pixels of the photograph when it is drawn: letters fit it
_RELATIVE = {"relevance"}  # kinds whose words cannot be compared with each other
_UNITS = {"dense": "\ncosine", "relevance": "\n1: the highest"}
_OPACITY = 0.6  # of the highest colour over the photograph


def draw_answer(photograph: Image.Image, answer: Answer, count: int = 5) -> Image.Image:
    """Draws what a model says of a photograph.

    At the top the photograph with its regions, each with its best word, and bars of the scores of
    the whole. Below, for each kind of map, a panel a word over the grey photograph. The panels of
    a kind have one colour bar, from the 1st to the 99th percentile of their values; relevance,
    which cannot be compared between words, is first divided by each word's highest.

    Args:
        photograph: RGB.
        answer: What is drawn.
        count: How many words, the best of the whole.

    Returns:
        An RGB image.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # takes a second
    from matplotlib.figure import Figure

    best = answer.best(count)
    known = {kind: _known(maps, best) for kind, maps in answer.maps.items()}
    kinds = [kind for kind, words in known.items() if words]
    aspect = min(max(photograph.height / photograph.width, 0.05), 2.0)
    wide = aspect < _WIDE
    rows, columns = _panels(len(best), wide)
    bars = max(5, len(best)) * _TITLE
    if wide:
        heights = [_INCHES * aspect, bars + 2 * _TITLE]
    else:
        heights = [max(_INCHES / 2 * aspect, bars + 2 * _TITLE)]
    top = len(heights)
    panel = (_INCHES - _BAR) / columns * aspect + _TITLE
    heights += [max(rows * panel, 5 * _TITLE)] * len(kinds)
    figure = Figure(figsize=(_INCHES, sum(heights)), dpi=_DPI, layout="constrained")
    canvas = FigureCanvasAgg(figure)
    grid = figure.add_gridspec(len(heights), 2, height_ratios=heights)
    shown = figure.add_subplot(grid[0, :] if wide else grid[0, 0])
    small = ImageOps.contain(photograph, (_SIDE, _SIDE))
    shown.imshow(draw_regions(photograph, answer))
    shown.set_axis_off()
    _draw_bars(figure.add_subplot(grid[1, :] if wide else grid[0, 1]), answer, best)
    grey = np.asarray(ImageOps.grayscale(small))
    for place, kind in enumerate(kinds, top):
        panels = grid[place, :].subgridspec(rows, columns)
        axes = [figure.add_subplot(panels[divmod(n, columns)]) for n in range(len(known[kind]))]
        words = [answer.words[index] for index in known[kind]]
        _draw_maps(figure, axes, grey, answer.maps[kind][known[kind]], kind, words)
    canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())[:, :, :3].copy())


def _panels(count: int, wide: bool) -> tuple[int, int]:
    """Rows and columns of panels, as full as can be."""
    rows = -(-count // (2 if wide else 5))
    return rows, max(2 if wide else 3, -(-count // rows))


def _known(maps: Tensor, words: list[int]) -> list[int]:
    """Those of the words that (K, h, w) maps have numbers for."""
    return [index for index in words if maps[index].isfinite().all()]


def draw_regions(photograph: Image.Image, answer: Answer) -> Image.Image:
    """The photograph with its regions, those with the highest scores, each with its best word.

    Returns:
        An RGB image of a size that letters fit on.
    """
    drawn = ImageOps.contain(photograph, (_SIDE, _SIDE))
    if not len(answer.boxes):
        return drawn
    scores, words = answer.region_scores.max(dim=1)
    order = scores.argsort(descending=True, stable=True)[:MOST_REGIONS].tolist()
    scale = max(drawn.size) / max(photograph.size)
    return draw_boxes(
        drawn,
        [_xywh(answer.boxes[place] * scale) for place in order],
        [int(words[place]) for place in order],
        [f"{answer.words[int(words[place])]} {scores[place]:.2f}" for place in order],
        inside=True,
    )


def _xywh(box: Tensor) -> list[float]:
    x0, y0, x1, y1 = box.tolist()
    return [x0, y0, x1 - x0, y1 - y0]


def _draw_bars(axes: Any, answer: Answer, best: list[int]) -> None:
    """A bar a word, best at the top, in the colour that its regions have."""
    places = range(len(best))
    bars = axes.barh(
        places,
        [float(answer.scores[index]) for index in best],
        color=[[value / 255 for value in class_color(index)] for index in best],
    )
    axes.bar_label(
        bars,
        [f"{answer.scores[i]:.2f} (cosine {answer.similarities[i]:.3f})" for i in best],
        padding=3,
        fontsize=8,
    )
    axes.set(xlim=(0, 1.4), ylim=(max(5, len(best)) - 0.5, -0.5))
    axes.set_title("the whole photograph", fontsize=10)
    axes.set_xticks([0, 0.5, 1])
    texts = [_in_a_font(answer.words[index]) for index in best]
    axes.set_yticks(places, [text for text, _ in texts])
    for label, (_, options) in zip(axes.get_yticklabels(), texts, strict=True):
        label.set(parse_math=False, **options)
    axes.spines[["top", "right"]].set_visible(False)


def _draw_maps(
    figure: Any, axes: list[Any], grey: np.ndarray, maps: Tensor, kind: str, words: list[str]
) -> None:
    """Panels of (m, h, w) maps, with one colour bar."""
    height, width = grey.shape
    relative = kind in _RELATIVE
    if relative:
        maps = maps / maps.amax(dim=(1, 2), keepdim=True).clamp(min=1e-12)
    low, high = np.percentile(maps.numpy(), (1, 99))
    for panel, values, word in zip(axes, maps.numpy(), words, strict=True):
        panel.imshow(grey, cmap="gray", vmin=0, vmax=255)
        drawn = panel.imshow(
            values,
            cmap="turbo",
            vmin=low,
            vmax=high if high > low else low + 1e-6,
            # What is not relevant stays as clear as it was.
            alpha=_OPACITY * (0.2 + 0.8 * values.clip(0, 1)) if relative else _OPACITY,
            interpolation="bilinear",
            extent=(-0.5, width - 0.5, height - 0.5, -0.5),
        )
        text, options = _in_a_font(word)
        panel.set_title(text, parse_math=False, **options)
        panel.set_axis_off()
    bar = figure.colorbar(drawn, ax=axes, aspect=15)
    bar.set_label(f"{kind} map{_UNITS.get(kind, '')}", fontsize=9)
    bar.solids.set_alpha(1)


def _in_a_font(word: str) -> tuple[str, dict[str, Any]]:
    """A word as it can be drawn, and the options of matplotlib's that choose its font."""
    text, file = typeset(word)
    short = text if len(text) <= 32 else f"{text[:29]}..."
    return short, {**({"font": file} if file else {}), "fontsize": 9}
