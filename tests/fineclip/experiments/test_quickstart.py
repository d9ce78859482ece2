"""The quickstart's experiment: three trainings of a few steps, and toy tasks on top of them."""

import json
import shutil
import textwrap
from dataclasses import replace

import pytest
from job_runs import jobs_in_process

from fineclip.experiments import quickstart
from fineclip.experiments.engine import TrainingJob
from fineclip.experiments.quickstart import (
    METRICS,
    RUNS,
    DownstreamTask,
    QuickstartSettings,
    plan,
    plot_curves,
    quickstart_tables,
    run_quickstart,
    summarize_quickstart,
)

TINY = QuickstartSettings(
    images=8, val_images=4, pretrain_epochs=1, epochs=1, batch_size=4, continue_batch_size=4
)
TASK = DownstreamTask("detector", "toy_task:train", ("ap",), {"bonus": 1})


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole experiment of a few steps, made in two sittings, with the lines it reported."""
    work_dir = tmp_path_factory.mktemp("experiment")
    lines = []
    with jobs_in_process():
        run_quickstart(work_dir, settings=TINY, stages=("scenes", "clip"), report=lines.append)
        results = run_quickstart(
            work_dir, settings=TINY, stages=("clip_continued", "fineclip"), report=lines.append
        )
    return work_dir, results, lines


def logged(work_dir, run):
    (log,) = (work_dir / "seed0" / run).glob("*/vis_data/scalars.json")
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_runs_and_reports_every_stage(finished):
    _, results, lines = finished
    assert list(results["model"]) == list(RUNS)
    assert all(tuple(metrics) == METRICS for metrics in results["model"].values())
    assert [line.split(": ")[1] for line in lines if line.startswith("seed 0")] == [
        *("scenes", "clip", "clip"),
        *RUNS[1:],
    ]


def test_continuations_take_the_same_number_of_steps_with_their_own_losses(finished):
    work_dir, _, _ = finished
    continued, fineclip = logged(work_dir, "clip_continued"), logged(work_dir, "fineclip")
    last = [max(entry["step"] for entry in log) for log in (continued, fineclip)]
    assert last[0] == last[1] > 0
    assert not any("loss_region" in entry for entry in continued)
    assert any("loss_region" in entry and "loss_distill" in entry for entry in fineclip)


def test_finished_stages_are_kept(finished, monkeypatch):
    work_dir, results, _ = finished

    def fail(*args, **options):
        raise AssertionError("trained again")

    monkeypatch.setattr(TrainingJob, "start", fail)
    assert run_quickstart(work_dir, settings=TINY) == results
    with pytest.raises(AssertionError, match="trained again"):
        run_quickstart(work_dir, settings=QuickstartSettings(**{**vars(TINY), "lr": 0.5}))


def test_other_settings_train_again_from_the_start(finished, tmp_path):
    """A finished checkpoint of other settings is not an interrupted run of these."""
    work_dir = tmp_path / "copy"
    shutil.copytree(finished[0], work_dir)
    other = QuickstartSettings(**{**vars(TINY), "lr": 0.5})
    with pytest.raises(ValueError, match="fineclip needs stage clip with the same settings"):
        run_quickstart(work_dir, settings=other, stages=("fineclip",))
    with jobs_in_process():
        run_quickstart(work_dir, settings=other, stages=("clip",))
    (entry,) = [e for e in logged(work_dir, "clip") if "loss_global" in e]
    assert entry["step"] == 2
    assert entry["base_lr"] == pytest.approx(0.5 * 2 / 50)


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({}, True),
        ({"epochs": 2}, False),
        ({"pretrain_epochs": 2}, False),
        ({"val_images": 5}, False),
        ({"scenes": {"twins": 0}}, False),
    ],
)
def test_fingerprint_follows_whatever_the_training_depends_on(tmp_path, changes, same):
    def last(folder, seed=0, **changes):
        settings = QuickstartSettings(**{**vars(TINY), **changes})
        return plan(folder, seed, settings, [TASK])[-1].jobs["fineclip"].fingerprint

    assert (last(tmp_path) == last(tmp_path / "moved", **changes)) == same
    assert last(tmp_path) != last(tmp_path, seed=1)


def test_stages_in_the_wrong_order_are_explained(tmp_path):
    with pytest.raises(ValueError, match="stage clip needs stage scenes"):
        run_quickstart(tmp_path, settings=TINY, stages=("clip",))
    with pytest.raises(ValueError, match="unknown stage dance; known: scenes, clip"):
        run_quickstart(tmp_path, settings=TINY, stages=("dance",))
    with pytest.raises(ValueError, match="stage detector needs stage fineclip with the same"):
        run_quickstart(tmp_path, settings=TINY, tasks=[TASK], stages=("detector",))


def test_curves_are_drawn(finished, tmp_path):
    plot_curves(finished[0], 0, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"


def test_summary_and_tables_average_over_seeds():
    def result(value):
        return {
            "model": {run: dict.fromkeys(METRICS, value) for run in RUNS},
            "detector": {"fineclip": {"ap": value}, "clip": {"ap": 1.0}},
            "segmenter": {},
        }

    by_seed = {0: result(10.0), 1: result(20.0)}
    del by_seed[1]["detector"]["clip"]
    summary = summarize_quickstart(by_seed, {0: {"clip": 1.0}, 1: {"clip": 2.04}})
    assert summary["seconds"] == {"clip": 3.0}
    assert summary["fineclip"]["box_top1"] == 15.0
    assert summary["detector"] == {"fineclip": {"ap": 15.0}}
    assert summary["segmenter"] == {}
    assert summary["seeds"]["1"]["clip"]["i2t_r1"] == 20.0
    assert summary["seeds"]["0"]["detector"]["clip"] == {"ap": 1.0}
    models, detectors = quickstart_tables(by_seed)
    assert models.startswith("| model | box Top1 | box Top5 |")
    assert "| fineclip | 15.0 ± 7.1 |" in models
    assert detectors.splitlines() == [
        *("| detector from | ap |", "|---|---|", "| fineclip | 15.0 ± 7.1 |")
    ]
    assert "| fineclip | 10.0 |" in quickstart_tables({0: by_seed[0]})[0]


@pytest.fixture
def toy(tmp_path, monkeypatch):
    """A task's function, and CLIPs to start from that are finished at once."""
    (tmp_path / "modules").mkdir()
    (tmp_path / "modules" / "toy_task.py").write_text(
        textwrap.dedent(
            """
            from pathlib import Path

            def pretrain(work_dir, **options):
                (Path(work_dir) / "weights").write_text(Path(work_dir).name)
                metrics = dict.fromkeys(("box_top1", "box_top5", "i2t_r1", "t2i_r1"), 1.0)
                return {"metrics": metrics, "checkpoint": "weights"}

            def train(work_dir, *, data, init_checkpoint, seed, amp, bonus):
                print("trained on", data)
                if bonus < 0:
                    raise ValueError(f"no bonus for {Path(work_dir).name}")
                score = len(Path(init_checkpoint).read_text()) + bonus + seed
                return {"metrics": {"ap": score, "other": 0.0}}
            """
        )
    )
    monkeypatch.syspath_prepend(str(tmp_path / "modules"))
    monkeypatch.setattr(
        quickstart,
        "TrainingJob",
        lambda folder, function, *rest, **facts: TrainingJob(
            folder,
            function.replace("fineclip.experiments.training:train", "toy_task:pretrain"),
            *rest,
            **facts,
        ),
    )
    work_dir = tmp_path / "work"
    with jobs_in_process():
        run_quickstart(work_dir, seed=3, settings=TINY)

    def run(task=TASK, stages=None):
        lines = []
        with jobs_in_process():
            results = run_quickstart(
                work_dir, seed=3, settings=TINY, tasks=[task], stages=stages, report=lines.append
            )
        return results["detector"], [line for line in lines if "detector" in line]

    return work_dir / "seed3", run


def test_a_task_is_trained_once_from_both(toy):
    root, run = toy
    assert run(stages=["scenes"]) == ({}, [])
    results, lines = run()
    assert results == {"fineclip": {"ap": 8 + 1 + 3}, "clip": {"ap": 14 + 1 + 3}}
    assert lines[0].startswith("training detector/fineclip, detector/clip, 2 at a time (logs: ")
    assert lines[2].startswith("seed 3: detector: clip: ap 18.0 (")
    again, lines = run()
    assert again == results and len(lines) == 2
    assert f"trained on {root / 'scenes'}" in (root / "detector" / "clip" / "log.txt").read_text()


def test_a_task_of_other_settings_is_trained_again(toy, tmp_path):
    _, run = toy
    file = tmp_path / "config.py"
    task = DownstreamTask("detector", "toy_task:train", ("ap",), {"bonus": 1}, (file,))
    for content, lines in (("a", 3), ("a", 2), ("b", 3)):
        file.write_text(content)
        assert len(run(task)[1]) == lines
    assert run()[0]["clip"] == {"ap": 18}


@pytest.mark.parametrize("amp", ["bf16", None])
def test_all_trainings_have_one_precision(tmp_path, amp):
    stages = plan(tmp_path, 0, replace(TINY, amp=amp), [TASK])
    assert [job.arguments["amp"] for stage in stages for job in stage.jobs.values()] == [amp] * 5


def test_failures_are_named(toy):
    root, run = toy
    with pytest.raises(ValueError, match="failed: no bonus for fineclip") as error:
        run(DownstreamTask("detector", "toy_task:train", ("ap",), {"bonus": -1}))
    assert f"training in {root / 'detector' / 'clip'} failed: no bonus for clip" in str(error.value)
    assert str(root / "detector" / "clip" / "log.txt") in str(error.value)
