"""Progress: a bar in a terminal, a few plain lines elsewhere."""

import io

import pytest

from fineclip.progress import Progress, print_plan, track


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Clock:
    """Seconds that pass when the test says so."""

    def __init__(self):
        self.now = 0.0

    def __call__(self):
        return self.now


def run(seconds, total, *, done=0, stream=None, note="", unit="image"):
    """What is shown of ``total`` items that take ``seconds`` each."""
    clock, stream = Clock(), stream or io.StringIO()
    with Progress("images", unit, done=done, stream=stream, clock=clock) as progress:
        for number in range(done + 1, total + 1):
            clock.now += seconds
            progress.show(number, total, note)
    return stream.getvalue()


def test_five_hundred_images_are_a_few_lines_in_a_pipe():
    lines = run(0.5, 500).splitlines()
    assert len(lines) == 10
    assert lines[0] == "images: 50 of 500 images, 03:45 left"
    assert lines[-1] == "images: 500 of 500 images, 00:00 left"


def test_what_is_soon_done_says_nothing_in_a_pipe():
    assert run(0.01, 500) == ""


def test_slow_work_is_heard_of():
    lines = run(60, 1000, note="loss 1.2").splitlines()
    assert len(lines) == 100
    assert lines[0] == "images: 10 of 1000 images, 16:30:00 left, loss 1.2"


def test_a_resumed_run_reckons_with_its_own_steps():
    (line, *_) = run(2, 100, done=90).splitlines()
    assert line == "images: 100 of 100 images, 00:00 left"


def test_batches_are_no_batchs():
    assert run(20, 1, unit="batch") == "images: 1 of 1 batches, 00:00 left\n"


def test_a_terminal_gets_one_bar_with_the_time_left():
    clock, stream = Clock(), Terminal()
    with Progress("images", "image", stream=stream, clock=clock) as progress:
        for number in range(1, 31):
            clock.now += 60
            progress.show(number, 40, "loss 3")
        progress._bar.refresh()  # which tqdm does twice a second
    text = stream.getvalue()
    assert "\n" not in text
    assert "30/40 [" in text and "<" in text and "loss 3" in text


def test_it_starts_anew_when_less_is_done():
    clock, stream = Clock(), io.StringIO()
    progress = Progress("shards", "image", stream=stream, clock=clock)
    for number in (40, 50, 20, 40):
        clock.now += 20
        progress.show(number, 50)
    left = [line.split(", ")[1] for line in stream.getvalue().splitlines()]
    assert left == ["00:05 left", "00:00 left", "00:05 left"]


def test_tracking_yields_the_items(capsys):
    assert list(track("abc", "letters", "letter")) == ["a", "b", "c"]
    assert capsys.readouterr().err == ""


def test_nothing_is_shown_where_it_is_disabled():
    stream = Terminal()
    Progress("images", "image", disable=True, stream=stream).show(1, 2)
    assert stream.getvalue() == ""


def test_a_plan_is_aligned(capsys):
    print_plan({"model": "a", "objectives": "b"})
    assert capsys.readouterr().out == "model       a\nobjectives  b\n"


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_errors_leave_no_bar(error):
    stream = Terminal()
    with pytest.raises(error), Progress("images", "image", stream=stream) as progress:
        progress.show(1, 2)
        raise error
    assert progress._bar is None
