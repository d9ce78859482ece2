"""No tower keeps attention weights for its backward pass."""

import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

from fineclip.models import DenseCLIP


def weights_kept(name):
    """Whether autograd keeps a tensor with a value for each pair of tokens."""
    model = DenseCLIP.create(name).train()
    images = torch.randn(2, 3, 96, 96) if name != "RN-Ti" else torch.randn(2, 3, 32, 32)
    tokens = torch.randint(1, 400, (3, model.context_length))
    tokens[:, 40] = 511
    lengths = {41, model.context_length}  # trimmed, or not
    for size in ((12, 12), (6, 6), (1, 1)):
        lengths |= {size[0] * size[1] + extra for extra in (0, 1)}
    lengths -= {1, 2}
    kept = []

    def pack(tensor):
        # (B, heads, N, N); a mask is shared by all rows and heads.
        weights = tensor.ndim == 4 and tensor.shape[0] > 1
        if weights and tensor.shape[-1] == tensor.shape[-2] in lengths:
            kept.append(tensor.shape)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        model.encode_image_and_dense(images)
        model.encode_text(tokens)
    return kept


@pytest.mark.parametrize("name", ["ViT-Ti-16", "EVA02-Ti-16", "Sigmoid-Ti-16", "RN-Ti"])
def test_attention_is_fused(name):
    assert not weights_kept(name)
    with sdpa_kernel(SDPBackend.MATH):
        assert weights_kept(name)  # so the shapes would have been seen
