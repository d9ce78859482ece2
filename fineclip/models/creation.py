"""open_clip models by name, with published weights or those of a local file."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import open_clip
from torch import nn

from fineclip.checkpoints import load_into


def create_open_clip(
    name: str, pretrained: str | None = None, *, image_only: bool = False, **kwargs: Any
) -> nn.Module:
    """Makes an open_clip model.

    Unlike ``open_clip.create_model`` it reads local files in any known format and without
    unpickling, explains mistakes, and without a tag takes the pixel mean and std of the name's
    published weights.

    Args:
        name: See :meth:`fineclip.models.DenseCLIP.create`.
        pretrained: See there.
        image_only: See there.
        **kwargs: Passed to ``open_clip.create_model``.

    Raises:
        ValueError: See there.
        FileNotFoundError: See there.
    """
    known = open_clip.list_models()
    if ":" not in name and name.replace("/", "-") not in known:
        raise ValueError(
            f"unknown model {name!r}{_similar(name, known)}; open_clip.list_models() lists the "
            "known names"
        )
    is_tag = _is_tag(name, pretrained) if pretrained else False
    if not is_tag:
        own = kwargs.get("force_preprocess_cfg") or {}
        kwargs["force_preprocess_cfg"] = {**_published_pixel_statistics(name), **own}
    try:
        with _quiet_about_random_weights(bool(pretrained) and not is_tag):
            model = open_clip.create_model(name, pretrained if is_tag else None, **kwargs)
    except RuntimeError as error:
        if not is_tag:
            raise
        raise ValueError(
            f"the weights {pretrained!r} of {name} could not be fetched; where there is no "
            f"network, name a local checkpoint instead ({str(error).splitlines()[0]})"
        ) from error
    if pretrained and not is_tag:
        load_into(model, pretrained, image_only=image_only)
    return model


def _is_tag(name: str, pretrained: str) -> bool:
    """Whether weights are a tag of the name; otherwise they are a file, which exists."""
    tags = open_clip.list_pretrained_tags_by_model(name)
    if pretrained in tags:
        return True
    if Path(pretrained).exists():
        return False
    if "/" in pretrained or Path(pretrained).suffix:
        raise FileNotFoundError(f"checkpoint {pretrained} does not exist")
    raise ValueError(
        f"{pretrained!r} is neither a file nor a pretrained tag of {name}; tags: "
        f"{', '.join(tags) or 'none'}"
    )


def _published_pixel_statistics(name: str) -> dict[str, tuple[float, float, float]]:
    """Pixel mean and std of a name's published weights; empty where they differ or none exist.

    open_clip keeps them with the tags, so a local file or random weights would get OpenAI's.
    """
    name = name.replace("/", "-")
    configs = [
        open_clip.get_pretrained_cfg(name, tag)
        for tag in open_clip.list_pretrained_tags_by_model(name)
    ]
    found = {
        (
            tuple(config.get("mean") or open_clip.OPENAI_DATASET_MEAN),
            tuple(config.get("std") or open_clip.OPENAI_DATASET_STD),
        )
        for config in configs
    }
    if len(found) != 1:
        return {}
    mean, std = found.pop()
    return {"mean": mean, "std": std}


@contextmanager
def _quiet_about_random_weights(active: bool) -> Iterator[None]:
    """Mutes open_clip's warning about random weights where a checkpoint is loaded right after."""

    def keep(record: logging.LogRecord) -> bool:
        return not record.getMessage().startswith("No pretrained weights loaded")

    root = logging.getLogger()
    if active:
        root.addFilter(keep)
    try:
        yield
    finally:
        root.removeFilter(keep)


def _similar(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3)
    return f"; did you mean {' or '.join(close)}?" if close else ""
