"""Jobs: run once, side by side, each by itself, continued where they were interrupted."""

import json
import os
import textwrap
from types import SimpleNamespace

import pytest
from job_runs import jobs_in_process

from fineclip.experiments import engine
from fineclip.experiments.engine import (
    TrainingJob,
    by_name,
    run_side_by_side,
    unfinished,
)


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A function that a process of its own can import as well."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "toy_training.py").write_text(
        textwrap.dedent(
            """
            import sys
            import time
            from pathlib import Path

            def train(work_dir, *, value, wait_for=None, **others):
                calls = Path(work_dir) / "calls"
                calls.write_text(calls.read_text() + "x" if calls.exists() else "x")
                print("trained on", value)
                print("a bar", file=sys.stderr)
                while wait_for and not (Path(work_dir) / wait_for).exists():
                    time.sleep(0.01)
                if value < 0:
                    raise ValueError("value must not be negative")
                if value == 13:
                    raise RuntimeError("bad luck")
                (Path(work_dir) / "weights").write_text(str(value))
                return {"metrics": {"value": value}, "checkpoint": "weights"}
            """
        )
    )
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'modules'}:{os.environ.get('PYTHONPATH', '')}")
    return tmp_path / "work"


def job(folder, value=1, **arguments):
    return TrainingJob(folder, "toy_training:train", {"value": value, **arguments})


def run(*jobs, **options):
    return [ended for ended, _ in run_side_by_side(jobs, **options)]


def test_processes_side_by_side_end_by_themselves(toy, capfd):
    """Each waits for the other; the failure of one does not keep the other from its last words."""
    first = job(toy / "a", 1, wait_for="../b/calls")
    second = job(toy / "b", -1, wait_for="../a/weights")
    assert sorted(ended.folder.name for ended in run(first, second, workers=2, show=True)) == [
        *("a", "b")
    ]
    assert first.result()["metrics"] == {"value": 1}
    assert first.result()["seconds"] > 0
    assert first.result()["peak_memory_bytes"] > 1e6
    assert first.checkpoint().read_text() == "1"
    assert second.result() is None
    assert second.last_words() == "value must not be negative"
    # The bar of the first is shown; that of the second, which was not shown, is in its log.
    assert capfd.readouterr().err == "a bar\n"
    assert (toy / "a" / "log.txt").read_text() == "trained on 1\n"
    assert "a bar\n" in (toy / "b" / "log.txt").read_text()


def test_finished_jobs_are_kept_and_others_start_afresh(toy):
    with jobs_in_process():
        assert len(run(job(toy / "a"))) == 1
        assert run(job(toy / "a")) == []
        assert (toy / "a" / "calls").read_text() == "x"
        changed = job(toy / "a", 2)
        assert changed.result() is None
        run(changed)
        assert (toy / "a" / "calls").read_text() == "x"
        assert changed.checkpoint().read_text() == "2"
        # An interrupted one continues in what it left.
        (toy / "a" / "result.json").unlink()
        run(changed)
        assert (toy / "a" / "calls").read_text() == "xx"


def test_lost_weights_are_made_again_from_the_start(toy):
    first = job(toy / "a")
    with jobs_in_process():
        run(first)
        (toy / "a" / "weights").unlink()
        assert run(first) == []  # the result is still there
        second = job(toy / "b", start=first)
        assert run(second) == [first, second]
    assert (toy / "a" / "calls").read_text() == "x"


def test_a_failed_job_stops_only_what_needs_it(toy):
    failing, fine = job(toy / "a", -1), job(toy / "b")
    jobs = [job(toy / "c", start=failing), job(toy / "d", start=fine)]
    with jobs_in_process():
        ended = run(*jobs)
    assert [other.folder.name for other in ended] == ["a", "b", "d"]
    assert not (toy / "c").exists()
    started = json.loads((toy / "d" / "job.json").read_text())["arguments"]["start"]
    assert started == str(toy / "b" / "weights")


def test_last_words(toy):
    unlucky = job(toy / "a", 13)
    assert unlucky.last_words() == "no output"
    with jobs_in_process():
        run(unlucky)
    assert unlucky.last_words() == "RuntimeError: bad luck"
    (toy / "a" / "log.txt").write_text("error: no luck\nbye\n")
    assert unlucky.last_words() == "no luck"


def test_start_weights_come_first(toy):
    rows = []
    for seed in (0, 1):
        start = job(toy / f"{seed}" / "start")
        rows += [job(toy / f"{seed}" / name, start=start) for name in ("a", "b")]
        rows.append(job(toy / f"{seed}" / "c", options={"start": [rows[-1]]}))
    names = [f"{other.folder.parent.name} {other.folder.name}" for other in unfinished(rows)]
    assert names == ["0 start", "1 start", "0 a", "0 b", "1 a", "1 b", "0 c", "1 c"]


def test_fingerprint_knows_paths_by_name_and_jobs_by_fingerprint(toy):
    start = job(toy / "start")
    first = job(toy / "a", data=toy / "scenes", options={"start": start})
    moved = job(toy / "b", data=toy / "elsewhere" / "scenes", options={"start": job(toy / "x")})
    assert first.needs == (start,)
    assert first.fingerprint == moved.fingerprint
    assert by_name({"a": [toy / "scenes", start, 1]}) == {"a": ["scenes", start.fingerprint, 1]}
    for other in (
        job(toy / "a", data=toy / "other", options={"start": start}),
        job(toy / "a", data=toy / "scenes", options={"start": job(toy / "start", 2)}),
        job(toy / "a", data=toy / "scenes", options={"start": start}, more=1),
        TrainingJob(toy / "a", first.function, first.arguments, facts=["config"]),
        TrainingJob(toy / "a", "toy_training:other", first.arguments),
    ):
        assert other.fingerprint != first.fingerprint


class Process:
    """Ends when it has been polled twice."""

    def __init__(self, log):
        self.log, self.polls, self.terminated = log, 0, False
        log.append(self)

    def poll(self):
        self.polls += 1
        return None if self.polls < 2 else 0

    def terminate(self):
        self.terminated = True

    def wait(self):
        assert self.terminated


@pytest.fixture
def started(monkeypatch):
    """Processes in the order in which they were started, and what they were told."""
    processes, told = [], []
    monkeypatch.setattr(
        TrainingJob, "start", lambda job, **options: told.append(options) or Process(processes)
    )
    monkeypatch.setattr(engine, "_POLL_SECONDS", 0)
    return processes, told


def test_workers_take_turns_on_the_gpus(toy, started):
    jobs = [job(toy / str(number)) for number in range(5)]
    assert len(run(*jobs, workers=3, threads=2, devices=["4", "7"], show=True)) == 5
    told = started[1]
    assert [options["device"] for options in told[:3]] == ["4", "7", "4"]
    assert [options["shown"] for options in told[:3]] == [True, False, False]
    assert {options["threads"] for options in told} == {2}


def test_closing_ends_what_runs(toy, started):
    jobs = [job(toy / str(number)) for number in range(3)]
    finished = run_side_by_side(jobs, workers=2)
    next(finished)
    finished.close()
    assert [process.terminated for process in started[0]] == [False, True]


def test_environment_of_a_job(toy, monkeypatch):
    """What it is told of threads and of its GPU arrives; whatever else is there stays."""
    monkeypatch.setenv("MALLOC_MMAP_THRESHOLD_", "4096")
    told = {}
    stand_in = SimpleNamespace(DEVNULL=None, STDOUT=None)
    stand_in.Popen = lambda command, *, env, **options: told.update(env)
    monkeypatch.setattr(engine, "subprocess", stand_in)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4,5")
    job(toy / "a").start(threads=3, device="5")
    assert (told["OMP_NUM_THREADS"], told["CUDA_VISIBLE_DEVICES"]) == ("3", "5")
    assert told["PYTHONPATH"] == os.environ["PYTHONPATH"]
    # Freed memory is kept, unless somebody wants it otherwise.
    assert (told["MALLOC_MMAP_THRESHOLD_"], told["MALLOC_TRIM_THRESHOLD_"]) == ("4096", str(2**34))
    told.clear()
    job(toy / "a").start()
    assert told["CUDA_VISIBLE_DEVICES"] == "4,5"
