"""Which regions of a photograph are asked about."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

import torch
from PIL import Image
from torch import Tensor

from fineclip.annotations import read_boxes
from fineclip.annotations.boxes import file_name_of
from fineclip.datasets.grid_regions import grid_cells
from fineclip.files import read_json
from fineclip.images import check_size
from fineclip.text.exemplars import checked_box

Proposer: TypeAlias = Callable[[Path, Image.Image], Tensor]
"""Gives the (n, 4) float32 regions of a photograph, xyxy in pixels, by its file and its pixels."""


def cells_of_grid(side: int) -> Proposer:
    """Proposes the cells of a grid over the photograph.

    Args:
        side: Its rows, and its columns.
    """
    return lambda file, image: grid_cells(side, side, *image.size)


def boxes_of_file(path: str | Path, photographs: Iterable[Path]) -> Proposer:
    """Proposes the boxes that a JSON file has for each photograph, found by the file's name.

    Boxes are x, y, width, height in pixels of the upright photograph. The file holds one of

    - COCO annotations (``images`` and ``annotations``);
    - a list of objects with ``file_name`` and ``bbox``, such as ``detections.json`` of
      ``tools/detect.py``;
    - an object of lists of boxes by file name: ``{"photo.jpg": [[x, y, w, h], ...]}``.

    Args:
        path: The JSON file.
        photographs: Those that will be asked for.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is malformed, or has nothing for one of the photographs.
    """
    found, sizes = _by_name(path)
    for photograph in photographs:
        if photograph.name not in found:
            raise ValueError(
                f"boxes {path}: nothing for {photograph.name}; name the photograph there, with "
                "an empty list of boxes if there are none"
            )

    def propose(file: Path, image: Image.Image) -> Tensor:
        if file.name in sizes:
            check_size(image.size, sizes[file.name], file)
        boxes = torch.tensor(found[file.name], dtype=torch.float32).view(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        boxes = boxes.clamp(min=0).minimum(boxes.new_tensor([*image.size, *image.size]))
        outside = (boxes[:, 2:] <= boxes[:, :2]).any(dim=1).nonzero().flatten().tolist()
        if outside:
            raise ValueError(
                f"boxes {path}: {file.name}: box {outside[0] + 1} lies outside the photograph of "
                f"{image.width} x {image.height} pixels"
            )
        return boxes

    return propose


def _by_name(
    path: str | Path,
) -> tuple[dict[str, list[list[float]]], dict[str, tuple[int, int]]]:
    """Boxes by name of the file, and the sizes that COCO annotations state."""
    content = read_json(path, "boxes")
    if isinstance(content, Mapping) and "images" in content:
        return _of_annotations(path)
    found: dict[str, list[list[float]]] = {}
    if isinstance(content, Mapping):
        for name, boxes in content.items():
            if not isinstance(boxes, Sequence) or isinstance(boxes, str):
                raise ValueError(f"boxes {path}: {name}: expected a list of boxes")
            found[name] = [list(checked_box(box, f"boxes {path}: {name}")) for box in boxes]
    elif isinstance(content, Sequence) and not isinstance(content, str):
        for place, item in enumerate(content):
            where = f"{path}: entry {place}"
            if not isinstance(item, Mapping) or not isinstance(item.get("file_name"), str):
                raise ValueError(f"boxes {where}: expected an object with 'file_name' and 'bbox'")
            name = Path(item["file_name"]).name
            found.setdefault(name, []).append(list(checked_box(item.get("bbox"), f"boxes {where}")))
    else:
        raise ValueError(
            f"boxes {path}: expected COCO annotations, a list of objects with 'file_name' and "
            "'bbox', or an object of lists of boxes by file name"
        )
    return found, {}


def _of_annotations(
    path: str | Path,
) -> tuple[dict[str, list[list[float]]], dict[str, tuple[int, int]]]:
    content, _ = read_boxes(path, labelled=False)
    names = {image["id"]: Path(file_name_of(image)).name for image in content["images"]}
    found: dict[str, list[list[float]]] = {name: [] for name in names.values()}
    for entry in content["annotations"]:
        found[names[entry["image_id"]]].append(entry["bbox"])
    sizes = {names[image["id"]]: (image["width"], image["height"]) for image in content["images"]}
    return found, sizes
