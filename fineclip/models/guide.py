"""A second image model whose features say which locations of a dense map belong together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import timm
import torch
import torch.nn.functional as F
from torch import Tensor

from fineclip.checkpoints.safe import read_checkpoint

_WRAPPERS = ("state_dict", "model", "teacher")


class Guide:
    """A ViT of timm's, such as DINO's, that reads a CLIP's inputs.

    Args:
        name: Of timm's, such as ``vit_base_patch16_224.dino``.
        weights: File of its weights, with timm's names of tensors (which are DINO's own).
        mean: Channel means that the CLIP's inputs were normalised with.
        std: Their standard deviations.

    Raises:
        ValueError: timm does not know the name, the model has no tokens, or weights do not fit.
        FileNotFoundError: There is no such file.
    """

    def __init__(
        self, name: str, weights: Path, mean: Sequence[float], std: Sequence[float]
    ) -> None:
        try:
            self.model: Any = timm.create_model(name, num_classes=0, dynamic_img_size=True)
        except (RuntimeError, TypeError) as error:  # no such name; no transformer
            raise ValueError(f"--guide {name}: timm makes no such ViT ({error})") from None
        _load(self.model, weights)
        config: Any = self.model.pretrained_cfg
        self.model.eval().requires_grad_(False)
        self._ours = _columns(mean), _columns(std)
        self._its = _columns(config["mean"]), _columns(config["std"])

    def to(self, device: torch.device) -> Guide:
        """Moves the model there."""
        self.model.to(device)
        return self

    @torch.no_grad()
    def __call__(self, images: Tensor) -> Tensor:
        """Features of every patch.

        Args:
            images: (B, 3, H, W), normalised for the CLIP; resized up to the next multiple of the
                guide's own patch.

        Returns:
            (B, C, h, w) on the guide's grid.
        """
        (mean, std), (its_mean, its_std) = (
            [value.to(images.device) for value in pair] for pair in (self._ours, self._its)
        )
        images = (images * std + mean - its_mean) / its_std
        patch = self.model.patch_embed.patch_size
        grid = [-(-side // p) for side, p in zip(images.shape[-2:], patch, strict=True)]
        size = [cells * p for cells, p in zip(grid, patch, strict=True)]
        if size != list(images.shape[-2:]):
            images = F.interpolate(images, size=size, mode="bilinear", align_corners=False)
        tokens = self.model.forward_features(images)[:, self.model.num_prefix_tokens :]
        return tokens.transpose(1, 2).unflatten(2, grid)


def _columns(values: Sequence[float]) -> Tensor:
    return torch.tensor(values, dtype=torch.float32).view(3, 1, 1)


def _load(model: Any, file: Path) -> None:
    content = read_checkpoint(file)
    for key in _WRAPPERS:
        if isinstance(content, Mapping) and isinstance(content.get(key), Mapping):
            content = content[key]
    own = model.state_dict()
    if not isinstance(content, Mapping):
        raise ValueError(f"--guide-weights {file} holds no tensors by name")
    found = {key.removeprefix("module.").removeprefix("backbone."): t for key, t in content.items()}
    found = {key: tensor for key, tensor in found.items() if key in own}
    if missing := sorted(own.keys() - found.keys()):
        raise ValueError(f"--guide-weights {file} lacks {len(missing)} tensors, as {missing[0]}")
    try:
        model.load_state_dict(found)
    except RuntimeError as error:
        raise ValueError(f"--guide-weights {file}: {str(error).splitlines()[-1].strip()}") from None
