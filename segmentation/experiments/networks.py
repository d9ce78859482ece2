"""Sizes of CAT-Seg's network by name, for what is measured and tried out."""

from __future__ import annotations

from typing import Any

NETWORKS: dict[str, dict[str, Any]] = {
    "released": {},
    "tiny": {
        "hidden_dim": 16,
        "num_heads": 2,
        "window_size": 4,
        "decoder_dims": (16, 16),
        "decoder_guidance_dims": (12, 8),
        "decoder_guidance_proj_dims": (8, 4),
    },
}
"""Arguments of :func:`segmentation.modeling.build_segmenter` beside its defaults."""
