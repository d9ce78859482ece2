"""Checkpoints in every dialect: recorded ones, listed ones, and ones made here."""

import json
from pathlib import Path

import open_clip
import pytest
import torch
from safetensors.torch import save_file

import fineclip.models  # noqa: F401  registers the tiny models

DATA = Path(__file__).parents[2] / "data"


@pytest.fixture(scope="session")
def tiny_vit():
    torch.manual_seed(1)
    return open_clip.create_model("ViT-Ti-16").eval()


@pytest.fixture(scope="session")
def tiny_eva():
    torch.manual_seed(2)
    return open_clip.create_model("EVA02-Ti-16").eval()


@pytest.fixture(scope="session")
def save():
    """Writes a state dict (or anything, as a torch file) and returns the path."""

    def write(content, path):
        if path.suffix == ".safetensors":
            save_file(content, path)
        else:
            torch.save(content, path)
        return path

    return write


@pytest.fixture(scope="session")
def listing():
    """The names and shapes of a published full-size model."""

    def read(name):
        return json.loads((DATA / "listings" / f"{name}.json").read_text())

    return read


@pytest.fixture(scope="session")
def small_release(listing):
    """Random tensors under a published model's names, channel counts divided by 16."""

    def small(size):
        return size // 16 if size % 16 == 0 else size

    def make(name, dtype=torch.float32):
        generator = torch.Generator().manual_seed(0)
        tensors = {}
        for key, shape in listing(name).items():
            # Kernels keep their size.
            shape = [small(s) if n < 2 or len(shape) != 4 else s for n, s in enumerate(shape)]
            values = torch.rand(shape, generator=generator)
            tensors[key] = values.to(torch.int64 if "num_batches" in key else dtype)
        return tensors

    return make
