"""What keeps tensors from fitting, in one line."""

import torch

from fineclip.checkpoints.compare import compare


def test_every_difference_is_named_and_long_lists_are_cut():
    expected = {f"layer.{i}": torch.zeros(2) for i in range(4)} | {"bias": torch.zeros(())}
    assert not compare(expected, expected)
    assert not compare(
        {k: v for k, v in expected.items() if k != "bias"}, expected, optional=["bias"]
    )
    found = {"layer.3": torch.zeros(2, 1), "other": torch.zeros(1), "bias": torch.zeros(())}
    misfit = compare(found, expected)
    assert misfit
    assert misfit.describe(limit=2) == (
        "3 missing keys: layer.0, layer.1 and 1 more; 1 unknown key: other; "
        "1 wrong shape: layer.3 (2, 1) instead of (2,)"
    )
    assert "layer.0, layer.1, layer.2;" in misfit.describe(limit=None)
