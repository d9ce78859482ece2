"""transformers' ``SiglipModel``, which SigLIP and fixed-resolution SigLIP 2 are saved as."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from fineclip.checkpoints.rules import Rule
from fineclip.checkpoints.safe import CheckpointError

DESCRIPTION = "Hugging Face SiglipModel"

_MARK = "vision_model.head.probe"
_PATCHES = "vision_model.embeddings.patch_embedding.weight"
_POSITIONS = "vision_model.embeddings.position_embedding.weight"
_PACKED = "vision_model.head.attention.in_proj_"
_SCALARS = ("logit_scale", "logit_bias")

# Vocabularies by size, and the models of open_clip whose tokenizer has them.
_TOKENIZERS = {
    32000: "SigLIP's tokenizer, that of ViT-B-16-SigLIP",
    250000: "mT5's tokenizer, that of ViT-B-16-SigLIP-i18n-256",
    256000: "Gemma's tokenizer, that of ViT-B-16-SigLIP2",
}


def is_siglip(tensors: Mapping[str, Tensor]) -> bool:
    """Whether tensors have the names of a ``SiglipModel``, or of its image tower."""
    return _MARK in tensors


def _rules() -> list[Rule]:
    vision, text = "vision_model.", "text_model."
    ours, theirs = "visual.trunk.", f"{vision}encoder.layers.{{i}}."
    block = f"{ours}blocks.{{i}}."
    renamed = {
        "logit_scale": "logit_scale",
        "logit_bias": "logit_bias",
        f"{ours}pos_embed": _POSITIONS,
        f"{ours}patch_embed.proj.{{*}}": f"{vision}embeddings.patch_embedding.{{*}}",
        f"{block}norm1.{{*}}": f"{theirs}layer_norm1.{{*}}",
        f"{block}attn.proj.{{*}}": f"{theirs}self_attn.out_proj.{{*}}",
        f"{block}norm2.{{*}}": f"{theirs}layer_norm2.{{*}}",
        f"{block}mlp.{{*}}": f"{theirs}mlp.{{*}}",
        f"{ours}norm.{{*}}": f"{vision}post_layernorm.{{*}}",
        f"{ours}attn_pool.latent": _MARK,
        f"{ours}attn_pool.q.{{*}}": f"{_PACKED}{{*}}[q]",
        f"{ours}attn_pool.proj.{{*}}": f"{vision}head.attention.out_proj.{{*}}",
        f"{ours}attn_pool.norm.{{*}}": f"{vision}head.layernorm.{{*}}",
        f"{ours}attn_pool.mlp.{{*}}": f"{vision}head.mlp.{{*}}",
        "text.token_embedding.weight": f"{text}embeddings.token_embedding.weight",
        "text.positional_embedding": f"{text}embeddings.position_embedding.weight",
        "text.ln_final.{*}": f"{text}final_layer_norm.{{*}}",
        "text.text_projection.{*}": f"{text}head.{{*}}",
    }
    block, layer = "text.transformer.resblocks.{i}.", f"{text}encoder.layers.{{i}}."
    renamed |= {
        f"{block}attn.out_proj.{{*}}": f"{layer}self_attn.out_proj.{{*}}",
        f"{block}ln_1.{{*}}": f"{layer}layer_norm1.{{*}}",
        f"{block}ln_2.{{*}}": f"{layer}layer_norm2.{{*}}",
        f"{block}mlp.c_fc.{{*}}": f"{layer}mlp.fc1.{{*}}",
        f"{block}mlp.c_proj.{{*}}": f"{layer}mlp.fc2.{{*}}",
    }
    packed = [
        Rule(f"{ours}attn_pool.kv.{{*}}", tuple(f"{_PACKED}{{*}}[{part}]" for part in "kv")),
    ]
    for kind in ("weight", "bias"):
        packed += [
            Rule(
                f"visual.trunk.blocks.{{i}}.attn.qkv.{kind}",
                tuple(f"{theirs}self_attn.{part}_proj.{kind}" for part in "qkv"),
            ),
            Rule(
                f"{block}attn.in_proj_{kind}",
                tuple(f"{layer}self_attn.{part}_proj.{kind}" for part in "qkv"),
            ),
        ]
    return packed + [Rule(a, (b,)) for a, b in renamed.items()]


RULES = _rules()


def in_parts(
    tensors: Mapping[str, Tensor], path: str | Path
) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors in the shapes of open_clip's, which splits the pooling's packed attention weights.

    Args:
        tensors: As transformers saves them.
        path: The file, for messages.

    Returns:
        The tensors, and the file's name of each that has got another.

    Raises:
        CheckpointError: It is a NaFlex model.
    """
    patches = tensors.get(_PATCHES)
    if patches is not None and patches.ndim == 2:
        raise CheckpointError(
            f"{path} is a NaFlex SigLIP 2 (Siglip2Model): it embeds flattened patches of any grid "
            "with a linear layer, and open_clip has no such model; SigLIP 2 of a fixed resolution "
            "(SiglipModel, such as siglip2-base-patch16-256) can be converted"
        )
    found: dict[str, Tensor] = {}
    names: dict[str, str] = {}
    for key, value in tensors.items():
        if key.startswith(_PACKED) and value.ndim and len(value) % 3 == 0:
            for part, rows in zip("qkv", value.chunk(3), strict=True):
                found[f"{key}[{part}]"], names[f"{key}[{part}]"] = rows, key
        elif key in _SCALARS and value.numel() == 1:
            found[key] = value.reshape(())
        elif key == _POSITIONS and value.ndim == 2:
            found[key] = value[None]  # (N, C) -> (1, N, C)
        else:
            found[key] = value
    return found, names


def notes_on(tensors: Mapping[str, Tensor]) -> list[str]:
    """What to know of converted tensors, which open_clip's model decides about.

    Args:
        tensors: In open_clip naming.
    """
    notes = [
        "transformers runs these weights with GELU's tanh form unless config.json says otherwise; "
        "open_clip's models have one of the two by their name, and embeddings differ slightly "
        "where it is the other"
    ]
    table = tensors.get("text.token_embedding.weight")
    if table is not None:
        known = _TOKENIZERS.get(len(table), "no tokenizer of open_clip's SigLIP models")
        notes.append(f"vocabulary of {len(table)} tokens: {known}")
    return notes
