"""Attention with separate query, key and value weights, so that some can be trained alone."""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor, nn

from fineclip.models.attention import attention_kernel


class SplitAttention(nn.Module):
    """``torch.nn.MultiheadAttention`` of one width, its packed weight cut in three.

    CAT-Seg trains query and value weights but not keys, which one packed matrix does not allow:
    ``requires_grad`` belongs to whole tensors. Its files hold the three under the names used here.
    Biases are not trained and stay in one vector. Called like the module it replaces.

    Args:
        attention: The packed, batch-first module; its values are taken over.

    Raises:
        ValueError: For attention of another form: not batch-first, extra key or value biases,
            differing widths, or dropout.
    """

    q_proj_weight: nn.Parameter
    k_proj_weight: nn.Parameter
    v_proj_weight: nn.Parameter

    def __init__(self, attention: nn.MultiheadAttention) -> None:
        super().__init__()
        plain = (
            attention.in_proj_weight is not None
            and attention.batch_first
            and attention.bias_k is None
            and not attention.add_zero_attn
            and not attention.dropout
        )
        if not plain:
            raise ValueError(
                "only batch-first attention of one width without dropout and added keys has "
                "query, key and value weights to separate"
            )
        self.embed_dim = attention.embed_dim
        self.num_heads = attention.num_heads
        for name, part in zip("qkv", attention.in_proj_weight.detach().chunk(3), strict=True):
            self.register_parameter(f"{name}_proj_weight", nn.Parameter(part.clone()))
        # As in torch's own module with separate weights: there, but None, so a trunk that looks
        # for the packed matrix sees that there is none.
        self.register_parameter("in_proj_weight", None)
        self.in_proj_bias = attention.in_proj_bias
        self.out_proj = attention.out_proj

    def forward(
        self,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        need_weights: bool = False,
        attn_mask: Tensor | None = None,
    ) -> tuple[Tensor, None]:
        """Attends.

        Args:
            query: (B, L, C).
            key: (B, S, C).
            value: (B, S, C).
            need_weights: Must be false.
            attn_mask: (L, S), added to the logits.

        Returns:
            (B, L, C) and None.
        """
        if need_weights:
            raise ValueError("SplitAttention does not return attention weights")
        weights = (self.q_proj_weight, self.k_proj_weight, self.v_proj_weight)
        biases = (None,) * 3 if self.in_proj_bias is None else self.in_proj_bias.chunk(3)
        query, key, value = (
            F.linear(x, weight, bias).unflatten(2, (self.num_heads, -1)).transpose(1, 2)
            for x, weight, bias in zip((query, key, value), weights, biases, strict=True)
        )  # (B, heads, L, C / heads) each
        with attention_kernel(query):
            mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=attn_mask)
        return self.out_proj(mixed.transpose(1, 2).flatten(2)), None


def split_attention_weights(model: nn.Module) -> int:
    """Replaces every packed ``MultiheadAttention`` of residual blocks by :class:`SplitAttention`.

    Those are the modules named ``attn``: all of an OpenAI-style image tower, and of every
    open_clip text tower. timm's EVA towers have separate weights to begin with.

    Args:
        model: An open_clip model; changed in place, its outputs stay what they were.

    Returns:
        How many were replaced.
    """
    found = [
        (module, name)
        for module in model.modules()
        for name, child in module.named_children()
        if name == "attn" and isinstance(child, nn.MultiheadAttention)
    ]
    for module, name in found:
        setattr(module, name, SplitAttention(getattr(module, name)))
    return len(found)
