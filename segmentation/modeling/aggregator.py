"""The cost-aggregation network of CAT-Seg (Cho et al., CVPR 2024), in plain torch.

Letters: B images, T classes, P prompts of a class, D embedding, (h, w) grid, C channels.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segmentation.modeling.chunks import chunks
from segmentation.modeling.class_attention import AttentionType, ClassAggregation
from segmentation.modeling.decoder import GuidedUpsampling
from segmentation.modeling.window_attention import SpatialAggregation

# The logit of a class that is beyond the budget of an image.
DROPPED_LOGIT = -100.0


class AggregationLayer(nn.Module):
    """Spatial aggregation of every class map, then class aggregation at every location.

    Args:
        channels: C.
        appearance_channels: Of the guidance of the spatial half.
        text_channels: Of the guidance of the class half.
        window: Side of the attention windows.
        num_heads: Heads of both kinds of attention.
        map_chunk: Class maps worked on at a time where gradients are off.
        **class_options: Further arguments of :class:`ClassAggregation`.
    """

    def __init__(
        self,
        channels: int,
        appearance_channels: int,
        text_channels: int,
        *,
        window: int,
        num_heads: int,
        map_chunk: int,
        **class_options: Any,
    ) -> None:
        super().__init__()
        common: dict[str, Any] = {"num_heads": num_heads, "map_chunk": map_chunk}
        # The names of the release's keys.
        self.swin_block = SpatialAggregation(channels, appearance_channels, window=window, **common)
        self.attention = ClassAggregation(channels, text_channels, **common, **class_options)

    def forward(
        self, volume: Tensor, appearance: Tensor, text: Tensor, pooling: tuple[int, int]
    ) -> Tensor:
        """(B, T, h, w, C) with (B, h, w, Ga) and (B or 1, T, Gt) guidance -> (B, T, h, w, C)."""
        return self.attention(self.swin_block(volume, appearance), text, pooling)


class CostAggregator(nn.Module):
    """From image and text features to logits per class and pixel.

    The grid is the input's; no size is built in. Guidance is computed once per image, or once per
    vocabulary, and broadcast. Where gradients are off, class maps are worked on in pieces.

    Args:
        text_guidance_dim: D of the text features.
        text_guidance_proj_dim: Channels the text guidance is projected to.
        appearance_guidance_dim: Channels of the first guidance map.
        appearance_guidance_proj_dim: Channels it is projected to.
        decoder_dims: Output channels of the two decoder steps, multiples of 16.
        decoder_guidance_dims: Channels of the second and third guidance map.
        decoder_guidance_proj_dims: Channels they are projected to.
        num_layers: Aggregation layers.
        num_heads: Heads of both kinds of attention.
        hidden_dim: C.
        pooling_size: (height, width) of the average pooling before the class attention; the
            attribute ``pooling_size`` may be set later, for it has no weights.
        window_size: Side of the attention windows.
        attention_type: "linear" or "full" attention over classes.
        prompt_channel: P.
        pad_length: Class budget: fewer classes are filled up with learned tokens, of more only the
            best of each image are aggregated and the rest get the logit -100. 0: no budget.
        doubled_residual: See :class:`ClassAggregation`.
        map_chunk: Class maps (images x classes) worked on at a time where gradients are off.

    Raises:
        ValueError: Widths that do not go together.
    """

    def __init__(
        self,
        *,
        text_guidance_dim: int,
        appearance_guidance_dim: int,
        text_guidance_proj_dim: int = 128,
        appearance_guidance_proj_dim: int = 128,
        decoder_dims: Sequence[int] = (64, 32),
        decoder_guidance_dims: Sequence[int] = (256, 128),
        decoder_guidance_proj_dims: Sequence[int] = (32, 16),
        num_layers: int = 2,
        num_heads: int = 4,
        hidden_dim: int = 128,
        pooling_size: Sequence[int] = (2, 2),
        window_size: int = 12,
        attention_type: AttentionType = "linear",
        prompt_channel: int = 1,
        pad_length: int = 256,
        doubled_residual: bool = True,
        map_chunk: int = 16,
    ) -> None:
        super().__init__()
        self.prompt_channel = prompt_channel
        self.pad_length = pad_length
        self.hidden_dim = hidden_dim
        self.pooling_size = _pair("pooling_size", pooling_size)
        self.map_chunk = map_chunk
        self.layers = nn.ModuleList(
            AggregationLayer(
                hidden_dim,
                appearance_guidance_proj_dim,
                text_guidance_proj_dim,
                window=window_size,
                num_heads=num_heads,
                map_chunk=map_chunk,
                attention=attention_type,
                pad_length=pad_length,
                doubled_residual=doubled_residual,
            )
            for _ in range(num_layers)
        )
        self.conv1 = nn.Conv2d(prompt_channel, hidden_dim, 7, padding=3)
        self.guidance_projection = _projection(
            appearance_guidance_dim, appearance_guidance_proj_dim
        )
        self.text_guidance_projection = nn.Sequential(
            nn.Linear(text_guidance_dim, text_guidance_proj_dim), nn.ReLU()
        )
        self._make_decoder(decoder_dims, decoder_guidance_dims, decoder_guidance_proj_dims)

    def _make_decoder(
        self, dims: Sequence[int], guidance_dims: Sequence[int], projected_dims: Sequence[int]
    ) -> None:
        dims = _pair("decoder_dims", dims)
        guidance_dims = _pair("decoder_guidance_dims", guidance_dims)
        projected_dims = _pair("decoder_guidance_proj_dims", projected_dims)
        self.decoder_guidance_projection = nn.ModuleList(
            _projection(inp, out) for inp, out in zip(guidance_dims, projected_dims, strict=True)
        )
        self.decoder1 = GuidedUpsampling(self.hidden_dim, dims[0], projected_dims[0])
        self.decoder2 = GuidedUpsampling(dims[0], dims[1], projected_dims[1])
        self.head = nn.Conv2d(dims[1], 1, 3, padding=1)

    def forward(
        self, image_features: Tensor, text_features: Tensor, guidance: Sequence[Tensor]
    ) -> Tensor:
        """Scores every class at every pixel.

        Args:
            image_features: (B, D, h, w), not necessarily normalised.
            text_features: (T, P, D) shared by the images, or (B, T, P, D).
            guidance: Maps (B, *, h, w), (B, *, 2h, 2w) and (B, *, 4h, 4w).

        Returns:
            (B, T, 4h, 4w) logits.

        Raises:
            ValueError: Shapes that do not go together.
        """
        if text_features.ndim == 3:
            text_features = text_features[None]
        self._check(image_features, text_features, guidance)
        kept = None
        text = text_features
        cost = cost_volume(image_features, text)  # (B, T, P, h, w)
        classes = cost.shape[1]
        if 0 < self.pad_length < classes:
            kept = self._best_classes(cost)  # (B, T')
            cost = cost.gather(1, kept[:, :, None, None, None].expand(-1, -1, *cost.shape[2:]))
            # Only here are they normalised before the mean over prompts, as in the release; it
            # matters for P > 1 and features that are not unit vectors.
            text = F.normalize(text, dim=-1).expand(len(kept), -1, -1, -1)
            text = text.gather(1, kept[:, :, None, None].expand(-1, -1, *text.shape[2:]))
        logits = self._decode(self._aggregate(cost, text, guidance[0]), guidance[1:])
        if kept is None:
            return logits
        full = logits.new_full((len(logits), classes, *logits.shape[2:]), DROPPED_LOGIT)
        return full.scatter(1, kept[:, :, None, None].expand_as(logits), logits)

    def peak_bytes(self, num_classes: int, grid: tuple[int, int]) -> int:
        """Roughly what one image of a batch takes where gradients are off, float32.

        Args:
            num_classes: T.
            grid: (h, w).
        """
        kept = min(num_classes, self.pad_length or num_classes)
        area = grid[0] * grid[1]
        volumes = 4 * kept * self.hidden_dim * area
        cost = 2 * num_classes * self.prompt_channel * area
        return 4 * (volumes + cost + 2 * num_classes * 16 * area)

    def _best_classes(self, cost: Tensor) -> Tensor:
        """(B, T') indices, ascending, of the classes whose cost is highest anywhere."""
        scores = cost.detach().amax(dim=(2, 3, 4))
        return scores.topk(self.pad_length, dim=1).indices.sort(dim=1).values

    def _aggregate(self, cost: Tensor, text: Tensor, appearance: Tensor) -> Tensor:
        """(B, T, P, h, w), (B or 1, T, P, D), (B, *, h, w) -> (B, T, h, w, C)."""
        images, classes = cost.shape[:2]
        volume = self._embed_cost(cost)
        appearance = self.guidance_projection(appearance).permute(0, 2, 3, 1)  # (B, h, w, Ga)
        mean = text.mean(dim=2)
        # Divided as it is: no class has a zero embedding, and none must be hidden by an epsilon.
        text = self.text_guidance_projection(mean / mean.norm(dim=-1, keepdim=True))
        volume = volume.permute(0, 2, 3, 1).unflatten(0, (images, classes))
        for layer in self.layers:
            volume = layer(volume, appearance, text, self.pooling_size)
        return volume

    def _embed_cost(self, cost: Tensor) -> Tensor:
        """(B, T, P, h, w) -> (B * T, C, h, w)."""
        return self.conv1(cost.flatten(0, 1))

    def _decode(self, volume: Tensor, guidance: Sequence[Tensor]) -> Tensor:
        """(B, T, h, w, C) -> (B, T, 4h, 4w)."""
        images, classes, height, width, _ = volume.shape
        steps = (self.decoder1, self.decoder2)
        terms = [
            step.conv.guidance_term(project(g))
            for step, project, g in zip(
                steps, self.decoder_guidance_projection, guidance, strict=True
            )
        ]
        parts = []
        for part in chunks(classes, self.map_chunk // images):
            maps = volume[:, part].flatten(0, 1).permute(0, 3, 1, 2)
            for step, term in zip(steps, terms, strict=True):
                maps = step(maps, term)
            parts.append(self.head(maps).view(images, -1, 4 * height, 4 * width))
        return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

    def _check(self, image: Tensor, text: Tensor, guidance: Sequence[Tensor]) -> None:
        if text.ndim != 4 or len(text) not in (1, len(image)) or text.shape[-1] != image.shape[1]:
            raise ValueError(
                f"text features must be (T, P, {image.shape[1]}) or ({len(image)}, T, P, "
                f"{image.shape[1]}) for image features {tuple(image.shape)}, got "
                f"{tuple(text.shape)}"
            )
        if text.shape[1] == 0:
            raise ValueError("there must be at least one class")
        if text.shape[2] != self.prompt_channel:
            raise ValueError(
                f"the network was made for {self.prompt_channel} prompts a class, the text "
                f"features have {text.shape[2]}; average them, or make it with "
                f"prompt_channel={text.shape[2]}"
            )
        height, width = image.shape[-2:]
        sizes = [tuple(g.shape[-2:]) for g in guidance]
        wanted = [(scale * height, scale * width) for scale in (1, 2, 4)]
        if sizes != wanted:
            raise ValueError(f"guidance maps must have the sizes {wanted}, got {sizes}")


def cost_volume(image_features: Tensor, text_features: Tensor) -> Tensor:
    """Cosine similarity of every pixel with every class and prompt.

    Args:
        image_features: (B, D, h, w).
        text_features: (B or 1, T, P, D).

    Returns:
        (B, T, P, h, w).
    """
    image = F.normalize(image_features, dim=1).flatten(2)  # (B, D, h * w)
    text = F.normalize(text_features, dim=-1).flatten(1, 2)  # (B or 1, T * P, D)
    cost = text @ image
    return cost.view(len(image), *text_features.shape[1:3], *image_features.shape[-2:])


def _pair(name: str, values: Sequence[int]) -> tuple[int, int]:
    if len(values) != 2 or any(int(value) < 1 for value in values):
        raise ValueError(f"{name} must be two positive numbers, got {list(values)}")
    return int(values[0]), int(values[1])


def _projection(inp: int, out: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inp, out, 3, padding=1), nn.ReLU())
