import torch

from fineclip.explain.rule import Layer, pooled_relevance_parts


def test_gradients_too_small_for_one_plus_them_still_count():
    """Rows below a pooling are divided by their sums, so their size must not matter."""
    generator = torch.Generator().manual_seed(0)
    shapes = (1, 2, 3, 3), (1, 2, 3, 3), (1, 2, 1, 3)
    attention = [torch.rand(shape, generator=generator) for shape in shapes]
    found = []
    for dtype in (torch.float32, torch.float64):
        *layers, pooling = [Layer(part.to(dtype), part.to(dtype) * 1e-10) for part in attention]
        found.append(pooled_relevance_parts(layers, pooling).double() * 1e10)
    torch.testing.assert_close(*found, rtol=1e-5, atol=0)
    assert (found[0][:, :2].sum(dim=(2, 3)) > 0.1).all()
