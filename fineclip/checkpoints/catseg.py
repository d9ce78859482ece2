"""CAT-Seg: its CLIP under ``sem_seg_head.predictor.clip_model`` and the rest of the segmenter."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from fineclip.checkpoints.layout import Layout, conv, conv_transpose, linear, norm, prefixed
from fineclip.checkpoints.rules import Rule, same

CLIP_PREFIX = "sem_seg_head.predictor.clip_model."
PROMPT_KEY = "visual.transformer.prompt_tokens"
_AGGREGATOR = "sem_seg_head.predictor.transformer."

# Query, key and value weights are separate so that they can be trained separately; biases are not.
RULES = [
    Rule(
        "{*}.attn.in_proj_weight",
        tuple(f"{{*}}.attn.{part}_proj_weight" for part in "qkv"),
    ),
    *same("{*}"),
]


def layout_of_rest(tensors: Mapping[str, Tensor]) -> Layout:
    """The layout of everything outside CLIP (and of the prompt tokens inside it).

    Args:
        tensors: Those tensors; empty for a CLIP alone.
    """
    prompts: Layout = {f"{CLIP_PREFIX}{PROMPT_KEY}?": ("depth", "length", "C")}
    if all(key in (f"{CLIP_PREFIX}{PROMPT_KEY}",) for key in tensors):
        return prompts
    return {
        **prompts,
        **prefixed(_AGGREGATOR, _aggregator()),
        **conv_transpose("upsample1", "C", "g1", 2),
        **conv_transpose("upsample2", "C", "g2", 4),
    }


def _aggregator() -> Layout:
    layer = "layers.{i}."
    layout: Layout = {
        **conv("conv1", "H", "P", "k"),
        **conv("guidance_projection.0", "Ga", "D", 3),
        **linear("text_guidance_projection.0", "Gt", "D"),
        **conv("decoder_guidance_projection.0.0", "d1", "g1", 3),
        **conv("decoder_guidance_projection.1.0", "d2", "g2", 3),
    }
    for number in (1, 2):
        block = f"{layer}swin_block.block_{number}."
        layout |= {
            **norm(f"{block}norm1", "H"),
            **linear(f"{block}attn.q", "H", "H+Ga"),
            **linear(f"{block}attn.k", "H", "H+Ga"),
            **linear(f"{block}attn.v", "H", "H"),
            **linear(f"{block}attn.proj", "H", "H"),
            **norm(f"{block}norm2", "H"),
            **linear(f"{block}mlp.fc1", "M", "H"),
            **linear(f"{block}mlp.fc2", "H", "M"),
            # A buffer that depends on the grid; absent where the window covers it.
            f"{block}attn_mask?": ("windows", "w", "w"),
        }
    return {
        **layout,
        **norm(f"{layer}swin_block.guidance_norm", "Ga"),
        f"{layer}attention.padding_tokens?": (1, 1, "H"),
        f"{layer}attention.padding_guidance?": (1, 1, "Gt"),
        **linear(f"{layer}attention.attention.q", "H", "H+Gt"),
        **linear(f"{layer}attention.attention.k", "H", "H+Gt"),
        **linear(f"{layer}attention.attention.v", "H", "H"),
        **linear(f"{layer}attention.MLP.0", "L", "H"),
        **linear(f"{layer}attention.MLP.2", "H", "L"),
        **norm(f"{layer}attention.norm1", "H"),
        **norm(f"{layer}attention.norm2", "H"),
        **_decoder("decoder1", "H", "u1", "d1", "o1"),
        **_decoder("decoder2", "o1", "u2", "d2", "o2"),
        **conv("head", 1, "o2", 3),
    }


def _decoder(name: str, inp: str, up: str, guidance: str, out: str) -> Layout:
    convs = f"{name}.conv.double_conv."
    return {
        **conv_transpose(f"{name}.up", inp, up, 2),
        **conv(f"{convs}0", out, f"{up}+{guidance}", 3, bias=False),
        **norm(f"{convs}1", out),
        **conv(f"{convs}3", out, out, 3, bias=False),
        **norm(f"{convs}4", out),
    }
