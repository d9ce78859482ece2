"""Batches across the borders of jobs."""

import pytest
import torch

from segmentation.modeling.batches import run_in_batches


@pytest.mark.parametrize("size", [1, 2, 3, 7, 100])
def test_every_job_gets_its_own_results_as_early_as_can_be(size):
    counts = {"a": 3, "b": 1, "c": 4, "d": 1}
    values = iter(torch.arange(9.0)[:, None].split(list(counts.values())))
    asked, batches = [], []

    def jobs():
        for name in counts:
            asked.append(name)
            yield name, next(values)

    def network(inputs):
        batches.append(len(inputs))
        return inputs * 10

    found, seen = {}, {}
    for name, results in run_in_batches(jobs(), network, size):
        found[name] = [int(value) for value in results]
        seen[name] = len(asked)
    assert found == {"a": [0, 10, 20], "b": [30], "c": [40, 50, 60, 70], "d": [80]}
    assert batches == [size] * (9 // size) + [9 % size] * (9 % size > 0)
    if size == 3:  # the first job fills a batch by itself, the second shares one with the third
        assert seen == {"a": 1, "b": 3, "c": 4, "d": 4}
