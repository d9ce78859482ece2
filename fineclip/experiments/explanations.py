"""Do explanations point at what they explain, and name the patches that the score rests on?

Of every image and every category in it, the category's class embedding is explained
(:func:`fineclip.explain.relevance_maps`) and its map is held against two things:

- Pointing (Zhang et al., ECCV 2016): is the most relevant patch in a box of the category? A patch
  is where its centre is. Chance is the share of all patches that are in a box.
- Insertion and deletion (Petsiuk et al., BMVC 2018): the area under the category's probability,
  while patches are shown or hidden in order of relevance. A hidden patch has the mean colour. High
  insertion and low deletion say that the map names what the score rests on.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Subset

from fineclip.datasets.coco_layout import find_files
from fineclip.datasets.evaluation import box_regions
from fineclip.datasets.evaluation_batch import collate_evaluation
from fineclip.datasets.transforms import ImageTransform
from fineclip.devices import usable_device
from fineclip.evaluation.box_classification import class_groups_of
from fineclip.evaluation.runner import eval_mode
from fineclip.explain import relevance_maps
from fineclip.models import DenseCLIP
from fineclip.models.class_embeddings import build_class_embeddings
from fineclip.models.preprocessor import CLIPPreprocessor
from fineclip.progress import track

MEASURES = ("pointing", "chance", "insertion", "deletion")


def patches_in_boxes(boxes: Tensor, grid: tuple[int, int]) -> Tensor:
    """(h, w) bool: patches whose centre lies in one of (n, 4) xyxy boxes in [0, 1]."""
    rows, columns = (
        (torch.arange(size, device=boxes.device) + 0.5) / size for size in grid
    )  # the centres
    inside_x = (columns >= boxes[:, :1]) & (columns < boxes[:, 2:3])  # (n, w)
    inside_y = (rows >= boxes[:, 1:2]) & (rows < boxes[:, 3:])  # (n, h)
    return (inside_y[:, :, None] & inside_x[:, None]).any(dim=0)


def points_inside(maps: Tensor, inside: Tensor) -> Tensor:
    """(P,) bool: whether the largest value of (P, h, w) maps is where (P, h, w) bool is true.

    A map without any relevance points nowhere.
    """
    best, place = maps.flatten(1).max(dim=1)
    return inside.flatten(1).gather(1, place[:, None])[:, 0] & (best > 0)


def area_under(curves: Tensor) -> Tensor:
    """(P,) the trapezoidal area under (P, S + 1) values at equal steps from 0 to 1."""
    return (curves[:, 1:] + curves[:, :-1]).mean(dim=1) / 2


@torch.no_grad()
def perturbation_curves(
    clip: DenseCLIP,
    images: Tensor,
    maps: Tensor,
    classes: Tensor,
    labels: Tensor,
    steps: int,
) -> tuple[Tensor, Tensor]:
    """Probabilities of a class while patches are shown, and while they are hidden.

    Args:
        clip: The model, in eval mode.
        images: (P, 3, H, W) normalised.
        maps: (P, h, w) relevance; of equal patches the first comes first.
        classes: (K, D) unit vectors that the softmax is over.
        labels: (P,) int64 which of them.
        steps: S, after each of which another share of 1 / S of the patches has changed.

    Returns:
        Two times (P, S + 1): insertion from nothing to the image, deletion from the image to
        nothing.
    """
    patches = maps[0].numel()
    order = maps.flatten(1).sort(dim=1, descending=True, stable=True).indices
    rank = order.argsort(dim=1).unflatten(1, maps.shape[1:])  # (P, h, w)
    scale = clip.logit_scale.exp()

    def probability(shown: Tensor) -> Tensor:
        for side, size in enumerate(clip.patch_size, 1):
            shown = shown.repeat_interleave(size, dim=side)
        # 0 is the mean colour of normalised pixels.
        logits = scale * clip.encode_image(images * shown[:, None]) @ classes.T
        return logits.softmax(dim=1).gather(1, labels[:, None])[:, 0]

    counts = [round(step * patches / steps) for step in range(steps + 1)]
    insertion = [probability(rank < count) for count in counts]
    deletion = [probability(rank >= count) for count in counts]
    return torch.stack(insertion, dim=1), torch.stack(deletion, dim=1)


def measure_batch(
    clip: DenseCLIP,
    batch: Mapping[str, Any],
    classes: Tensor,
    *,
    against: bool,
    steps: int,
) -> Iterator[tuple[int, dict[str, float]]]:
    """Measures every category of every image of a batch.

    Args:
        clip: The model, in eval mode.
        batch: Of :func:`fineclip.datasets.evaluation_batch.collate_evaluation`, prepared, with
            at least one box.
        classes: (K, D) unit vectors, one per category.
        against: Explain the probability among all categories, not the logit alone.
        steps: See :func:`perturbation_curves`.

    Yields:
        Category and values of :data:`MEASURES` in [0, 1], chance 0 where no patch could be hit.
    """
    labels = torch.cat([torch.as_tensor(sample["labels"]) for sample in batch["data_samples"]])
    keys = torch.stack([batch["region_image"].cpu(), labels], dim=1)  # (R, 2)
    pairs, pair_of_box = keys.unique(dim=0, return_inverse=True)
    images, label = batch["images"][pairs[:, 0]], pairs[:, 1].to(classes.device)
    grid = clip.trunk.grid_size(*images.shape[-2:])
    boxes = batch["boxes"].cpu()
    inside = torch.stack(
        [patches_in_boxes(boxes[pair_of_box == pair], grid) for pair in range(len(pairs))]
    )
    if against:
        maps = torch.cat(
            [
                relevance_maps(
                    clip,
                    image[None],
                    classes[index : index + 1],
                    against=torch.cat([classes[:index], classes[index + 1 :]]),
                    contrast="probability",
                ).image
                for image, index in zip(images, label.tolist(), strict=True)
            ]
        )
    else:
        maps = relevance_maps(clip, images, classes[label]).image
    insertion, deletion = perturbation_curves(clip, images, maps, classes, label, steps)
    values = torch.stack(
        [
            points_inside(maps.cpu(), inside).double(),
            inside.flatten(1).double().mean(dim=1),
            area_under(insertion).double().cpu(),
            area_under(deletion).double().cpu(),
        ],
        dim=1,
    )
    for category, row in zip(pairs[:, 1].tolist(), values.tolist(), strict=True):
        yield category, dict(zip(MEASURES, row, strict=True))


def mean_measures(
    rows: Sequence[tuple[int, Mapping[str, float]]], groups: Mapping[str, np.ndarray]
) -> dict[str, float]:
    """Means in percent over pairs of image and category, and over groups of categories.

    Args:
        rows: Category and values, as :func:`measure_batch` yields them, at least one.
        groups: (K,) bool which categories belong to a group, by its name.

    Returns:
        ``pairs``; ``too_small``, those whose boxes hold the centre of no patch, which pointing
        and chance leave out; the :data:`MEASURES`; and these with the suffix ``_GROUP`` for
        groups that occur.
    """
    found: dict[str, float] = {
        "pairs": len(rows),
        "too_small": sum(not values["chance"] for _, values in rows),
    }
    everything = np.ones(1 + max(category for category, _ in rows), dtype=bool)
    for suffix, group in {"": everything, **{f"_{k}": v for k, v in groups.items()}}.items():
        for measure in MEASURES:
            kept = [
                values[measure]
                for category, values in rows
                if group[category] and (values["chance"] or measure in ("insertion", "deletion"))
            ]
            if kept:
                found[f"{measure}{suffix}"] = 100 * float(np.mean(kept))
    return found


def evaluate_explanations(
    model: str,
    weights: str,
    data_root: str | Path,
    *,
    split: str | None = None,
    images: int | None = None,
    image_size: int | None = None,
    templates: str = "vild",
    against: bool = False,
    steps: int = 10,
    batch_size: int = 16,
    device: str | None = None,
) -> dict[str, float]:
    """Measures the explanations of a checkpoint on a COCO-format folder with boxes.

    Args:
        model: open_clip name.
        weights: See :meth:`DenseCLIP.create`.
        data_root: See :func:`fineclip.datasets.coco_layout.find_files`.
        split: Which split; None: the validation split.
        images: The first so many images; None: all.
        image_size: Side of the network input in pixels; None: the model's own.
        templates: Prompts of the categories.
        against: Explain the probability among all categories, not the logit alone.
        steps: Of insertion and deletion.
        batch_size: Images at a time.
        device: Where to run; None: the accelerator, if there is one.

    Returns:
        See :func:`mean_measures`.

    Raises:
        ValueError: Unknown or malformed input, a ResNet, or no box in any usable image.
        FileNotFoundError: A file or folder is missing.
    """
    place = usable_device(device)
    clip = DenseCLIP.create(model, weights).to(place)
    transform = ImageTransform(image_size or max(clip.image_size), "squash", "bilinear")
    regions = box_regions(files=find_files(data_root, split), transform=transform)
    used = Subset(regions, range(min(images or len(regions), len(regions))))
    loader = DataLoader(used, batch_size=batch_size, collate_fn=collate_evaluation)
    prepare = CLIPPreprocessor(mean=clip.image_mean, std=clip.image_std).to(place)
    rows: list[tuple[int, dict[str, float]]] = []
    with eval_mode(clip):
        with torch.no_grad():
            classes = build_class_embeddings(clip, regions.vocabulary.prompt_names, templates)
        for batch in track(loader, "explaining", "batch"):
            if "boxes" in batch:
                prepared = cast(dict[str, Any], prepare(batch))
                rows += measure_batch(clip, prepared, classes, against=against, steps=steps)
    if not rows:
        raise ValueError(f"{data_root}: no usable image has a box")
    return mean_measures(rows, class_groups_of(regions.vocabulary))
