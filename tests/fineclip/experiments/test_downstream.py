"""Trainings on top of the scenes experiment's CLIPs: run once, side by side, each by itself."""

import json
import textwrap

import pytest

from fineclip.experiments import downstream
from fineclip.experiments.downstream import Task, run_task, summarize_task, task_table
from fineclip.experiments.scenes import Settings

TASK = Task("detector", "toy_task:train", ("ap",), {"bonus": 1})


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A function that a process of its own can import, and finished CLIPs to start from."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "toy_task.py").write_text(
        textwrap.dedent(
            """
            from pathlib import Path

            def train(work_dir, *, data, init_checkpoint, seed, bonus):
                calls = Path(work_dir) / "calls"
                calls.write_text(calls.read_text() + "x" if calls.exists() else "x")
                print("trained on", data)
                if bonus < 0:
                    raise ValueError("bonus must not be negative")
                return {"ap": len(Path(init_checkpoint).read_text()) + bonus + seed, "other": 0.0}
            """
        )
    )
    monkeypatch.setenv("PYTHONPATH", str(tmp_path / "modules"))
    work_dir = tmp_path / "work"
    for run in ("fineclip", "clip_continued"):
        (work_dir / "seed3" / run).mkdir(parents=True)
        (work_dir / "seed3" / run / "weights").write_text(run)

    def finished_run(root, name, *, seed, settings):
        file = root / f"seed{seed}" / name / "weights"
        return (file, f"{name} as it is") if file.exists() else None

    monkeypatch.setattr(downstream, "finished_run", finished_run)
    return work_dir


def run(work_dir, task=TASK, **options):
    lines = []
    results = run_task(task, work_dir, seed=3, settings=Settings(), report=lines.append, **options)
    return results, lines


def test_both_are_trained_once(toy):
    assert run(toy, train=False) == ({}, [])
    results, lines = run(toy)
    assert results == {"fineclip": {"ap": 8 + 1 + 3}, "clip": {"ap": 14 + 1 + 3}}
    assert lines[0].startswith("seed 3: detector: training from fineclip and clip")
    assert "seed 3: detector: clip: ap 18.0" in lines
    again, lines = run(toy)
    assert again == results and len(lines) == 2
    for name in results:
        folder = toy / "seed3" / "detector" / name
        assert (folder / "calls").read_text() == "x"
        assert f"trained on {toy / 'seed3' / 'scenes'}" in (folder / "log.txt").read_text()


def test_interrupted_trainings_continue_and_others_start_afresh(toy):
    run(toy)
    folder = toy / "seed3" / "detector" / "clip"
    (folder / "result.json").unlink()
    run(toy)
    assert (folder / "calls").read_text() == "xx"
    other = Task("detector", "toy_task:train", ("ap",), {"bonus": 2})
    assert run(toy, other)[0]["clip"] == {"ap": 19}
    assert (folder / "calls").read_text() == "x"
    assert json.loads((folder / "job.json").read_text())["arguments"]["bonus"] == 2


def test_changed_configs_train_again(toy, tmp_path):
    file = tmp_path / "config.py"
    task = Task("detector", "toy_task:train", ("ap",), {"bonus": 1}, (file,))
    for content, expected in (("a", "x"), ("a", "x"), ("b", "x")):
        file.write_text(content)
        run(toy, task)
        assert (toy / "seed3" / "detector" / "clip" / "calls").read_text() == expected


def test_failures_are_named(toy):
    with pytest.raises(ValueError, match=r"training in .*detector/(fineclip|clip) failed with exi"):
        run(toy, Task("detector", "toy_task:train", ("ap",), {"bonus": -1}))
    log = (toy / "seed3" / "detector" / "clip" / "log.txt").read_text()
    assert "error: bonus must not be negative" in log
    (toy / "seed3" / "fineclip" / "weights").unlink()
    with pytest.raises(ValueError, match="stage detector needs stage fineclip with the same"):
        run(toy)


def test_summary_and_table():
    by_seed = {
        0: {"fineclip": {"ap": 10.0}, "clip": {"ap": 1.0}},
        1: {"fineclip": {"ap": 20.0}, "clip": {"ap": 3.0}},
    }
    assert summarize_task(by_seed) == {"fineclip": {"ap": 15.0}, "clip": {"ap": 2.0}}
    assert "| fineclip | 15.0 ± 7.1 |" in task_table(TASK, by_seed)
    assert "| clip | 1.0 |" in task_table(TASK, {0: by_seed[0]})
    assert summarize_task({0: {}}) == {}
