"""CAT-Seg's inference as its release computes it, written down formula by formula, for comparison.

The maths is that of Cho et al. (CVPR 2024) with what released weights need. As there, the texts of
a vocabulary are encoded once and kept; guidance is repeated for every class and concatenated,
padding tokens are real tokens, attention matrices are made, windows run one by one, and every map
is held at its full size. The weights are those of a :class:`segmentation.modeling.Segmenter`.

Letters: B images, T classes, P prompts, D embedding, (H, W) grid, C channels, S window side.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel

from segmentation.modeling import Segmenter, SlidingWindows
from segmentation.modeling.aggregator import DROPPED_LOGIT, CostAggregator
from segmentation.modeling.class_attention import ClassAggregation
from segmentation.modeling.decoder import GuidedUpsampling
from segmentation.modeling.window_attention import WindowBlock, window_mask, window_of


class PlainInference:
    """Answers as the segmenter does, at the cost of its formulas.

    Args:
        model: The segmenter, in evaluation mode.
    """

    def __init__(self, model: Segmenter) -> None:
        self.model = model
        self._kept: tuple[tuple[str, ...], Tensor] | None = None

    @torch.no_grad()
    def predict(self, image: Tensor, size: tuple[int, int], names: tuple[str, ...]) -> Tensor:
        """(3, H, W) pixels, 0..255 -> (T, height, width) probabilities."""
        model = self.model
        if model.windows is None:
            height, width = image.shape[-2:]
            divisor = max(1, model.size_divisibility)
            padded = [math.ceil(side / divisor) * divisor for side in (height, width)]
            logits = self.logits(model.prepare([image]), names)
            scores = _resize(logits.sigmoid(), padded)[..., :height, :width]
            return _resize(scores, size)[0]
        return self._predict_windows(model.windows, image, size, names)

    def predict_labels(
        self, image: Tensor, size: tuple[int, int], names: tuple[str, ...]
    ) -> Tensor:
        """(3, H, W) pixels, 0..255 -> (height, width) class indices."""
        return self.predict(image, size, names).argmax(dim=0)

    def _predict_windows(
        self,
        windows: SlidingWindows,
        image: Tensor,
        size: tuple[int, int],
        names: tuple[str, ...],
    ) -> Tensor:
        model, side = self.model, windows.window
        image = (image.to(model.device).float() - model.pixel_mean) / model.pixel_std
        canvas = _resize(image[None], windows.canvas)
        merged = canvas.new_zeros(1, len(names), *windows.canvas)
        coverage = canvas.new_zeros(windows.canvas)
        inputs = [
            canvas[..., top : top + side, left : left + side] for top, left in windows.offsets()
        ]
        text = self.encode(names)
        for (top, left), window in zip(windows.offsets(), inputs, strict=True):
            place = (slice(top, top + side), slice(left, left + side))
            logits = self._logits(_resize(window, model.clip_resolution), text)
            merged[(..., *place)] += _resize(logits, (side, side)).sigmoid()
            coverage[place] += 1
        whole = _resize(image[None], (side, side))
        logits = self._logits(_resize(whole, model.clip_resolution), text)
        whole = _resize(_resize(logits, (side, side)).sigmoid(), windows.canvas)
        return _resize((merged / coverage + whole) / 2, size)[0]

    def logits(self, inputs: Tensor, names: tuple[str, ...]) -> Tensor:
        """(B, 3, h, w) normalised pixels at CLIP's resolution -> (B, T, 4H, 4W)."""
        return self._logits(inputs, self.encode(names))

    def _logits(self, inputs: Tensor, text: Tensor) -> Tensor:
        model = self.model
        predictor = model.sem_seg_head.predictor
        with sdpa_kernel(SDPBackend.MATH):
            found = predictor.features(inputs)
        guidance = (found.dense, model.upsample1(found.maps[0]), model.upsample2(found.maps[1]))
        return aggregate(predictor.transformer, found.dense, text, guidance)

    def encode(self, names: tuple[str, ...]) -> Tensor:
        """(T, P, D) text features of T names; those of the last vocabulary are kept."""
        if self._kept is not None and self._kept[0] == names:
            return self._kept[1]
        encoder = self.model.sem_seg_head.predictor.text
        encoder.clear()
        with sdpa_kernel(SDPBackend.MATH):
            text = encoder(names)
        self._kept = (names, text)
        return text


def aggregate(
    network: CostAggregator, image: Tensor, text: Tensor, guidance: tuple[Tensor, ...]
) -> Tensor:
    """The aggregation network.

    Args:
        network: Its weights.
        image: (B, D, H, W) dense features.
        text: (T, P, D).
        guidance: Maps (B, *, H, W), (B, *, 2H, 2W), (B, *, 4H, 4W).

    Returns:
        (B, T, 4H, 4W) logits.
    """
    batch, classes, kept = len(image), len(text), None
    text = text[None].repeat(batch, 1, 1, 1)
    cost = _cost(image, text)
    if 0 < network.pad_length < classes:
        kept = cost.amax(dim=(1, 3, 4)).topk(network.pad_length, dim=1).indices
        index = kept[:, :, None, None].expand(-1, -1, *text.shape[2:])
        text = F.normalize(text, dim=-1).gather(1, index)
        cost = _cost(image, text)
    count = cost.shape[2]
    volume = network.conv1(cost.transpose(1, 2).flatten(0, 1))  # (B * T, C, H, W)
    appearance = network.guidance_projection(guidance[0])  # (B, Ga, H, W)
    mean = text.mean(dim=2)
    text_guidance = network.text_guidance_projection(mean / mean.norm(dim=-1, keepdim=True))
    for layer in network.layers:
        spatial = layer.swin_block
        height, width = volume.shape[-2:]
        repeated = appearance.repeat_interleave(count, dim=0).permute(0, 2, 3, 1)
        repeated = spatial.guidance_norm(repeated)  # (B * T, H, W, Ga)
        maps = volume.permute(0, 2, 3, 1)
        maps = _window_block(
            spatial.block_2, _window_block(spatial.block_1, maps, repeated), repeated
        )
        maps = maps.reshape(batch, count, height, width, -1)
        maps = _class_layer(layer.attention, maps, text_guidance, network.pooling_size)
        volume = maps.flatten(0, 1).permute(0, 3, 1, 2)
    steps = zip(
        (network.decoder1, network.decoder2),
        network.decoder_guidance_projection,
        guidance[1:],
        strict=True,
    )
    for step, project, maps in steps:
        volume = _decode(step, volume, project(maps).repeat_interleave(count, dim=0))
    logits = network.head(volume).unflatten(0, (batch, count))[:, :, 0]
    if kept is None:
        return logits
    full = logits.new_full((batch, classes, *logits.shape[2:]), DROPPED_LOGIT)
    return full.scatter(1, kept[:, :, None, None].expand_as(logits), logits)


def _cost(image: Tensor, text: Tensor) -> Tensor:
    """(B, D, H, W), (B, T, P, D) -> (B, P, T, H, W)."""
    return torch.einsum("bdhw,btpd->bpthw", F.normalize(image, dim=1), F.normalize(text, dim=-1))


def _window_block(block: WindowBlock, maps: Tensor, guidance: Tensor) -> Tensor:
    """(N, H, W, C) maps with (N, H, W, Ga) guidance -> (N, H, W, C)."""
    number, height, width, channels = maps.shape
    window, shift = window_of((height, width), block.window, block.shifted)
    if height % window or width % window:
        raise ValueError(f"a {height} x {width} grid cannot be cut into windows of {window}")
    attention = block.attn
    heads = attention.num_heads
    joined = torch.cat([block.norm1(maps), guidance], dim=-1).roll((-shift, -shift), (1, 2))
    joined = joined.view(number, height // window, window, width // window, window, -1)
    joined = joined.transpose(2, 3).reshape(number, -1, window * window, joined.shape[-1])
    query, key, value = (
        linear(tokens).unflatten(-1, (heads, -1)).transpose(2, 3)  # (N, M, A, S * S, C / A)
        for linear, tokens in (
            (attention.q, joined),
            (attention.k, joined),
            (attention.v, joined[..., :channels]),
        )
    )
    weights = query * query.shape[-1] ** -0.5 @ key.transpose(-2, -1)
    mask = window_mask((height, width), window, shift, maps.device, weights.dtype)
    if mask is not None:
        weights = weights + mask[:, None]
    mixed = (weights.softmax(dim=-1) @ value).transpose(2, 3).flatten(3)
    mixed = attention.proj(mixed).view(
        number, height // window, width // window, window, window, -1
    )
    mixed = mixed.transpose(2, 3).reshape(number, height, width, channels)
    maps = maps + mixed.roll((shift, shift), (1, 2))
    return maps + block.mlp(block.norm2(maps))


def _class_layer(
    layer: ClassAggregation, maps: Tensor, guidance: Tensor, pooling: tuple[int, int]
) -> Tensor:
    """(B, T, H, W, C) maps with (B, T, Gt) guidance -> (B, T, H, W, C)."""
    batch, classes, height, width, channels = maps.shape
    pooled = F.avg_pool2d(maps.flatten(0, 1).permute(0, 3, 1, 2), pooling)
    rows, columns = pooled.shape[-2:]
    tokens = pooled.view(batch, classes, channels, -1).permute(0, 3, 1, 2)  # (B, N, T, C)
    tokens = tokens.flatten(0, 1)
    guidance = guidance[:, None].repeat(1, rows * columns, 1, 1).flatten(0, 1)
    if missing := max(0, layer.pad_length - classes):
        tokens = torch.cat([tokens, layer.padding_tokens.repeat(len(tokens), missing, 1)], 1)
        extra = layer.padding_guidance.repeat(len(guidance), missing, 1)
        guidance = torch.cat([guidance, extra], 1)
    start = tokens
    attention = layer.attention
    normed = layer.norm1(tokens)
    joined = torch.cat([normed, guidance], dim=-1)
    query, key, value = (
        linear(given).unflatten(-1, (attention.num_heads, -1))  # (B * N, T, A, C / A)
        for linear, given in ((attention.q, joined), (attention.k, joined), (attention.v, normed))
    )
    if attention.attention == "linear":
        query, key, length = F.elu(query) + 1, F.elu(key) + 1, value.shape[1]
        summed = torch.einsum("nsac,nsad->nacd", key, value / length)
        scale = 1 / (torch.einsum("ntac,nac->nta", query, key.sum(dim=1)) + 1e-6)
        mixed = torch.einsum("ntac,nacd,nta->ntad", query, summed, scale) * length
    else:
        weights = torch.einsum("ntac,nsac->nats", query * query.shape[-1] ** -0.5, key)
        mixed = torch.einsum("nats,nsac->ntac", weights.softmax(dim=-1), value)
    tokens = tokens + mixed.flatten(2)
    tokens = tokens + layer.MLP(layer.norm2(tokens))
    if not layer.doubled_residual:
        tokens = tokens - start
    grown = tokens[:, :classes].unflatten(0, (batch, rows, columns)).permute(0, 3, 4, 1, 2)
    grown = F.interpolate(
        grown.flatten(0, 1), size=(height, width), mode="bilinear", align_corners=True
    )
    return maps + grown.unflatten(0, (batch, classes)).permute(0, 1, 3, 4, 2)


def _decode(step: GuidedUpsampling, maps: Tensor, guidance: Tensor) -> Tensor:
    """(N, C, H, W) maps with (N, *, 2H, 2W) guidance -> (N, C', 2H, 2W)."""
    layers: nn.Sequential = step.conv.double_conv
    return layers(torch.cat([step.up(maps), guidance], dim=1))


def _resize(maps: Tensor, size: tuple[int, int] | list[int]) -> Tensor:
    return F.interpolate(maps, size=tuple(size), mode="bilinear", align_corners=False)
