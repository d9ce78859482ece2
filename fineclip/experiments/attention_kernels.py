"""Which kernels the attention of our towers runs with, as the profiler sees them."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.profiler import ProfilerActivity, profile

from fineclip.experiments.measuring import autocast
from fineclip.models import DenseCLIP

FUSED = frozenset({"flash_attention", "cudnn_attention"})
_CHECKED = "cuda"  # a CPU has reasons for the plain formula (fineclip/models/attention.py)
_OPERATOR = re.compile(r"aten::_scaled_dot_product_(?!\w*backward)(\w+)")
_KERNEL = re.compile(r"flash|fmha|sdp", re.IGNORECASE)


def attention_kernels(
    cases: Sequence[tuple[str, int]], *, device: str, amp: str | None = None
) -> dict[str, Any]:
    """Runs towers under the profiler: image towers forward and backward, text towers forward.

    Args:
        cases: open_clip name, and side of the image in pixels; weights are random.
        device: A torch device.
        amp: "bf16" or "fp16" autocast; None: float32.

    Returns:
        ``attention``: per tower ``model``, ``tower``, ``shape`` of the queries (B, heads, tokens,
        width), ``operators`` (torch's, such as "flash_attention") and ``kernels`` (the GPU's).

    Raises:
        RuntimeError: On a GPU in mixed precision, an image tower runs with something else than the
            flash or cuDNN kernel. Text towers may: flash attention does not take their mask.
    """
    place = torch.device(device)
    found = []
    for name, side in cases:
        clip = DenseCLIP.create(name).to(place)
        images = torch.randn(2, 3, side, side, device=place)
        # Texts of full length: the highest token is the last.
        texts = torch.arange(1, clip.context_length + 1, device=place).expand(2, -1)

        def train(clip: DenseCLIP = clip, images: torch.Tensor = images) -> None:
            with autocast(place, amp):
                loss = clip.encode_image(images).sum()
            loss.backward()

        @torch.no_grad()
        def embed(clip: DenseCLIP = clip, texts: torch.Tensor = texts) -> None:
            with autocast(place, amp):
                clip.encode_text(texts)

        image = _profiled(train, place)
        if amp and place.type == _CHECKED and not FUSED.issuperset(image["operators"]):
            raise RuntimeError(
                f"{name} at {side} px: attention {image['shape']} runs as "
                f"{', '.join(image['operators'])}, expected flash or cuDNN attention"
            )
        found.append({"model": name, "tower": "image", **image})
        found.append({"model": name, "tower": "text", **_profiled(embed, place)})
    return {"attention": found}


def _profiled(run: Callable[[], None], device: torch.device) -> dict[str, Any]:
    activities = [ProfilerActivity.CPU]
    if device.type == "cuda":
        activities.append(ProfilerActivity.CUDA)
    with profile(activities=activities, record_shapes=True) as record:
        run()
    events = record.events() or []
    shapes = {
        match[1].removesuffix("_for_cpu"): event.input_shapes[0]
        for event in events
        if (match := _OPERATOR.fullmatch(event.name)) and event.input_shapes
    }
    on_device = {e.name for e in events if e.device_type != torch.autograd.DeviceType.CPU}
    return {
        "shape": next(iter(shapes.values()), None),
        "operators": sorted(shapes),
        "kernels": sorted(name for name in on_device if _KERNEL.search(name)),
    }
