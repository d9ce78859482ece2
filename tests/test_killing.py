"""The command that kills runs sees what is wrong with commands that do not bear it."""

import itertools
from pathlib import Path
from types import SimpleNamespace

import killing
import pytest

from fineclip.files import replacing, write_atomically


def sound(words):
    """Writes two files, each once."""
    folder = Path(words[-1])
    for name in ("a", "b"):
        if not (folder / name).exists():
            write_atomically(folder / name, name)
    return 0


def appending(words):
    """Its files tell how often it was begun."""
    with (Path(words[-1]) / "starts").open("a") as file:
        file.write("x")
    return sound(words)


def sulking(words):
    """Does not go on."""
    return 1 if list(Path(words[-1]).iterdir()) else sound(words)


def untidy(words):
    """Leaves a temporary file, unless it is killed in time."""
    file = replacing(Path(words[-1]) / "c").__enter__()
    file.touch()
    return sound(words)


def use(monkeypatch, main):
    run = killing.Run("tool.py", lambda out: [out], (), killing._files("."))
    monkeypatch.setattr(killing, "make_runs", lambda folder: {"kind": run})
    monkeypatch.setattr(killing, "_import_all", lambda runs: None)
    monkeypatch.setattr(killing, "load_tool", lambda name: SimpleNamespace(main=main))
    return run


@pytest.mark.parametrize(
    ("main", "wrong"),
    [(sound, None), (appending, "different"), (sulking, "not_resumed"), (untidy, "leftovers")],
)
def test_counts(monkeypatch, tmp_path, main, wrong):
    use(monkeypatch, main)
    lines = []
    counts = killing.kill_runs(tmp_path, 6, 0, lines.append)
    assert counts["kills"] == 6 and counts["by_kind"] == {"kind": 6}
    found = {name for name in killing.COUNTS[1:] if counts[name]}
    assert wrong in found if wrong else not found, lines
    assert bool(lines) == bool(wrong)


def test_every_moment_of_saving_is_met(monkeypatch, tmp_path):
    run = use(monkeypatch, sound)
    assert killing._uninterrupted(run, tmp_path / "whole").moments == 4
    seen = []
    for moment in itertools.count():
        out = tmp_path / str(moment)
        if not killing._start(run, out, moment=moment).wait(may_be_killed=True):
            break
        seen.append(sorted(file.name.partition(".")[0] or "tmp" for file in out.iterdir()))
    assert seen == [[], ["tmp"], ["a"], ["a", "tmp"]]
