"""Signals end commands with one line, and let a step finish where that is asked for."""

import os
import signal

import pytest

from fineclip.interrupts import (
    Interrupted,
    error_line,
    heeding_signals,
    noting_signals,
    run_command,
)


@pytest.fixture(autouse=True)
def _handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_one_line_and_the_code_of_the_signal(capsys, number, code):
    assert run_command(lambda: signal.raise_signal(number)) == code
    assert capsys.readouterr().err == "interrupted\n"


def test_what_cannot_be_written_is_one_line(capsys):
    def main():
        raise OSError(28, "No space left on device", "out/epoch_1.pth")

    assert run_command(main) == 2
    line = "error: out/epoch_1.pth: No space left on device; make room, or choose another place\n"
    assert capsys.readouterr().err == line
    assert run_command(lambda: 7) == 7


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PermissionError(13, "Permission denied", "w/x"), "w/x: Permission denied; choose a place"),
        (OSError(30, "Read-only file system", "x"), "x: Read-only file system; choose a place"),
        (OSError(28, "No space left on device", "x"), "x: No space left on device; make room"),
        (FileNotFoundError(2, "No such file or directory", "x"), "x: No such file or directory"),
        (PermissionError("--out: folder x"), "--out: folder x"),
        (ValueError("two\nlines"), "two lines"),
        ("text", "text"),
    ],
)
def test_errors_in_one_line(error, line):
    assert error_line(error).startswith(line)
    assert "Errno" not in error_line(error)


def test_a_noted_signal_waits():
    done = []
    with noting_signals() as noted:
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)  # torchrun sends it again
        done.append("step")
        with pytest.raises(Interrupted), heeding_signals():
            signal.raise_signal(signal.SIGINT)
    assert done and noted.number == signal.SIGTERM


def test_forked_processes_are_left_to_the_first():
    def main():
        child = os.fork()
        if child == 0:
            signal.raise_signal(signal.SIGINT)  # the terminal's, of which it takes no notice
            signal.raise_signal(signal.SIGTERM)
            os._exit(0)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    assert run_command(main) == 143
