"""What a command is about to do, and how far it is.

Progress is a bar in a terminal, and a plain line now and then in a file or a pipe.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping
from types import TracebackType
from typing import Protocol, TextIO, TypeVar

from tqdm import tqdm

Item = TypeVar("Item", covariant=True)

LINE_SECONDS, LINE_SHARE, SILENCE_SECONDS = 10.0, 0.1, 600.0
"""A plain line follows the last one after so many seconds and this share of the work, or, where
the work is slow, after the longest silence."""


def print_plan(lines: Mapping[str, str]) -> None:
    """Prints the lines that matter of a run by their titles, one below the other."""
    width = max(map(len, lines))
    print("\n".join(f"{name:<{width}}  {text}" for name, text in lines.items()), flush=True)


class Progress:
    """Shows how much is done, and when the rest will be.

    Nothing appears before something is done: an error, or nothing to do, needs no bar.

    Args:
        title: What is done.
        unit: Of what is counted, in the singular.
        done: How much a resumed run has done already.
        disable: Show nothing (other processes than the first).
        stream: Where it is shown; None: standard error.
        clock: Seconds.
    """

    def __init__(
        self,
        title: str,
        unit: str,
        *,
        done: int = 0,
        disable: bool = False,
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.title, self.unit = title, unit
        self._stream = stream or sys.stderr
        self._disable = disable
        self._clock = clock
        self._bar: tqdm | None = None
        self._first = self._done = self._line_done = done
        self._begin = self._line_time = clock()

    def show(self, done: int, total: int, note: str = "") -> None:
        """Says how far it is; it starts anew when ``done`` falls.

        Args:
            done: How much is done.
            total: How much there is.
            note: What else there is to say, such as the loss.
        """
        if self._disable:
            return
        if done < self._done:
            self.close()
            self._first = self._line_done = 0
            self._begin = self._line_time = self._clock()
        self._done = done
        if self._stream.isatty():
            self._draw(done, total, note)
        else:
            self._write(done, total, note)

    def close(self) -> None:
        """Takes the bar away; results say the rest."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def __enter__(self) -> Progress:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _draw(self, done: int, total: int, note: str) -> None:
        if self._bar is None:
            self._bar = tqdm(
                desc=self.title,
                unit=self.unit,
                total=total,
                initial=self._first,
                mininterval=0.5,
                leave=False,
                file=self._stream,
                dynamic_ncols=True,
            )
            self._bar.start_t -= self._clock() - self._begin  # the first one took its time, too
        if note:
            self._bar.set_postfix_str(note, refresh=False)
        self._bar.total = total
        self._bar.update(done - self._bar.n)

    def _write(self, done: int, total: int, note: str) -> None:
        now = self._clock()
        silence = now - self._line_time
        enough = done - self._line_done >= LINE_SHARE * total and silence >= LINE_SECONDS
        if not enough and silence < SILENCE_SECONDS:
            return
        self._line_time, self._line_done = now, done
        seconds = (now - self._begin) / max(1, done - self._first)
        left = tqdm.format_interval((total - done) * seconds)
        units = f"{self.unit}{'es' if self.unit.endswith('ch') else 's'}"
        words = [f"{self.title}: {done} of {total} {units}", f"{left} left", note]
        print(", ".join(filter(None, words)), file=self._stream, flush=True)


class _Counted(Protocol[Item]):
    """What can be iterated and has a length: a list, a data loader."""

    def __iter__(self) -> Iterator[Item]: ...

    def __len__(self) -> int: ...


def track(items: _Counted[Item], title: str, unit: str, *, disable: bool = False) -> Iterator[Item]:
    """Yields items and shows how many are done."""
    with Progress(title, unit, disable=disable) as progress:
        for number, item in enumerate(items, 1):
            yield item
            progress.show(number, len(items))
