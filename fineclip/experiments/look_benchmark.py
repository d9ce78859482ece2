"""What each view of a photograph costs: words, regions, dense map, relevance, the picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from fineclip.experiments.measuring import measure_cost
from fineclip.looking import Looker, cells_of_grid, draw_answer
from fineclip.models import DenseCLIP

PHOTOGRAPH = (640, 480)
"""Width and height in pixels of the photograph that is looked at."""


def benchmark_looking(
    model: str,
    image_sizes: Sequence[int],
    *,
    words: int = 5,
    grid: int = 3,
    rounds: int = 3,
    device: torch.device | None = None,
    report: Callable[[str], None] = lambda line: None,
) -> list[dict[str, Any]]:
    """Measures the views of one photograph, each as if it alone were asked for.

    Weights, pixels and words are random. Each view starts from the photograph, which is resized
    and normalised; the picture starts from the answers.

    Args:
        model: open_clip name.
        image_sizes: Sides in pixels of the input.
        words: How many are looked for, explained and drawn.
        grid: Rows and columns of the regions.
        rounds: Measured calls, of which the median counts.
        device: Where the model runs; None: the CPU.
        report: Told what is about to be measured.

    Returns:
        A row for each size and view: ``image_size``, ``view`` and what
        :func:`fineclip.experiments.measuring.measure_cost` gives.
    """
    device = device or torch.device("cpu")
    torch.manual_seed(0)
    clip = DenseCLIP.create(model).to(device).eval()
    embeddings = F.normalize(torch.randn(words, clip.embed_dim), dim=1).to(device)
    names = tuple(f"word {number}" for number in range(1, words + 1))
    rows = []
    for size in image_sizes:
        looker = Looker(clip, names, embeddings, size)
        for view, run in _views(looker, grid).items():
            report(f"{size} px: {view}")
            run()
            cost = measure_cost(run, device, steps=rounds)
            rows.append({"image_size": size, "view": view, **cost})
    return rows


def look_table(rows: Sequence[dict[str, Any]]) -> str:
    """The rows of :func:`benchmark_looking` as Markdown, a column of seconds for each size."""
    sizes = list(dict.fromkeys(row["image_size"] for row in rows))
    costs = {(row["view"], row["image_size"]): row for row in rows}
    heads = [f"{size} px, {unit}" for unit in ("seconds", "MiB more") for size in sizes]
    lines = [f"| view | {' | '.join(heads)} |", "|---|" + "---|" * len(heads)]
    for view in dict.fromkeys(row["view"] for row in rows):
        found = [costs[view, size] for size in sizes]
        seconds = [f"{row['seconds_per_step']:.3f}" for row in found]
        memory = [f"{row['activation_bytes'] / 2**20:.0f}" for row in found]
        lines.append(f"| {view} | {' | '.join([*seconds, *memory])} |")
    return "\n".join(lines)


def _views(looker: Looker, grid: int) -> dict[str, Callable[[], object]]:
    """A call for each view by its name, of a photograph of noise."""
    pixels = np.random.default_rng(0).integers(0, 256, (*PHOTOGRAPH[::-1], 3), dtype=np.uint8)
    photograph = Image.fromarray(pixels)
    boxes = cells_of_grid(grid)(Path(), photograph)
    words = len(looker.words)
    answer = looker.look(photograph, boxes, explained=words * looker.explains)
    relative = boxes / boxes.new_tensor([*PHOTOGRAPH, *PHOTOGRAPH])
    clip, embeddings = looker.clip, looker.embeddings

    def prepared() -> torch.Tensor:
        return clip.preprocess(photograph, looker.size)[None]

    views: dict[str, Callable[[], object]] = {
        "words of the whole": lambda: clip.encode_image(prepared()) @ embeddings.T,
        f"words of {len(boxes)} regions": lambda: (
            clip.encode_regions(prepared(), [relative.to(clip.device)]) @ embeddings.T
        ),
        "dense map": lambda: torch.einsum(
            "bdhw,kd->bkhw", clip.encode_dense(prepared()), embeddings
        ),
        "these three at once": lambda: looker.look(photograph, boxes),
    }
    views = {name: torch.no_grad()(run) for name, run in views.items()}
    if looker.explains:
        views["relevance map of a word"] = lambda: looker.relevance(photograph, [0])
    views[f"picture of {words} words"] = lambda: draw_answer(photograph, answer, words)
    return views
