"""How commands end: with one line, of an error or of a signal (SIGINT, Ctrl-C, or SIGTERM)."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

SIGNALS = (signal.SIGINT, signal.SIGTERM)
_IMPATIENT_SECONDS = 2  # torchrun passes on what its processes got from the terminal already


class Interrupted(KeyboardInterrupt):
    """The program was told to end.

    Args:
        number: The signal.
        text: What to say of it; by default that it was interrupted.

    Attributes:
        code: The exit code that belongs to it, 128 and the signal's number.
    """

    def __init__(self, number: int, text: str = "interrupted") -> None:
        super().__init__(text)
        self.number = number
        self.code = 128 + number


def interrupt_on_signals() -> None:
    """SIGINT and SIGTERM raise :class:`Interrupted`, which removes temporary files on the way out.

    In processes that are forked later on, SIGINT means nothing: the terminal sends it to all of
    them, and the first one ends the others.
    """
    for number in SIGNALS:
        signal.signal(number, _interrupting())


def run_command(main: Callable[[], int]) -> int:
    """Runs a command's ``main``; a signal, or a file that cannot be written, ends it with one line.

    Returns:
        The exit code: that of ``main``, 130 after SIGINT, 143 after SIGTERM, 2 for an OSError that
        ``main`` did not expect.
    """
    interrupt_on_signals()
    logging.raiseExceptions = False  # a log on a full disk says it with every line
    try:
        return main()
    except KeyboardInterrupt as stop:
        print(stop if str(stop) else "interrupted", file=sys.stderr)
        return getattr(stop, "code", 128 + signal.SIGINT)
    except OSError as error:
        print(f"error: {error_line(error)}", file=sys.stderr)
        return 2


def error_line(error: BaseException | str) -> str:
    """An error in one line, the system's own refusals in words: file first, then what to do."""
    text = str(error)
    if isinstance(error, OSError) and error.errno is not None and error.filename is not None:
        text = f"{error.filename}: {error.strerror}"
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            text += "; choose a place that you may read and write"
        elif error.errno in (errno.ENOSPC, errno.EDQUOT):
            text += "; make room, or choose another place"
    return " ".join(text.split())


class NotedSignal:
    """Whether a signal came.

    Attributes:
        number: The signal; None: none so far.
    """

    number: int | None = None


@contextmanager
def noting_signals(tell: Callable[[int], None] | None = None) -> Iterator[NotedSignal]:
    """Lets what is going on finish: within the block, SIGINT and SIGTERM are only noted.

    Another one, seconds later, ends the program at once. Outside of the main thread, which signals
    never reach, nothing is noted.

    Args:
        tell: Called with each signal that comes.
    """
    noted = NotedSignal()
    program, since = os.getpid(), 0.0

    def note(number: int, frame: object) -> None:
        nonlocal since
        if os.getpid() != program:
            _in_a_child(number)
            return
        if noted.number is not None and time.monotonic() - since > _IMPATIENT_SECONDS:
            raise Interrupted(number)
        if noted.number is None:
            noted.number, since = number, time.monotonic()
        if tell is not None:
            tell(number)

    with _handling(note):
        yield noted


@contextmanager
def heeding_signals() -> Iterator[None]:
    """Within the block, SIGINT and SIGTERM raise :class:`Interrupted`, inside of others as well."""
    with _handling(_interrupting()):
        yield


@contextmanager
def _handling(handler: Callable[[int, object], None]) -> Iterator[None]:
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.signal(number, handler) for number in SIGNALS}
    try:
        yield
    finally:
        for number, earlier in before.items():
            signal.signal(number, earlier)


def _interrupting() -> Callable[[int, object], None]:
    program = os.getpid()

    def interrupt(number: int, frame: object) -> None:
        if os.getpid() == program:
            raise Interrupted(number)
        _in_a_child(number)

    return interrupt


def _in_a_child(number: int) -> None:
    """A forked process inherits handlers; SIGTERM is how it is ended."""
    if number == signal.SIGTERM:
        os._exit(128 + number)
