import json
import shutil

import pytest

from fineclip import engine
from fineclip.experiments import scenes
from fineclip.experiments.scenes import RUNS, Settings, plot_curves, run_scenes, summarize, table

TINY = Settings(
    images=8, val_images=4, pretrain_epochs=1, epochs=1, batch_size=4, continue_batch_size=4
)


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A whole experiment of a few steps, made in two sittings, with the lines it reported."""
    work_dir = tmp_path_factory.mktemp("experiment")
    lines = []
    run_scenes(work_dir, settings=TINY, stages=("scenes", "clip"), report=lines.append)
    results = run_scenes(
        work_dir, settings=TINY, stages=("clip_continued", "fineclip"), report=lines.append
    )
    return work_dir, results, lines


def logged(work_dir, run):
    (log,) = (work_dir / "seed0" / run).glob("*/vis_data/scalars.json")
    return [json.loads(line) for line in log.read_text().splitlines()]


def test_runs_and_reports_every_stage(finished):
    _, results, lines = finished
    assert list(results) == list(RUNS)
    assert all(set(scenes.METRICS) <= set(metrics) for metrics in results.values())
    assert [line.split(": ")[1] for line in lines] == ["scenes", "clip", "clip", *RUNS[1:]]


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

    monkeypatch.setattr(engine, "build_runner", fail)
    assert run_scenes(work_dir, settings=TINY) == results
    with pytest.raises(AssertionError, match="trained again"):
        run_scenes(work_dir, settings=Settings(**{**vars(TINY), "lr": 0.5}))


def test_other_settings_train_again_from_the_start(finished, tmp_path):
    """A finished checkpoint of other settings is not an interrupted run of these."""
    work_dir = tmp_path / "copy"
    shutil.copytree(finished[0], work_dir)
    other = Settings(**{**vars(TINY), "lr": 0.5})
    with pytest.raises(ValueError, match="fineclip needs stage clip with the same settings"):
        run_scenes(work_dir, settings=other, stages=("fineclip",))
    run_scenes(work_dir, settings=other, stages=("clip",))
    (entry,) = [e for e in logged(work_dir, "clip") if "loss_global" in e]
    assert entry["step"] == 2
    assert entry["base_lr"] == pytest.approx(0.5 * 2 / 50)


def test_stages_in_the_wrong_order_are_explained(tmp_path):
    with pytest.raises(ValueError, match="stage clip needs stage scenes"):
        run_scenes(tmp_path, settings=TINY, stages=("clip",))
    with pytest.raises(ValueError, match="unknown stage dance; known: scenes, clip"):
        run_scenes(tmp_path, settings=TINY, stages=("dance",))


def test_curves_are_drawn(finished, tmp_path):
    plot_curves(finished[0], 0, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes()[:4] == b"\x89PNG"
    assert [file.name for file in tmp_path.iterdir()] == ["curves.png"]


def test_summary_and_table_average_over_seeds():
    def result(value):
        return {run: dict.fromkeys(scenes.METRICS, value) for run in RUNS}

    by_seed = {0: result(10.0), 1: result(20.0)}
    summary = summarize(by_seed)
    assert summary["fineclip"]["box_top1"] == 15.0
    assert summary["seeds"]["1"]["clip"]["i2t_r1"] == 20.0
    assert "| fineclip | 15.0 ± 7.1 |" in table(by_seed)
    assert "| fineclip | 10.0 |" in table({0: result(10.0)})
