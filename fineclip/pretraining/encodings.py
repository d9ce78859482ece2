"""What of a batch is encoded, by what and in which rows: the jobs that make :class:`Embeddings`.

One function per kind of input. Each takes the batch and the names of the wanted fields, and yields
the :class:`EncodeJob` that make them; nothing runs before a job does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import nullcontext
from functools import cache, partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fineclip.datasets import ShapedCrops
from fineclip.embeddings import FIELDS
from fineclip.models.dense_clip import DenseCLIP
from fineclip.models.pooling import pool_boxes
from fineclip.objectives import Objective, needed_fields
from fineclip.parallel import EncodeJob, slices
from fineclip.pretraining.ema_teacher import EMATeacher
from fineclip.pretraining.frozen_teacher import FrozenTeacher

BATCH_FIELDS = frozenset(
    name for spec in FIELDS.values() for name in (*spec.inputs, *spec.otherwise)
)
"""All that a batch may hold."""


def check_batch(batch: Mapping[str, Tensor], objectives: Sequence[Objective]) -> None:
    """Refuses a batch that the objectives cannot be evaluated on.

    Args:
        batch: Tensors by name.
        objectives: What the embeddings are for.

    Raises:
        TypeError: If the batch has a field that nothing is made of.
        ValueError: If a field is missing that an embedding is made of.
    """
    if unknown := sorted(set(batch) - BATCH_FIELDS):
        raise TypeError(
            f"the batch holds {', '.join(unknown)}, which no embedding is made of; known: "
            f"{', '.join(sorted(BATCH_FIELDS))}"
        )
    missing: set[str] = set()
    for field in needed_fields(objectives):
        absent = {name for name in FIELDS[field].inputs if batch.get(name) is None}
        if absent and FIELDS[field].otherwise:
            absent = {name for name in FIELDS[field].otherwise if batch.get(name) is None}
        missing |= absent
    if missing:
        names = ", ".join(type(objective).__name__ for objective in objectives)
        raise ValueError(
            f"the objectives ({names}) need {', '.join(sorted(missing))}, which the batch does not "
            "have; what it holds is set by the data set's fields, labels and views"
        )


def text_jobs(
    clip: DenseCLIP, batch: Mapping[str, Tensor], wanted: Collection[str], *, trains: bool
) -> Iterator[EncodeJob]:
    """Captions and region captions as one, each different one once.

    Args:
        clip: Encodes them.
        batch: With ``texts`` and ``region_texts``, where they are read.
        wanted: Names of the embeddings to make.
        trains: Whether the text tower trains.
    """
    sources = {"text": "texts", "region_text": "region_texts"}
    if not {"text_tokens", "text_mask"}.isdisjoint(wanted):
        # Apart from the region captions, which are embedded as a whole: their (R, T, D) would be
        # a lot of memory for nothing.
        del sources["text"]
        yield EncodeJob(
            "texts",
            ("text", "text_tokens", "text_mask"),
            partial(_text_and_raw_tokens, clip),
            len(batch["texts"]),
            slices(batch["texts"]),
            trains,
        )
    rows = {field: batch[source] for field, source in sources.items() if field in wanted}
    if rows:
        distinct, places = _distinct_texts(clip, torch.cat(list(rows.values())))
        places_of_fields = places.split([len(tokens) for tokens in rows.values()])
        yield EncodeJob(
            "texts",
            tuple(rows),
            lambda tokens: (clip.encode_text(tokens),),
            len(distinct),
            slices(distinct),
            trains,
            finish=lambda outputs: tuple(outputs[0][places] for places in places_of_fields),
        )


def _text_and_raw_tokens(clip: DenseCLIP, tokens: Tensor) -> tuple[Tensor, ...]:
    """Unit embeddings of captions; of tokens also the length means something, to SPARC."""
    text, of_token, mask = clip.encode_text_and_tokens(tokens, normalize=False)
    return F.normalize(text.float(), dim=1), of_token, mask


def _distinct_texts(clip: DenseCLIP, tokens: Tensor) -> tuple[Tensor, Tensor]:
    """The different rows of (N, T) tokens, longest first, and (N,) where each row went.

    Captions made from category names recur; and a chunk of texts of similar length has little
    padding.
    """
    if not len(tokens):
        return tokens, tokens.new_zeros(0)
    distinct, places = tokens.unique(dim=0, return_inverse=True)
    order = clip.text_tower.lengths(distinct).argsort(descending=True, stable=True)
    return distinct[order], order.argsort()[places]


def image_jobs(
    clip: DenseCLIP, batch: Mapping[str, Tensor], wanted: Collection[str], *, trains: bool
) -> Iterator[EncodeJob]:
    """Image, patches and regions as one job, with what they share run once.

    Regions are pooled inside the job, not from its outputs: the dense map of a chunk is then
    forgotten with the chunk. So a chunk of images carries the boxes that lie in them.

    Args:
        clip: Encodes them.
        batch: With ``images`` and, for regions, ``boxes`` and ``region_image``.
        wanted: Names of the embeddings to make.
        trains: Whether the image tower trains.
    """
    of_images: tuple[str, ...] = tuple(name for name in ("image", "patches") if name in wanted)
    with_regions = "region" in wanted
    if not of_images and not with_regions:
        return
    images = batch["images"]
    outputs = {*of_images, "dense"} if with_regions else set(of_images)

    def encode(images: Tensor, *regions: Tensor) -> tuple[Tensor, ...]:
        found = clip.encode_visual(images, outputs, normalize=False)
        # Of unit length, but for patches, whose length means something to SPARC.
        for name in outputs - {"patches"}:
            found[name] = F.normalize(found[name].float(), dim=1)
        pooled = [pool_boxes(found["dense"], *regions)] if with_regions else []
        return (*(found[name] for name in of_images), *pooled)

    fields, inputs = of_images, slices(images)
    if with_regions:
        fields = (*of_images, "region")
        inputs = _with_their_regions(images, batch["boxes"], batch["region_image"])
    yield EncodeJob("images", fields, encode, len(images), inputs, trains)


def _with_their_regions(
    images: Tensor, boxes: Tensor, region_image: Tensor
) -> Callable[[int, int], tuple[Tensor, ...]]:
    """Slices of images, each with its boxes and their image indices within the slice.

    Args:
        images: (B, 3, H, W).
        boxes: (R, 4).
        region_image: (R,) image index of each box, ascending: regions of a slice are a slice.
    """

    @cache  # Once a step, and only where there are chunks: the list waits for the device.
    def first_regions() -> list[int]:
        starts = torch.arange(len(images) + 1, device=region_image.device)
        return torch.searchsorted(region_image, starts).tolist()

    def inputs(start: int, end: int) -> tuple[Tensor, ...]:
        if (start, end) == (0, len(images)):
            return images, boxes, region_image
        regions = slice(first_regions()[start], first_regions()[end])
        return images[start:end], boxes[regions], region_image[regions] - start

    return inputs


def crop_jobs(
    clip: DenseCLIP,
    teacher: FrozenTeacher | None,
    batch: Mapping[str, Any],
    wanted: Collection[str],
    *,
    trains: bool,
) -> Iterator[EncodeJob]:
    """Crops by the model and by its frozen teacher, those of one shape at a time.

    Args:
        clip: Makes ``crop``.
        teacher: Makes ``teacher_crop``.
        batch: With ``crops``, where one of them is wanted.
        wanted: Names of the embeddings to make.
        trains: Whether somebody learns from ``crop``, and the image tower trains.
    """
    encoders: dict[str, Callable[[Tensor], Tensor]] = {"crop": clip.encode_image}
    if teacher is not None:
        encoders["teacher_crop"] = teacher.encode_crops
    for field, encode in encoders.items():
        if field in wanted:
            yield _crop_job(field, encode, batch["crops"], trains=trains and field == "crop")


def _crop_job(
    field: str, encode: Callable[[Tensor], Tensor], crops: Tensor | ShapedCrops, *, trains: bool
) -> EncodeJob:
    groups, places = crops if isinstance(crops, ShapedCrops) else ([crops], None)
    return EncodeJob(
        "crops",
        (field,),
        lambda *groups: (torch.cat([encode(group) for group in groups]),),
        sum(map(len, groups)),
        slices(*groups),
        trains,
        finish=None if places is None else lambda outputs: (outputs[0][places],),
    )


def view_jobs(
    clip: DenseCLIP,
    head: nn.Module | None,
    teacher: EMATeacher | None,
    batch: Mapping[str, Tensor],
    wanted: Collection[str],
    *,
    trains: bool,
) -> Iterator[EncodeJob]:
    """Views: prototype logits of local ones by the student and of global ones by the teacher.

    And the student's embeddings of the global ones, for the loss with text.

    Args:
        clip: The student.
        head: Its prototype head, which always trains.
        teacher: The EMA teacher; without the two, nobody compares prototypes.
        batch: With ``local_views`` and ``global_views``, (B, V, 3, h, w), where they are read.
        wanted: Names of the embeddings to make.
        trains: Whether the image tower trains.
    """
    if "global_view" in wanted:
        yield EncodeJob(
            "views",
            ("global_view",),
            lambda views: (clip.encode_image(views.flatten(0, 1)).unflatten(0, views.shape[:2]),),
            len(batch["global_views"]),
            slices(batch["global_views"]),
            trains,
            finish=lambda outputs: (outputs[0].transpose(0, 1),),
        )
    if head is None or teacher is None:
        return

    def student_logits(views: Tensor) -> tuple[Tensor]:
        with nullcontext() if trains else torch.no_grad():
            embedded = clip.encode_image(views.flatten(0, 1), normalize=False)
        return (head(embedded).unflatten(0, views.shape[:2]),)

    def teacher_logits(views: Tensor) -> tuple[Tensor]:
        return (teacher(views.flatten(0, 1)).unflatten(0, views.shape[:2]),)

    for field, encode, views in (
        ("student_prototypes", student_logits, batch["local_views"]),
        ("teacher_prototypes", teacher_logits, batch["global_views"]),
    ):
        yield EncodeJob(
            "views",
            (field,),
            encode,
            len(views),
            slices(views),
            trains=field == "student_prototypes",
            # Chunks are of images, so images come first until all are there: (B, V, P).
            finish=lambda outputs: (outputs[0].transpose(0, 1),),
        )
