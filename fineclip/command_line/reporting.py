"""What tools print beside their results."""

from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from fineclip.interrupts import error_line
from fineclip.quiet import mute_noise


def report_error(error: Exception | str) -> int:
    """Prints what went wrong as one line on standard error.

    Returns:
        The exit code for it, 2.
    """
    print(f"error: {error_line(error)}", file=sys.stderr)
    return 2


@contextmanager
def progress_bar(title: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Gives a function that shows (done, in all); it starts anew when ``done`` falls."""
    from fineclip.progress import Progress  # tqdm, which --help need not load

    with Progress(title, unit) as progress:
        yield progress.show


def silence_libraries() -> None:
    """Hides warnings and log messages, which say nothing to whoever asks about a few images."""
    logging.getLogger().setLevel(logging.ERROR)
    mute_noise()  # whatever level libraries set when they are imported
    warnings.filterwarnings("ignore")
