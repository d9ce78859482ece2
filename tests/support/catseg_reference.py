"""The recorded CAT-Seg models: tensors, and our segmenter with their weights in it."""

from __future__ import annotations

import open_clip
import torch
from recorded import behind, sampled, tensors
from recorded import read_json as settings
from torch import Tensor

from fineclip.models import DenseCLIP
from segmentation.modeling import CostAggregator, Segmenter, build_segmenter

VARIANTS = ["b16", "l14"]


def assert_gradient(
    name: str, ours: Tensor | None, recorded: Tensor, summary: dict, count: int = 512
) -> None:
    """Within 1e-3 of the tensor's largest entry, the reference's own noise being a tenth of it."""
    assert ours is not None, f"{name} has no gradient"
    limit = 1e-3 * summary["max"] + 1e-6
    assert (sampled(ours, count) - recorded).abs().max() <= limit, name
    assert abs(ours.norm() - summary["norm"]) <= 1e-3 * summary["norm"] + 1e-5, name


def aggregator_arguments(config: dict) -> dict:
    """Keyword arguments for a recorded configuration."""
    config = {k: v for k, v in config.items() if k != "feature_resolution"}
    config["num_heads"] = config.pop("nheads")
    config["pad_length"] = config.pop("pad_len")
    return config


def make_aggregator(case: str, **changes: object) -> tuple[CostAggregator, dict[str, Tensor], dict]:
    """The network of a recorded case, its tensors and its settings."""
    entry = settings("catseg_aggregator")[case]
    network = CostAggregator(**{**aggregator_arguments(entry["config"]), **changes})
    weights = tensors(f"catseg_aggregator_weights_{entry['weights']}")
    network.load_state_dict(behind(weights, "param."))
    return network, tensors(f"catseg_aggregator_{case}"), entry


def make_clip(clip: dict) -> DenseCLIP:
    return DenseCLIP(
        open_clip.CLIP(
            clip["embed_dim"],
            {
                "image_size": clip["image_resolution"],
                "patch_size": clip["vision_patch_size"],
                "width": clip["vision_width"],
                "layers": clip["vision_layers"],
                "head_width": clip["vision_width"] // clip["vision_heads"],
            },
            {
                "width": clip["text_width"],
                "heads": clip["text_heads"],
                "layers": clip["text_layers"],
            },
            quick_gelu=True,
        )
    )


def published(variant: str) -> dict[str, Tensor]:
    """The state dict as a release would hold it, unused rows of the token embedding zero."""
    found = tensors(f"catseg_{variant}")
    weights = behind(found, "param.")
    clip = settings(f"catseg_{variant}_runs")["clip"]
    key = "sem_seg_head.predictor.clip_model.token_embedding.weight"
    weights[key] = torch.zeros(clip["vocab_size"], clip["text_width"])
    weights[key][found[f"sparse.{key}.ids"]] = found[f"sparse.{key}.rows"]
    return weights


def make_segmenter(variant: str, mode: str = "attention", **changes: object) -> Segmenter:
    """The recorded model."""
    entry = settings(f"catseg_{variant}_runs")
    network = entry["aggregation"]
    arguments = {
        "train_classes": entry["train_classes"],
        "test_classes": entry["test_classes"],
        "finetune": mode,
        "guidance_layers": entry["guidance_layers"],
        "text_guidance_proj_dim": network["TEXT_GUIDANCE_PROJ_DIM"],
        "appearance_guidance_proj_dim": network["APPEARANCE_GUIDANCE_PROJ_DIM"],
        "decoder_dims": network["DECODER_DIMS"],
        "decoder_guidance_dims": network["DECODER_GUIDANCE_DIMS"],
        "decoder_guidance_proj_dims": network["DECODER_GUIDANCE_PROJ_DIMS"],
        "num_layers": network["NUM_LAYERS"],
        "num_heads": network["NUM_HEADS"],
        "hidden_dim": network["HIDDEN_DIMS"],
        "pooling_size": network["POOLING_SIZES"],
        "window_size": network["WINDOW_SIZES"],
        "attention_type": network["ATTENTION_TYPE"],
    }
    model = build_segmenter(make_clip(entry["clip"]), **{**arguments, **changes})
    assert model.clip_resolution == tuple(entry["clip_resolution"])
    wrong = model.load_state_dict(published(variant), strict=False)
    assert not wrong.unexpected_keys
    assert all(key.endswith("prompt_tokens") for key in wrong.missing_keys)
    return model.eval()
