"""Curves of a training over its steps, in the groups ``train`` and ``val``."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

import mmengine.visualization  # noqa: F401 - registers the backends
from detectron2.utils.events import EventWriter, get_event_storage
from mmengine.registry import VISBACKENDS

from fineclip.configuration.backends import BACKENDS

_WINDOW = 20  # steps that detectron2 takes the median of, as its own writers do


class GroupedCurves(EventWriter):
    """Hands detectron2's scalars to mmengine's backends, each with a group before its name.

    Args:
        folder: Where backends that write files write them.
        tested: Data sets that are evaluated; detectron2 puts theirs before a metric's name.
        log_to: Keys of :data:`fineclip.configuration.backends.BACKENDS`.
    """

    def __init__(self, folder: str, tested: Collection[str], log_to: Sequence[str]) -> None:
        self.tested = frozenset(tested)
        self.backends: list[Any] = [
            VISBACKENDS.build({"type": BACKENDS[name][0], "save_dir": folder}) for name in log_to
        ]
        self._last_write = -1

    def write(self) -> None:
        """Writes what is newer than the last call."""
        latest = get_event_storage().latest_with_smoothing_hint(_WINDOW)
        fresh = {name: item for name, item in latest.items() if item[1] > self._last_write}
        for name, (value, step) in fresh.items():
            group = "val" if name.partition("/")[0] in self.tested else "train"
            for backend in self.backends:
                backend.add_scalar(f"{group}/{name}", value, step)
        self._last_write = max([self._last_write, *(step for _, step in fresh.values())])

    def close(self) -> None:
        """Ends the backends."""
        for backend in self.backends:
            backend.close()
