"""Looks at photographs one after the other and writes a picture and a JSON file of each."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from PIL import Image
from torch import Tensor

from fineclip.files import write_atomically
from fineclip.looking.answers import Answer, Looker, best_words
from fineclip.looking.picture import draw_answer
from fineclip.looking.regions import Proposer
from fineclip.visualization import save_png


def look_at_photographs(
    looker: Looker,
    photographs: Iterable[tuple[int, Path, Image.Image]],
    proposer: Proposer,
    out: Path,
    count: int = 5,
    relevance: bool = True,
) -> Iterator[tuple[Path, Answer]]:
    """Looks at photographs and writes ``NUMBER_NAME.png`` and ``NUMBER_NAME.json`` of each.

    Args:
        looker: The model and its words.
        photographs: Number, file and upright RGB image of each.
        proposer: Which regions are asked about.
        out: Folder to write, made if it is missing.
        count: Words that are drawn, and that are written of each region.
        relevance: Explain the words that are drawn, too, where the model's tower can be.

    Yields:
        Each file with its answer, once both files of it are there.

    Raises:
        ValueError: Regions that do not fit a photograph.
    """
    explained = count if relevance and looker.explains else 0
    for number, file, image in photographs:
        answer = looker.look(image, proposer(file, image), explained)
        out.mkdir(parents=True, exist_ok=True)
        stem = f"{number:04d}_{file.stem}"
        save_png(draw_answer(image, answer, count), out / f"{stem}.png")
        content = {"file_name": file.name, "width": image.width, "height": image.height}
        content |= as_plain(answer, image.size, count)
        text = json.dumps(content, indent=1, ensure_ascii=False)
        write_atomically(out / f"{stem}.json", text + "\n")
        yield file, answer


def as_plain(answer: Answer, size: tuple[int, int], count: int) -> dict[str, Any]:
    """An answer for JSON: words by their score, and regions with their best words.

    Args:
        answer: The answer.
        size: Width and height of the photograph in pixels.
        count: Words of each region.

    Returns:
        ``words``, best first, each with ``word``, ``score``, ``similarity`` and ``peaks``, the
        highest place of each of its maps (x, y in pixels); and ``regions``, each with ``bbox`` (x,
        y, width, height in pixels) and ``words``.
    """
    words = [
        {
            "word": answer.words[index],
            "score": round(float(answer.scores[index]), 5),
            "similarity": round(float(answer.similarities[index]), 5),
            "peaks": {
                kind: _peak(maps[index], size)
                for kind, maps in answer.maps.items()
                if maps[index].isfinite().all()
            },
        }
        for index in answer.best(len(answer.words))
    ]
    regions = [
        {
            "bbox": [round(value, 2) for value in (x0, y0, x1 - x0, y1 - y0)],
            "words": best_words(scores, answer.words, count),
        }
        for (x0, y0, x1, y1), scores in zip(
            answer.boxes.tolist(), answer.region_scores, strict=True
        )
    ]
    return {"words": words, "regions": regions}


def _peak(values: Tensor, size: tuple[int, int]) -> list[float]:
    """Where the centre of the highest place of an (h, w) map is, in pixels of the photograph."""
    rows, columns = values.shape
    row, column = divmod(int(values.argmax()), columns)
    return [round((column + 0.5) / columns * size[0], 1), round((row + 0.5) / rows * size[1], 1)]
