"""Settings for every test: few threads and a fixed seed."""

import os

# Before torch is imported: its thread pools read this once. Tiny tensors gain nothing from threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import copy
import functools
import random

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.runner import runner


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that start processes run first; as the last, one would keep a single worker busy."""
    first = {"tools", "experiments", "parallel"}
    items.sort(key=lambda item: item.path.parent.name not in first)


@pytest.fixture(autouse=True, scope="session")
def _environment_asked_for_once() -> None:
    """Every run logs versions of compilers and libraries, asking other programs for them."""
    ask = functools.cache(runner.collect_env)
    runner.collect_env = lambda: copy.copy(ask())


@pytest.fixture(autouse=True)
def _no_scope() -> None:
    """A run sets the scope in which names of classes are looked up, for all that comes after it."""
    DefaultScope._instance_dict.clear()


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - third-party transforms read the global generator
    torch.manual_seed(0)
