"""DenseCLIP: global, text, dense and region embeddings of any supported open_clip model."""

from __future__ import annotations

import difflib
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path

import open_clip
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fineclip.checkpoints import load_into
from fineclip.models.pooling import pack_regions, pool_boxes, pool_masks
from fineclip.models.trunks import build_trunk
from fineclip.registry import MODELS


class DenseCLIP(nn.Module):
    """A CLIP model that also embeds every location and every region of an image.

    The wrapped model is untouched: its parameters keep open_clip's names under ``clip.``.
    Images are expected normalised with :attr:`image_mean` and :attr:`image_std`, at any size that
    is a multiple of the patch; position tables are resampled to the input on the fly.
    Embeddings come out in float32 when normalised, whatever autocast is active.

    Args:
        clip_model: An open_clip model (``CLIP`` or ``CustomTextCLIP``) whose visual tower has an
            adapter in :mod:`fineclip.models.trunks`.
        tokenizer: Maps a list of strings to (n, T) int64 token ids; by default CLIP's tokenizer
            at the model's context length.

    Raises:
        ValueError: If the visual tower is not supported.
    """

    def __init__(
        self,
        clip_model: nn.Module,
        *,
        tokenizer: Callable[[list[str]], Tensor] | None = None,
    ) -> None:
        super().__init__()
        self.clip = clip_model
        self.trunk = build_trunk(clip_model.visual)
        self._tokenizer = tokenizer

    @classmethod
    def create(cls, name: str, pretrained: str | None = None, **kwargs: object) -> DenseCLIP:
        """Makes a model by open_clip name.

        Args:
            name: A name open_clip knows (``open_clip.list_models()``), this package's tiny models
                included.
            pretrained: An open_clip tag of the name, or the path of a local checkpoint in a format
                that :func:`fineclip.checkpoints.load` reads. None: random weights.
            **kwargs: Passed to ``open_clip.create_model``.

        Raises:
            ValueError: Unknown name or tag, or a checkpoint that does not fit the model.
            FileNotFoundError: ``pretrained`` looks like a path and does not exist.
        """
        if ":" not in name and name.replace("/", "-") not in open_clip.list_models():
            raise ValueError(
                f"unknown model {name!r}{_similar(name, open_clip.list_models())}; "
                "open_clip.list_models() lists the known names"
            )
        tag, path = None, None
        if pretrained:
            tags = open_clip.list_pretrained_tags_by_model(name)
            if pretrained in tags:
                tag = pretrained
            elif Path(pretrained).exists():
                path = pretrained
            elif "/" in pretrained or Path(pretrained).suffix:
                raise FileNotFoundError(f"checkpoint {pretrained} does not exist")
            else:
                raise ValueError(
                    f"{pretrained!r} is neither a file nor a pretrained tag of {name}; tags: "
                    f"{', '.join(tags) or 'none'}"
                )
        # Local files go through our own reader, which never unpickles code.
        try:
            with _quiet_about_random_weights(path is not None):
                model = open_clip.create_model(name, pretrained=tag, **kwargs)
        except RuntimeError as error:
            if tag is None:
                raise
            raise ValueError(
                f"the weights {tag!r} of {name} could not be fetched; where there is no network, "
                f"name a local checkpoint instead ({str(error).splitlines()[0]})"
            ) from error
        if path:
            load_into(model, path)
        tokenizer = open_clip.get_tokenizer(name, context_length=kwargs.get("force_context_length"))
        return cls(model, tokenizer=tokenizer)

    @cached_property
    def tokenizer(self) -> Callable[[list[str]], Tensor]:
        """Maps a list of strings to (n, T) int64 token ids."""
        if self._tokenizer is not None:
            return self._tokenizer
        return open_clip.SimpleTokenizer(context_length=self.context_length)

    @property
    def context_length(self) -> int:
        """Number of text tokens T."""
        return getattr(self.clip, "context_length", None) or self.clip.text.context_length

    @property
    def image_size(self) -> tuple[int, int]:
        """(height, width) in pixels the model was made for."""
        size = self.clip.visual.image_size
        return (size, size) if isinstance(size, int) else tuple(size)

    @property
    def patch_size(self) -> tuple[int, int]:
        """(height, width) of a patch in pixels."""
        return self.trunk.patch_size

    @property
    def image_mean(self) -> tuple[float, float, float]:
        """Channel means the input is normalised with, for RGB in [0, 1]."""
        return tuple(self._preprocess_value("mean", open_clip.OPENAI_DATASET_MEAN))

    @property
    def image_std(self) -> tuple[float, float, float]:
        """Channel standard deviations the input is normalised with, for RGB in [0, 1]."""
        return tuple(self._preprocess_value("std", open_clip.OPENAI_DATASET_STD))

    def _preprocess_value(self, key: str, default: Sequence[float]) -> Sequence[float]:
        return (open_clip.get_model_preprocess_cfg(self.clip) or {}).get(key) or default

    @property
    def embed_dim(self) -> int:
        """Width D of the shared embedding space."""
        projection = getattr(self.clip, "text_projection", None)
        if projection is None:
            projection = self.clip.text.text_projection
        if isinstance(projection, nn.Linear):
            return projection.out_features
        return projection.shape[1]

    @property
    def logit_scale(self) -> Tensor:
        """() the learned log of the factor on cosine similarities."""
        return self.clip.logit_scale

    @property
    def device(self) -> torch.device:
        """Where the parameters live."""
        return self.clip.logit_scale.device

    def encode_image(self, images: Tensor, normalize: bool = True) -> Tensor:
        """Global embeddings.

        Args:
            images: (B, 3, H, W) float.
            normalize: L2-normalise the result.

        Returns:
            (B, D).
        """
        state = self.trunk.forward_shared(_at_least_one(images))
        return _finish(self.trunk.global_head(state)[: len(images)], normalize)

    def encode_text(self, tokens: Tensor, normalize: bool = True) -> Tensor:
        """Text embeddings.

        Args:
            tokens: (B, T) int64 token ids.
            normalize: L2-normalise the result.

        Returns:
            (B, D).
        """
        return _finish(self.clip.encode_text(_at_least_one(tokens))[: len(tokens)], normalize)

    def encode_dense(self, images: Tensor, normalize: bool = True) -> Tensor:
        """An embedding per location: the last block without attention, projected.

        Args:
            images: (B, 3, H, W) float.
            normalize: L2-normalise along D.

        Returns:
            (B, D, h, w) on the patch grid.
        """
        state = self.trunk.forward_shared(_at_least_one(images))
        return _finish(self.trunk.dense_head(state)[: len(images)], normalize)

    def encode_image_and_dense(
        self, images: Tensor, normalize: bool = True
    ) -> tuple[Tensor, Tensor]:
        """:meth:`encode_image` and :meth:`encode_dense` with all blocks but the last run once.

        Args:
            images: (B, 3, H, W) float.
            normalize: L2-normalise along D.

        Returns:
            (B, D) and (B, D, h, w).
        """
        state = self.trunk.forward_shared(_at_least_one(images))
        return (
            _finish(self.trunk.global_head(state)[: len(images)], normalize),
            _finish(self.trunk.dense_head(state)[: len(images)], normalize),
        )

    def encode_regions(
        self, images: Tensor, boxes: Sequence[Tensor], normalize: bool = True
    ) -> Tensor:
        """Box embeddings: RoIAlign of the normalised dense map (CLIPSelf, sec. 3.2).

        Args:
            images: (B, 3, H, W) float.
            boxes: One (n_i, 4) tensor per image, xyxy normalised to [0, 1] of the input.
            normalize: L2-normalise the result; the map itself always is.

        Returns:
            (sum n_i, D), image by image.

        Raises:
            ValueError: If there is not one (n_i, 4) tensor per image.
        """
        _check_per_image(
            images, boxes, "boxes", lambda b: b.ndim == 2 and b.shape[1] == 4, "(n, 4)"
        )
        packed, region_image = pack_regions(list(boxes), images.device)
        return _finish(pool_boxes(self.encode_dense(images), packed, region_image), normalize)

    def encode_masks(
        self, images: Tensor, masks: Sequence[Tensor], normalize: bool = True
    ) -> Tensor:
        """Mask embeddings: mean of the normalised dense map under each mask.

        Args:
            images: (B, 3, H, W) float.
            masks: One (n_i, H', W') bool tensor per image, all at one resolution.
            normalize: L2-normalise the result.

        Returns:
            (sum n_i, D), image by image; zeros for an empty mask.

        Raises:
            ValueError: If there is not one (n_i, H', W') tensor per image.
        """
        _check_per_image(images, masks, "masks", lambda m: m.ndim == 3, "(n, H, W)")
        packed, region_image = pack_regions(list(masks), images.device)
        return _finish(pool_masks(self.encode_dense(images), packed, region_image), normalize)

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Normalised image (B, D) and text (B, D) embeddings and the log logit scale ()."""
        return self.encode_image(images), self.encode_text(tokens), self.logit_scale


@MODELS.register_module(name="DenseCLIP")
def create_dense_clip(name: str, pretrained: str | None = None, **kwargs: object) -> DenseCLIP:
    """For configs: ``dict(type="DenseCLIP", name=...)`` calls :meth:`DenseCLIP.create`."""
    return DenseCLIP.create(name, pretrained, **kwargs)


def _finish(embedding: Tensor, normalize: bool) -> Tensor:
    return F.normalize(embedding.float(), dim=1) if normalize else embedding


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


def _at_least_one(batch: Tensor) -> Tensor:
    """Stands one row of zeros in for an empty batch; the caller cuts it off again.

    Attention modules refuse empty batches, and the result must stay connected to the parameters:
    under DistributedDataParallel a rank without regions still owes everybody a (zero) gradient.
    """
    return batch if len(batch) else batch.new_zeros(1, *batch.shape[1:])


def _check_per_image(
    images: Tensor,
    regions: Sequence[Tensor],
    what: str,
    fits: Callable[[Tensor], bool],
    shape: str,
) -> None:
    if len(regions) != len(images) or not all(fits(r) for r in regions):
        raise ValueError(
            f"{what} must hold one {shape} tensor per image: got {len(images)} images and "
            f"shapes {[tuple(r.shape) for r in regions]}"
        )


def _similar(name: str, known: list[str]) -> str:
    close = difflib.get_close_matches(name, known, n=3)
    return f"; did you mean {' or '.join(close)}?" if close else ""
