"""What libraries say of every healthy run, by its first words; it is not shown."""

from __future__ import annotations

import logging

NOISE = (
    # open_clip, of weights that are random on purpose or loaded right after.
    "No pretrained weights loaded for model",
    # mmengine, of its own hooks, and of a data set without classes.
    '"FileClient" will be deprecated in future',
    '"HardDiskBackend" is the alias of "LocalBackend"',
    "Dataset RegionTextDataset has no metainfo",
    # torch, where it is asked for its environment on a machine without a GPU.
    "No CUDA runtime is found",
)


def is_no_noise(record: logging.LogRecord) -> bool:
    """A filter of loggers and handlers."""
    return not record.getMessage().startswith(NOISE)


def mute_noise() -> None:
    """Keeps :data:`NOISE` from this process's console; other warnings stay."""
    for name in (None, "torch.utils.cpp_extension"):
        logging.getLogger(name).addFilter(is_no_noise)
