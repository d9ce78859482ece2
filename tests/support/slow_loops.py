"""Comparison of an objective with plain loops in float64, in value and in gradient."""

from __future__ import annotations

import math
from dataclasses import fields, replace

import torch

from fineclip.embeddings import Embeddings


def leaves(embeddings):
    """The same numbers as float64 leaves; what is not floating point stays."""
    return Embeddings(
        **{
            field.name: value.detach().double().requires_grad_()
            if value.is_floating_point()
            else value
            for field in fields(Embeddings)
            if (value := getattr(embeddings, field.name)) is not None
        }
    )


def assert_equals_slow(objective, embeddings, slow, *, gradient, tolerance=1e-5):
    """Value and gradient of the objective equal those of ``slow``.

    Args:
        objective: Any objective.
        embeddings: Its float32 input.
        slow: Maps float64 embeddings to a dict of scalars, named like the objective's.
        gradient: Exactly the fields that receive one.
        tolerance: Relative, for gradients to the largest element.
    """
    fast_inputs = replace(
        embeddings,
        **{
            field.name: value.detach().clone().requires_grad_()
            for field in fields(Embeddings)
            if (value := getattr(embeddings, field.name)) is not None and value.is_floating_point()
        },
    )
    slow_inputs = leaves(embeddings)
    actual, expected = objective(fast_inputs), slow(slow_inputs)
    assert actual.keys() == expected.keys()
    for name in actual:
        assert actual[name].dtype == torch.float32
        relative = abs(actual[name].item() / expected[name].item() - 1)
        assert relative < tolerance, f"{name}: {relative:.1e}"
    # Different factors, so that one of several losses cannot stand in for another.
    sum((1 + i) * loss for i, loss in enumerate(actual.values())).backward()
    sum((1 + i) * expected[name] for i, name in enumerate(actual)).backward()
    for field in fields(Embeddings):
        value = getattr(fast_inputs, field.name)
        if value is None or not value.is_floating_point():
            continue
        if field.name not in gradient:
            assert value.grad is None or not value.grad.any(), f"gradient into {field.name}"
            continue
        reference = getattr(slow_inputs, field.name).grad
        scale = reference.abs().max()
        assert scale > 1e-6, f"no gradient to compare for {field.name}"
        error = ((value.grad - reference).abs().max() / scale).item()
        assert error < tolerance, f"gradient of {field.name}: {error:.1e}"


def unit(row):
    """A row divided by its length."""
    return row / sum(x * x for x in row) ** 0.5


def dot(a, b):
    return sum(x * y for x, y in zip(a, b, strict=True))


def cosine(a, b):
    return dot(unit(a), unit(b))


def cross_entropy(logits, target):
    """Minus log of the softmax of a list of scalars, at one index."""
    return sum(logit.exp() for logit in logits).log() - logits[target]


def softplus(x):
    """Minus log sigmoid of -x."""
    return (1 + x.exp()).log()


def info_nce(left, right, factor):
    """Symmetric InfoNCE of two lists of rows."""
    table = [[factor * cosine(a, b) for b in right] for a in left]
    return symmetric(table, table)


def symmetric(rows, columns):
    """Half the sum of the row-wise and the column-wise mean cross entropy of two tables."""
    size = len(rows)
    total = 0.0
    for i in range(size):
        total += cross_entropy(rows[i], i)
        total += cross_entropy([columns[j][i] for j in range(size)], i)
    return total / (2 * size)


def draw(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=generator)


def scalar(value):
    return torch.tensor(value)


LOG_TEN = math.log(10.0)
