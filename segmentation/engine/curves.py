"""Curves of a training over its steps, in the groups ``train`` and ``val``."""

from __future__ import annotations

from collections.abc import Collection

from detectron2.utils.events import TensorboardXWriter, get_event_storage


class GroupedCurves(TensorboardXWriter):
    """detectron2's TensorBoard writer, with a group before the name of every scalar.

    Args:
        folder: Where events go.
        tested: Data sets that are evaluated; detectron2 puts theirs before a metric's name.
    """

    _last_write: int  # the last step that was written

    def __init__(self, folder: str, tested: Collection[str]) -> None:
        super().__init__(folder)
        self.tested = frozenset(tested)

    def write(self) -> None:
        """Writes what is newer than the last call."""
        latest = get_event_storage().latest_with_smoothing_hint(self._window_size)
        fresh = {name: item for name, item in latest.items() if item[1] > self._last_write}
        for name, (value, step) in fresh.items():
            group = "val" if name.partition("/")[0] in self.tested else "train"
            self._writer.add_scalar(f"{group}/{name}", value, step)
        self._last_write = max([self._last_write, *(step for _, step in fresh.values())])
