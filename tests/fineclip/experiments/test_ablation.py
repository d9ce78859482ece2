import json
import re
from pathlib import Path

import pytest

from fineclip.experiments import ablation, engine, results
from fineclip.experiments.ablation import Ablation, run_ablation
from fineclip.experiments.engine import TrainingJob, by_name
from fineclip.experiments.results import METRICS

CONFIGS = Path(__file__).parents[3] / "configs" / "ablation"
CONFIG, COCO = CONFIGS / "scenes.py", CONFIGS / "coco.py"
TINY = {
    "images": 4,
    "val_images": 2,
    "scenes.workers": 1,
    "rows": {
        "pretrained": {"config": None},
        "CLIP": {"config": "../fineclip/scenes.py", "options": {"method": "clip"}},
        "L_GC": {"config": "../fineclip/scenes.py", "options": {"method": "clip"}},
        "L_SD": {"config": "../fineclip/scenes.py", "options": {"method": "sd"}},
    },
}
NAMES = (
    *("pretrained", "CLIP", "RegionCLIP", "CLIPSelf", "L_SD", "L_GC", "L_GC+L_SD", "L_RC"),
    *("FineCLIP", "SILC", "SigLIP-FineCLIP", "SigLIP-SILC", "RegionCLIP-concepts"),
    *("FILIP", "SPARC", "PACL", "GLoRIA", "MGCA"),
)


class Process:
    """Stands in for a training: what it would write is there once it has been polled twice."""

    alive = 0
    most = 0

    def __init__(self, job, fails):
        self.job, self.fails, self.polls, self.terminated = job, fails, 0, False
        Process.alive += 1
        Process.most = max(Process.most, Process.alive)

    def poll(self):
        self.polls += 1
        if self.polls < 2:
            return None
        Process.alive -= 1
        if self.fails:
            (self.job.folder / "log.txt").write_text("error: no luck\nbye\n")
            return 2
        (self.job.folder / "epoch_1.pth").touch()
        result = {
            "metrics": dict.fromkeys(METRICS, 10.0),
            "seconds_per_epoch": 2.0,
            "peak_memory_bytes": 3_000_000,
            "checkpoint": "epoch_1.pth",
            "fingerprint": self.job.fingerprint,
        }
        (self.job.folder / "result.json").write_text(json.dumps(result))
        return 0

    def terminate(self):
        self.terminated = True

    def wait(self):
        pass


class Started:
    """What was started, and what is to go wrong."""

    def __init__(self):
        self.names, self.processes = [], []
        self.failing, self.interrupt_at = set(), set()

    def start(self, job):
        name, seed = job.folder.name, int(job.folder.parent.name.removeprefix("seed"))
        if name in self.interrupt_at:
            raise KeyboardInterrupt
        self.names.append((name, seed))
        job.folder.mkdir(parents=True, exist_ok=True)
        self.processes.append(Process(job, name in self.failing))
        return self.processes[-1]


@pytest.fixture
def started(monkeypatch):
    """Nothing is really trained, and results are not drawn again after each training."""
    Process.alive = Process.most = 0
    record = Started()
    monkeypatch.setattr(TrainingJob, "start", lambda job, **options: record.start(job))
    monkeypatch.setattr(engine, "_POLL_SECONDS", 0)
    monkeypatch.setattr(results, "plot_ablation", lambda rows, out, metrics: None)
    return record


def tiny(**changes):
    return Ablation.from_config(CONFIG, {**TINY, **changes})


@pytest.fixture(scope="module")
def planned(tmp_path_factory):
    """One row's job by seed."""
    folder = tmp_path_factory.mktemp("planned")
    return {seed: tiny().plan(folder, seed)["L_SD"] for seed in (0, 1)}


def test_shipped_config_has_the_rows_of_the_tables():
    shipped = Ablation.from_config(CONFIG)
    assert tuple(shipped.rows) == NAMES
    assert shipped.rows["pretrained"].config is None
    assert all(row.config.is_file() for row in shipped.rows.values() if row.config)
    # All continue with the same schedule; rows differ in their method alone.
    schedules = {
        json.dumps({**row.options, "method": None}, sort_keys=True) for row in shipped.rows.values()
    }
    assert len(schedules) == 1


def test_the_lean_table_is_of_one_method_and_one_start(tmp_path):
    """Rows differ in boxes and crops; the first is the release's way, the last draws on several."""
    plan = Ablation.from_config(CONFIGS / "lean.py").plan(tmp_path, seed=0)
    settings = {name: job.facts[0] for name, job in plan.items()}
    assert len({job.fingerprint for job in plan.values()}) == len(settings) == 7
    assert len({job.needs for job in plan.values()}) == 1
    assert all(found["model"] == settings["FineCLIP"]["model"] for found in settings.values())
    images = settings["FineCLIP"]["train_dataloader"]["dataset"]["images"]
    assert images["crop_transform"]["size"] == images["transform"]["size"]
    for name, found in settings.items():
        saved = [found[key] != settings["FineCLIP"][key] for key in ("crop_size", "max_boxes")]
        assert any(saved) == (name != "FineCLIP")
        assert all(saved) == (name == "crops-32-3-boxes-sqrt-area")


def test_clip_and_l_gc_are_one_training(tmp_path):
    plan = Ablation.from_config(CONFIG).plan(tmp_path, seed=0)
    assert tuple(plan) == NAMES
    assert plan["CLIP"] is plan["L_GC"]
    assert len({id(training) for training in plan.values()}) == len(NAMES) - 1
    assert len({training.fingerprint for training in plan.values()}) == len(NAMES) - 1
    assert all(job.needs == (plan["pretrained"],) for n, job in plan.items() if n != "pretrained")


@pytest.mark.parametrize(
    ("changes", "same"),
    [
        ({"workers": 1, "threads": 2}, True),
        ({"epochs": 9}, False),
        ({"pretrain_lr": 0.5}, False),
        ({"images": 5}, False),
        ({"amp": None}, False),
        ({"rows.L_SD.options": {"lr": 0.5}}, False),
        ({"rows.CLIP.options": {"lr": 0.5}}, True),
    ],
)
def test_fingerprint_follows_whatever_the_training_depends_on(planned, tmp_path, changes, same):
    other = tiny(**changes).plan(tmp_path / "elsewhere", seed=0)["L_SD"]
    assert (planned[0].fingerprint == other.fingerprint) == same


def test_fingerprint_follows_the_seed(planned):
    assert planned[0].fingerprint != planned[1].fingerprint


def test_start_weights_go_to_the_option_that_the_row_names(tmp_path):
    rows = {
        "a": {"config": "../fineclip/scenes.py", "options": {"method": "clip"}},
        "b": {
            "config": "../fineclip/scenes.py",
            "options": {"method": "clip"},
            "start": "load_from",
        },
    }
    plan = tiny(rows=rows).plan(tmp_path, seed=3)
    options = {name: job.arguments["options"] for name, job in plan.items()}
    assert {"max_epochs", "batch_size", "lr"} < options["a"].keys()
    assert (options["a"]["data_root"].name, options["a"]["seed"]) == ("scenes", 3)
    (start,) = plan["a"].needs
    assert start.folder.name == "pretraining"
    assert options["a"]["pretrained"] is start
    assert "pretrained" not in options["b"]
    assert options["b"]["load_from"] is start
    assert "pretrained" not in start.arguments["options"]


def test_runs_start_weights_first_and_reports_both_names(tmp_path, started):
    lines = []
    rows, failures = run_ablation(tiny(), tmp_path, seeds=(0, 1, 0), report=lines.append)
    assert failures == []
    assert started.names[:2] == [("pretraining", 0), ("pretraining", 1)]
    assert sorted(started.names[2:]) == [(n, s) for n in ("CLIP", "L_SD") for s in (0, 1)]
    assert Process.most == 2
    assert [row["name"] for row in rows] == ["pretrained", "CLIP", "L_GC", "L_SD"]
    assert all(row["seeds"] == [0, 1] for row in rows)
    assert json.loads((tmp_path / "results.json").read_text())["rows"] == rows
    assert any(
        re.match(r"\[\d/6\] seed 1: CLIP = L_GC: box_top1 10\.0, box_top5", x) for x in lines
    )


def test_finished_trainings_are_kept_and_changed_ones_start_afresh(tmp_path, started):
    run_ablation(tiny(), tmp_path, rows=["CLIP"])
    assert started.names == [("pretraining", 0), ("CLIP", 0)]
    del started.names[:]
    rows, _ = run_ablation(tiny(), tmp_path)
    assert started.names == [("L_SD", 0)]
    assert len(rows) == 4
    del started.names[:]
    run_ablation(tiny(**{"rows.CLIP.options": {"lr": 0.5}}), tmp_path)
    # L_GC is another training now, which CLIP's folder no longer holds.
    assert started.names == [("CLIP", 0), ("L_GC", 0)]
    del started.names[:]
    run_ablation(tiny(pretrain_epochs=7), tmp_path, rows=["L_SD"])
    assert started.names == [("pretraining", 0), ("L_SD", 0)]


def test_lost_start_weights_are_made_again_only_where_needed(tmp_path, started):
    run_ablation(tiny(), tmp_path, rows=["pretrained", "CLIP"])
    (tmp_path / "seed0" / "pretraining" / "epoch_1.pth").unlink()
    del started.names[:]
    run_ablation(tiny(), tmp_path, rows=["pretrained", "CLIP"])
    assert started.names == []
    run_ablation(tiny(), tmp_path, rows=["L_SD"])
    assert started.names == [("pretraining", 0), ("L_SD", 0)]


def test_a_failed_training_stops_only_what_needs_it(tmp_path, started):
    started.failing.add("CLIP")
    rows, failures = run_ablation(tiny(), tmp_path)
    assert [row["name"] for row in rows] == ["pretrained", "L_SD"]
    assert len(failures) == 1
    assert "CLIP = L_GC failed: no luck" in failures[0]
    assert "CLIP/log.txt" in failures[0]
    del started.names[:]
    started.failing.add("pretraining")
    rows, failures = run_ablation(tiny(), tmp_path, seeds=[1])
    assert started.names == [("pretraining", 1)]
    assert (rows, len(failures)) == ([], 1)


def test_interruption_ends_running_trainings_and_keeps_finished_ones(tmp_path, started):
    started.interrupt_at.add("L_SD")
    with pytest.raises(KeyboardInterrupt):
        run_ablation(tiny(), tmp_path)
    assert started.names == [("pretraining", 0), ("CLIP", 0)]
    assert [process.terminated for process in started.processes] == [False, True]
    kept = json.loads((tmp_path / "results.json").read_text())["rows"]
    assert [row["name"] for row in kept] == ["pretrained"]


def test_scenes_of_other_settings_are_replaced_but_foreign_files_are_not(tmp_path, started):
    run_ablation(tiny(), tmp_path, rows=["pretrained"])
    scenes = tmp_path / "seed0" / "scenes"
    assert len(list((scenes / "train").iterdir())) == 4
    run_ablation(tiny(images=5), tmp_path, rows=["pretrained"])
    assert len(list((scenes / "train").iterdir())) == 5
    foreign = tmp_path / "seed1" / "scenes"
    foreign.mkdir(parents=True)
    (foreign / "thesis.txt").touch()
    with pytest.raises(FileExistsError, match="seed1/scenes holds files that are no scenes"):
        run_ablation(tiny(), tmp_path, seeds=[1], rows=["pretrained"])
    assert (foreign / "thesis.txt").exists()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rows": {}}, "rows is empty"),
        ({"rows": {"a": {"confg": "x.py"}}}, "row 'a' must be a dict with config"),
        ({"rows": {"a/b": {"config": None}}}, "row 'a/b': its name cannot name a folder"),
        ({"workers": 0}, "workers: expected an integer from 1 on, got 0"),
        ({"threads": "2"}, "threads: expected None or an integer from 1 on, got '2'"),
        ({"refinement": None}, "key 'refinement': expected a dict, got None"),
        ({"rows": {"a": {"config": 3}}}, "row 'a': key 'config': expected None or text"),
        ({"rows": {"a": {"config": None, "train": 1}}}, "key 'train': expected True or False"),
    ],
)
def test_bad_configs_are_explained(changes, message):
    with pytest.raises(ValueError, match=message):
        Ablation.from_config(CONFIG, changes)


def test_bad_rows_are_explained(tmp_path):
    with pytest.raises(ValueError, match="unknown row SLIC; known: pretrained, CLIP, L_GC, L_SD"):
        run_ablation(tiny(), tmp_path, rows=["SLIC"])
    with pytest.raises(FileNotFoundError, match=r"nothing\.py does not exist"):
        tiny(rows={"a": {"config": "nothing.py"}}).plan(tmp_path, seed=0)
    with pytest.raises(ValueError, match="has no refinement, rows"):
        Ablation.from_config(CONFIG.parents[1] / "fineclip" / "scenes.py")
    with pytest.raises(ValueError, match="row a without config is for start weights that are"):
        Ablation.from_config(COCO, {"rows": {"a": {"config": None}}})
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("data_root = 'data'", "must set either scenes or data_root"),
        ("start = 'openai'", "must set either pretraining or start"),
    ],
)
def test_a_config_that_says_two_things(tmp_path, line, message):
    (tmp_path / "both.py").write_text(CONFIG.read_text() + line)
    with pytest.raises(ValueError, match=message):
        Ablation.from_config(tmp_path / "both.py")


def test_coco_has_the_same_rows_from_given_start_weights(tmp_path):
    shipped = Ablation.from_config(COCO, {"data_root": str(tmp_path)})
    assert tuple(shipped.rows) == NAMES
    plan = shipped.plan(tmp_path / "work", seed=0)
    assert plan["CLIP"] is plan["L_GC"]
    assert len({job.fingerprint for job in plan.values()}) == len(NAMES) - 1
    assert plan["pretrained"].function.endswith(":evaluate")
    for job in plan.values():
        assert job.needs == ()
        assert job.arguments["options"]["pretrained"] == "merged2b_s8b_b131k"
        assert by_name(job.arguments["options"])["data_root"] == str(tmp_path)
    other = Ablation.from_config(COCO, {"data_root": str(tmp_path), "start": "other.pt"})
    assert other.plan(tmp_path / "work", seed=0)["CLIP"].fingerprint != plan["CLIP"].fingerprint
    with pytest.raises(FileNotFoundError, match=r"data_root .*nowhere does not exist"):
        run_ablation(Ablation.from_config(COCO, {"data_root": "nowhere"}), tmp_path / "work")
    assert not (tmp_path / "work").exists()


def test_visible_gpus(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,1")
    assert ablation._gpus() == ["3", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    assert ablation._gpus() == []
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    monkeypatch.setattr(ablation.torch.cuda, "device_count", lambda: 2)
    assert ablation._gpus() == ["0", "1"]
