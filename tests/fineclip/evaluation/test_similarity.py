import torch

from fineclip.evaluation.similarity import similarities


def test_float64_dot_products():
    result = similarities(torch.tensor([[0.6, 0.8]]), torch.tensor([[1.0, 0.0], [0.0, 1.0]]))
    assert result.dtype == torch.float64
    assert torch.allclose(result, torch.tensor([[0.6, 0.8]], dtype=torch.float64))


def test_differences_of_summation_order_are_ties_and_real_ones_are_not():
    one = torch.ones(1, 1, dtype=torch.float64)
    nearly = similarities(one, one - torch.tensor([[0.0], [1e-13], [1e-7]], dtype=torch.float64))
    assert nearly[0, 0] == nearly[0, 1]
    assert nearly[0, 0] > nearly[0, 2]
