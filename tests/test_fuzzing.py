"""The readers of the commands end in no traceback, whatever they are given."""

import json
import runpy
import sys
from contextlib import contextmanager
from pathlib import Path

from fuzzing import Case, Kind, make_kinds, run

ROOT = Path(__file__).parents[1]


def test_no_reader_ends_in_a_traceback(tmp_path):
    kinds = make_kinds(tmp_path)
    report = run(kinds, seed=0, inputs=8 * len(kinds)).as_json()
    for outcome in ("traceback", "hang", "silently_changed"):
        assert report["examples"][outcome] == []
    assert report["inputs"] == 8 * len(kinds)
    assert report["clear_error"] and report["read"]
    # A value may be wrong in the light of two keys.
    assert report["examples"]["error_without_file"] == []


def test_how_a_case_ends_is_told_apart():
    def fails(error):
        def read():
            raise error

        return read

    def spins():
        while True:
            pass

    cases = [
        Case("a", fails(KeyError("x")), ("f",)),
        Case("b", spins, ("f",)),
        Case("c", fails(ValueError("f is bad")), ("f",)),
        Case("d", fails(ValueError("bad")), ("f",)),
        Case("e", lambda: 1, ("f",)),
        Case("g", lambda: 1, ("f",), same=1),
        Case("h", lambda: 2, ("f",), same=1),
    ]
    left = iter(cases)

    @contextmanager
    def draw(rng):
        yield next(left)

    report = run({"kind": Kind(draw)}, 0, inputs=len(cases), limit=0.2).as_json()
    counts = {key: value for key, value in report.items() if isinstance(value, int)}
    assert counts == {
        "inputs": 7,
        "traceback": 1,
        "hang": 1,
        "clear_error": 2,
        "error_without_file": 1,
        "read": 3,
        "silently_changed": 1,
    }
    assert [e["what"] for e in report["examples"]["silently_changed"]] == ["h"]
    assert report["examples"]["traceback"][0]["text"].startswith("KeyError: 'x' (test_fuzzing.py")


def test_command_writes_what_it_found(tmp_path, monkeypatch, capsys):
    out = tmp_path / "fuzz.json"
    # The script takes its own folder off the path, which only a process of its own has there.
    monkeypatch.setattr(sys, "path", [str(ROOT / "tests"), *sys.path])
    command = runpy.run_path(str(ROOT / "tests" / "fuzz_inputs.py"), run_name="fuzz_inputs")
    words = ["--inputs", "6", "--seed", "3", "--kinds", "shard index", "--json", str(out)]
    assert command["main"](words) == 0
    report = json.loads(out.read_text())
    assert report["inputs"] == report["clear_error"] + report["read"] == 6
    assert "shard index" in capsys.readouterr().out
