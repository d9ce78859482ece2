"""Many strings in two arrays."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np


class PackedStrings:
    """An immutable sequence of strings kept in one buffer.

    Millions of Python strings cost several times their text, and reference counting makes every
    data loading worker copy them; two arrays are shared.

    Args:
        strings: The strings.
    """

    def __init__(self, strings: Iterable[str]) -> None:
        encoded = [string.encode() for string in strings]
        self._ends = np.cumsum([len(string) for string in encoded], dtype=np.int64)
        self._buffer = np.frombuffer(b"".join(encoded), dtype=np.uint8)

    def __len__(self) -> int:
        return len(self._ends)

    def __getitem__(self, index: int) -> str:
        if not 0 <= index < len(self):
            raise IndexError(index)
        start = self._ends[index - 1] if index else 0
        return self._buffer[start : self._ends[index]].tobytes().decode()
