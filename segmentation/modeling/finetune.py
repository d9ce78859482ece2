"""Which parameters are trained, and at which learning rate and weight decay."""

from __future__ import annotations

from typing import Any, Literal, get_args

from torch import nn

from segmentation.modeling.predictor import Predictor

FinetuneMode = Literal["attention", "full", "prompt", "frozen"]
FINETUNE_MODES: tuple[str, ...] = get_args(FinetuneMode)

# Query and value weights: SplitAttention's, and those of timm's EVA towers.
_ATTENTION = ("q_proj_weight", "v_proj_weight", "q_proj.weight", "v_proj.weight")
_NORMS = (nn.LayerNorm, nn.GroupNorm, nn.modules.batchnorm._BatchNorm)
_CLIP = "clip_model."


def apply_finetune_mode(predictor: Predictor, mode: str) -> list[str]:
    """Freezes the CLIP model of a predictor but for what the mode trains.

    Only the transformer blocks of both towers are ever trained, never patch embedding, class
    token, position tables, outer norms, projections, token embedding or logit scale.

    Args:
        predictor: Its ``requires_grad`` flags are set.
        mode: "attention": query and value weights (no biases) of all blocks; "full": the blocks;
            "prompt": the image tower's prompt tokens; "frozen": nothing.

    Returns:
        Names, below ``clip_model``, of what is trained.

    Raises:
        ValueError: Unknown mode, "prompt" without prompt tokens, "attention" on a tower that packs
            query, key and value, or a text tower whose blocks are not known.
    """
    if mode not in FINETUNE_MODES:
        raise ValueError(f"unknown finetuning mode {mode!r}; known: {', '.join(FINETUNE_MODES)}")
    clip = predictor.clip_model
    clip.requires_grad_(False)
    if mode == "prompt":
        if predictor.prompt_tokens is None:
            raise ValueError(
                "finetuning mode 'prompt' needs prompt tokens: set the depth and length of the "
                "prompts (PROMPT_DEPTH, PROMPT_LENGTH)"
            )
        predictor.prompt_tokens.requires_grad_(True)
    elif mode != "frozen":
        for blocks in (predictor.trunk.blocks, text_blocks(clip)):
            for block in blocks:
                found = 0
                for name, parameter in block.named_parameters():
                    trained = mode == "full" or name.endswith(_ATTENTION)
                    parameter.requires_grad_(trained)
                    found += trained
                if not found:
                    raise ValueError(
                        f"the attention of {type(block).__name__} has query, key and value in "
                        "one matrix: choose the finetuning mode 'full', 'prompt' or 'frozen'"
                    )
    return [name for name, parameter in clip.named_parameters() if parameter.requires_grad]


def parameter_groups(
    model: nn.Module,
    *,
    base_lr: float,
    weight_decay: float,
    clip_multiplier: float = 0.01,
    weight_decay_norm: float = 0.0,
    weight_decay_embed: float = 0.0,
) -> list[dict[str, Any]]:
    """Optimiser groups of everything that is trained.

    Args:
        model: A segmenter, or anything with its CLIP under a name that ends in ``clip_model``.
        base_lr: Learning rate outside of CLIP.
        weight_decay: Of everything but norms and embeddings; biases have it too.
        clip_multiplier: CLIP's share of ``base_lr``.
        weight_decay_norm: Of layer, group and batch norms.
        weight_decay_embed: Of embedding tables.

    Returns:
        One group per combination of rate and decay, in order of appearance: ``params``, ``lr``,
        ``weight_decay``, and ``names`` for reports.
    """
    groups: dict[tuple[float, float], dict[str, Any]] = {}
    seen: set[int] = set()
    for prefix, module in model.named_modules():
        decay = weight_decay
        if isinstance(module, _NORMS):
            decay = weight_decay_norm
        elif isinstance(module, nn.Embedding):
            decay = weight_decay_embed
        for name, parameter in module.named_parameters(recurse=False):
            if not parameter.requires_grad or id(parameter) in seen:
                continue
            seen.add(id(parameter))
            full = f"{prefix}.{name}" if prefix else name
            lr = base_lr * clip_multiplier if _CLIP in full else base_lr
            group = groups.setdefault(
                (lr, decay), {"params": [], "lr": lr, "weight_decay": decay, "names": []}
            )
            group["params"].append(parameter)
            group["names"].append(full)
    return list(groups.values())


def text_blocks(clip_model: nn.Module) -> nn.ModuleList:
    """The blocks of an open_clip model's text tower.

    Raises:
        ValueError: A tower of another library, whose blocks are not known.
    """
    tower = getattr(clip_model, "text", clip_model)
    blocks = getattr(getattr(tower, "transformer", None), "resblocks", None)
    if blocks is None:
        raise ValueError(
            f"the blocks of a {type(tower).__name__} text tower are not known: choose the "
            "finetuning mode 'prompt' or 'frozen'"
        )
    return blocks
