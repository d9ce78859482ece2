"""Settings for every test: few threads and a fixed seed."""

import os

# Before torch is imported: its thread pools read this once. Tiny tensors gain nothing from threads.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import copy
import functools
import gc
import multiprocessing
import random
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from mmengine.registry import DefaultScope
from mmengine.runner import runner
from torch.utils.data.dataloader import _MultiProcessingDataLoaderIter


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that start processes run first; as the last, one would keep a single worker busy."""
    first = {"tools", "experiments", "parallel"}
    items.sort(key=lambda item: item.path.parent.name not in first)


def pytest_collection_finish() -> None:
    """What is imported stays, and the collector need not look through it at every turn."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(50_000, 10, 10)  # at Python's own, it takes a quarter of the time


@pytest.fixture(autouse=True, scope="session")
def _environment_asked_for_once() -> None:
    """Every run logs versions of compilers and libraries, asking other programs for them."""
    ask = functools.cache(runner.collect_env)
    runner.collect_env = lambda: copy.copy(ask())


@pytest.fixture(autouse=True, scope="session")
def _nobodys_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Embeddings are cached for the length of the tests, not in the user's folder."""
    os.environ["FINECLIP_CACHE_DIR"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def _no_scope() -> None:
    """A run sets the scope in which names of classes are looked up, for all that comes after it."""
    DefaultScope._instance_dict.clear()


@pytest.fixture(autouse=True)
def _fixed_seed() -> None:
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - third-party transforms read the global generator
    torch.manual_seed(0)


@pytest.fixture(autouse=True)
def _no_loader_outlives_its_test() -> Iterator[None]:
    """The end of a process ends its workers; the garbage collector waits 5 s for each."""
    before = set(multiprocessing.active_children())
    yield
    if set(multiprocessing.active_children()) - before:
        for item in gc.get_objects():
            if type(item) is _MultiProcessingDataLoaderIter:
                item._shutdown_workers()
