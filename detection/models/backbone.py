"""A frozen CLIP image tower as the backbone of a detector."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from mmcv.cnn import build_norm_layer
from mmdet.registry import MODELS
from mmengine.model import BaseModule
from torch import Tensor, nn

from fineclip.models import DenseCLIP

_NUM_LEVELS = 4


@MODELS.register_module()
class FViTBackbone(BaseModule):
    """Image tower of any CLIP that :class:`~fineclip.models.DenseCLIP` knows, with a pyramid.

    The tower is frozen from construction on: no gradient, always in eval mode, also while the
    detector trains. Some of its blocks are tapped (patch tokens, before the final norm; the last
    block without attention) and brought to four strides by layers that train (F-ViT in CLIPSelf,
    sec. 4.2)::

        level 0  patch / 4   ConvTranspose 2x2, norm, GELU, ConvTranspose 2x2
        level 1  patch / 2   ConvTranspose 2x2
        level 2  patch       the tap itself
        level 3  patch * 2   max-pool 2x2

    A ResNet's four stages already are such a pyramid and are taken as they are (F-VLM).

    The tower reads pixels as they come. The released F-ViT detectors were trained on pixels
    normalised with ImageNet's mean and std, not CLIP's; the detector's data preprocessor decides.
    Sides must be multiples of the patch (``pad_size_divisor``), and rectangles are exact.

    In the state dict the tower is ``visual.*`` in open_clip's naming, the pyramid
    ``interpolate1.*`` and ``interpolate2.*`` as released.

    Args:
        model: An open_clip name, or a :class:`~fineclip.models.DenseCLIP` (its text tower is not
            kept).
        out_indices: The taps, one per level made, counted from 0, ascending (a tiny tower may
            repeat one). The release takes (3, 5, 7, 11) of 12 blocks and (6, 10, 14, 23) of 24.
        pretrained: The tower's weights, read once, here: a tag of open_clip's, or a local file in
            any format :mod:`fineclip.checkpoints` reads, F-ViT detectors and image towers that
            were saved alone included. None: random.
        norm_cfg: mmcv's config of the one norm of the pyramid; None: batch norm.
        first_level: The finest level to make. Finer ones, the costliest, are left out where no
            object is small enough to need them.
        unfreeze_blocks: Train this many blocks (stages of a ResNet), counted back from the last
            tap. Their dense map then moves away from the text embeddings that the detector
            compares it with.
        clip_options: Further arguments of :meth:`fineclip.models.DenseCLIP.create`.

    Raises:
        ValueError: Unknown name, ``pretrained`` together with a model, taps or blocks that the
            tower does not have, patches that are not square, or weights that do not fit.
        FileNotFoundError: ``pretrained`` does not exist.
    """

    def __init__(
        self,
        model: str | DenseCLIP,
        out_indices: Sequence[int],
        *,
        pretrained: str | None = None,
        norm_cfg: Mapping[str, Any] | None = None,
        first_level: int = 0,
        unfreeze_blocks: int = 0,
        clip_options: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__()
        clip = _make_clip(model, pretrained, clip_options or {})
        self.visual = clip.clip.visual
        self.visual.is_init = True  # mmengine's init_weights leaves the tower alone
        self.embed_dim = clip.embed_dim
        self.trunk = clip.trunk  # no module: it reaches into self.visual
        self.first_level = _checked_level(first_level)
        self.out_indices = _checked_taps(out_indices, _NUM_LEVELS - first_level)
        self.trunk.check_taps(self.out_indices, "out_indices")
        self._tap_strides = _square([self.trunk.tap_stride(i) for i in self.out_indices])
        self.out_channels = tuple(self.trunk.tap_channels(i) for i in self.out_indices)
        self._is_pyramid = len(set(self._tap_strides)) > 1
        if not self._is_pyramid:
            self._make_pyramid(self.out_channels[0], dict(norm_cfg or {"type": "BN"}))
        self._freeze(unfreeze_blocks)

    def _make_pyramid(self, width: int, norm_cfg: dict[str, Any]) -> None:
        if self.first_level == 0:
            self.interpolate1 = nn.Sequential(
                nn.ConvTranspose2d(width, width, kernel_size=2, stride=2),
                build_norm_layer(norm_cfg, width)[1],
                nn.GELU(),
                nn.ConvTranspose2d(width, width, kernel_size=2, stride=2),
            )
        if self.first_level <= 1:
            self.interpolate2 = nn.Sequential(
                nn.ConvTranspose2d(width, width, kernel_size=2, stride=2)
            )
        self.interpolate3 = nn.Identity()
        self.interpolate4 = nn.MaxPool2d(kernel_size=2, stride=2)

    def _freeze(self, unfreeze_blocks: int) -> None:
        stages = list(self.trunk.stages)[: self.out_indices[-1] + 1]
        if not 0 <= unfreeze_blocks <= len(stages):
            raise ValueError(
                f"unfreeze_blocks is {unfreeze_blocks}; up to the last tap the tower has "
                f"{len(stages)} blocks"
            )
        self.visual.requires_grad_(False)
        for stage in stages[len(stages) - unfreeze_blocks :]:
            stage.requires_grad_(True)
        # A parameter without gradient would stop DistributedDataParallel.
        for parameter in self.trunk.parameters_unused_by_dense():
            parameter.requires_grad_(False)
        self._is_frozen = not any(p.requires_grad for p in self.visual.parameters())
        self.visual.eval()

    @property
    def patch_size(self) -> tuple[int, int]:
        """(height, width) in pixels of a location of the dense map."""
        return self.trunk.patch_size

    @property
    def strides(self) -> tuple[float, ...]:
        """Pixels per location of the levels; fractional where 4 does not divide the patch."""
        if self._is_pyramid:
            return tuple(float(stride) for stride in self._tap_strides)
        factors = (0.25, 0.5, 1.0, 2.0)[self.first_level :]
        return tuple(self._tap_strides[0] * factor for factor in factors)

    def train(self, mode: bool = True) -> FViTBackbone:
        """The pyramid follows ``mode``; the tower stays in eval mode."""
        super().train(mode)
        self.visual.eval()
        return self

    def forward(self, images: Tensor) -> tuple[Tensor, ...]:
        """The pyramid.

        Args:
            images: (B, 3, H, W) normalised, sides multiples of the patch.

        Returns:
            (B, C_i, h_i, w_i) maps, finest first, at :attr:`strides`.

        Raises:
            ValueError: If a side is not a multiple of the patch.
        """
        return self._run(images, dense=False)[0]

    def forward_with_dense(self, images: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """The pyramid and the dense CLIP map from one pass of the tower.

        Args:
            images: As for :meth:`forward`.

        Returns:
            The maps of :meth:`forward`, and (B, D, h, w) float32 unit vectors on the patch grid,
            without gradient.
        """
        levels, dense = self._run(images, dense=True)
        assert dense is not None  # asked for
        return levels, F.normalize(dense.detach().float(), dim=1)

    def _run(self, images: Tensor, *, dense: bool) -> tuple[tuple[Tensor, ...], Tensor | None]:
        with torch.set_grad_enabled(torch.is_grad_enabled() and not self._is_frozen):
            maps, dense_map = self.trunk.forward_taps(images, self.out_indices, dense=dense)
        # Tokens turned into maps have their channels innermost, and convolutions keep that. mmcv's
        # RoIAlign reads memory as if channels were outermost, without a word.
        maps = tuple(level.contiguous() for level in maps)
        if not self._is_pyramid:
            layers = [
                getattr(self, f"interpolate{level + 1}")
                for level in range(self.first_level, _NUM_LEVELS)
            ]
            maps = tuple(layer(level) for layer, level in zip(layers, maps, strict=True))
        return maps, dense_map


def _make_clip(
    model: str | DenseCLIP, pretrained: str | None, options: Mapping[str, Any]
) -> DenseCLIP:
    if isinstance(model, DenseCLIP):
        if pretrained or options:
            raise ValueError(
                "pretrained and clip_options belong to a model that is named, not to one that is "
                "handed over: load the weights into it beforehand"
            )
        return model
    return DenseCLIP.create(model, pretrained, image_only=True, **options)


def _checked_level(first_level: int) -> int:
    if not 0 <= first_level < _NUM_LEVELS:
        raise ValueError(
            f"first_level is {first_level}; the levels are counted from 0 to {_NUM_LEVELS - 1}"
        )
    return first_level


def _checked_taps(out_indices: Sequence[int], levels: int) -> tuple[int, ...]:
    taps = tuple(out_indices)
    if len(taps) != levels or list(taps) != sorted(taps):
        raise ValueError(
            f"out_indices must be {levels} ascending indices, one per level, got {taps}"
        )
    return taps


def _square(strides: list[tuple[int, int]]) -> list[int]:
    if any(height != width for height, width in strides):
        raise ValueError(f"patches must be square, got {strides[0]} (height, width)")
    return [height for height, _ in strides]
