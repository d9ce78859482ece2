"""From a start and own data to a report: the stages, what they leave, and what is kept of them."""

import json
import re
import shlex
from pathlib import Path

import pytest
import supervision
import torch
from job_runs import jobs_in_process

from fineclip.checkpoints import read_checkpoint
from fineclip.configuration.plain import write_plain_config
from fineclip.engine import build_runner, load_config
from fineclip.scenes.own_shapes import make_own_shapes
from fineclip.work_dir import point_to

pytest.importorskip("mmdet")

ROOT = Path(__file__).parents[2]
OWN = ["crescent", "heart", "arrow", "hourglass"]
SMALL = {"image_size": 64, "channels": 16, "num_rois": 8, "batch_size": 2, "val_batch_size": 4}
OPTIONS = ["--epochs", 1, "--batch-size", 4, "--alphas", 0.5, 1]


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """Eight training and four validation pictures of four shapes."""
    folder = tmp_path_factory.mktemp("own") / "shapes"
    make_own_shapes(folder, images=8, val_images=4, seed=1, size=64)
    return folder


@pytest.fixture(scope="module")
def detector(scenes, tmp_path_factory):
    """The work dir of a detector that has learned nothing yet."""
    folder = tmp_path_factory.mktemp("start") / "fvit"
    options = {**SMALL, "data_root": str(scenes), "pretrained": None, "text_pretrained": None}
    config = load_config("configs/detection/scenes_fvit.py", options)
    runner = build_runner(config, work_dir=folder, quiet=True)
    torch.save({"state_dict": runner.model.state_dict()}, folder / "epoch_1.pth")
    write_plain_config(config, folder)
    point_to(folder / "epoch_1.pth")
    return folder


@pytest.fixture(scope="module")
def finished(run_tool, own, detector, tmp_path_factory):
    folder = tmp_path_factory.mktemp("finetuned")
    arguments = ["--data", own, "--start", detector, "--work-dir", folder, *OPTIONS]
    arguments += ["--keep", "frozen", "rehearse", "interpolate"]
    with jobs_in_process():
        done = run_tool("finetune.py", *arguments)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout, arguments


def test_a_line_per_stage(finished):
    words = [line.split(": ")[0] for line in finished[1].splitlines()]
    assert words == ["before", "training", "after", str(finished[0] / "report.html")]


def test_summary(finished):
    summary = json.loads((finished[0] / "summary.json").read_text())
    assert summary["task"] == "detection" and summary["keep"] == [
        "frozen",
        "rehearse",
        "interpolate",
    ]
    assert summary["own"]["before"].keys() == summary["own"]["after"].keys() == {"all_ap50"}
    assert {"base_ap50", "all_ap50"} <= summary["kept"]["before"].keys()
    curve = summary["alpha"]["curve"]
    assert [point["alpha"] for point in curve] == [0, 0.5, 1]
    assert summary["alpha"]["chosen"] in (0.5, 1)
    assert summary["images"] == dict.fromkeys(
        ["own choose", "own report", "kept choose", "kept report"], 2
    )
    assert {"offset", "uncalibrated", "calibrated"} == summary["calibration"].keys()


def test_the_weights_detect_old_and_new_classes(finished, run_tool, own):
    folder = finished[0]
    done = run_tool(
        *("detect.py", own / "val", "--weights", folder, "--vocabulary", "heart", "red circle"),
        *("--out", folder / "found", "--score-threshold", 0),
    )
    assert done.returncode == 0, done.stderr
    found = json.loads((folder / "found" / "detections.json").read_text())
    assert {entry["category_name"] for entry in found} <= {"heart", "red circle"} and found


def test_the_page(finished):
    page = (finished[0] / "report.html").read_text()
    for words in ("own classes: all_ap50", "Mixes of start", "asked for at once", "rehearse"):
        assert words in page


def test_nothing_runs_twice_and_what_is_lost_is_made_again(finished, run_tool):
    folder, _, arguments = finished
    stages = folder / "stages"
    results = [stages / name / "result.json" for name in ("before", "training")]
    before = [file.stat().st_mtime_ns for file in results]
    answers = json.loads((stages / "after" / "answers.json").read_text())
    # As if it had been killed between two answers.
    (stages / "after" / "answers.json").write_text(json.dumps(answers[:3]))
    (stages / "after" / "result.json").unlink()
    (folder / "summary.json").rename(folder / "first.json")
    with jobs_in_process():
        assert run_tool("finetune.py", *arguments).returncode == 0
    assert before == [file.stat().st_mtime_ns for file in results]
    assert json.loads((stages / "after" / "answers.json").read_text()) == answers
    first, second = (json.loads((folder / f).read_text()) for f in ("first.json", "summary.json"))
    assert {**first, "seconds": 0} == {**second, "seconds": 0}


def test_frozen_leaves_the_detector_as_it_is(finished, detector):
    summary = json.loads((finished[0] / "summary.json").read_text())
    assert summary["kept"]["before"] == summary["kept"]["after"] and summary["kept"]["share"] == 1
    start = read_checkpoint(detector / "epoch_1.pth")["state_dict"]
    found = read_checkpoint(finished[0] / "finetuned.pth")["state_dict"]
    learned = found.pop("roi_head.bbox_head.learned_embeddings")
    assert learned.shape[1] == len(OWN)
    assert all(
        torch.equal(value, start[name])
        for name, value in found.items()
        if not name.endswith("all_embeddings")
    )


def test_the_commands_of_the_readme(run_tool, detector, tmp_path):
    """From a YOLO folder that another tool has written to a report and pictures."""
    shapes = tmp_path / "shapes"
    make_own_shapes(shapes, images=20, val_images=1, seed=2, size=64)
    supervision.DetectionDataset.from_coco(
        str(shapes / "train"), str(shapes / "annotations" / "instances_train.json")
    ).as_yolo(*(str(tmp_path / "yolo" / name) for name in ("images", "labels", "data.yaml")))
    places = {
        "downloads/parts": tmp_path / "yolo",
        "data/parts": tmp_path / "parts",
        "work_dirs/quickstart/seed0/detection/fineclip": detector,
        "work_dirs/parts": tmp_path / "finetuned",
        "found": tmp_path / "found",
    }
    text = (ROOT / "README.md").read_text().partition("\n## Your own data\n")[2]
    block = re.search("```bash\n(.*?)```", text, re.DOTALL)[1].replace("\\\n", " ")
    commands = [shlex.split(line, comments=True) for line in block.splitlines()]
    assert len(commands) == 4
    for _, tool, *words in commands:
        for name, place in places.items():
            words = [re.sub(f"^{name}(?=/|$)", str(place), word) for word in words]
        words += OPTIONS if tool == "tools/finetune.py" else []
        with jobs_in_process():
            done = run_tool(Path(tool).name, *words)
        assert done.returncode == 0, done.stderr
    summary = json.loads((places["work_dirs/parts"] / "summary.json").read_text())
    assert summary["task"] == "detection" and summary["rehearsed"]
    assert "own classes: all_ap50" in (places["work_dirs/parts"] / "report.html").read_text()
    pictures = [file.stem.partition("_")[2] for file in sorted(places["found"].glob("*.png"))]
    images = sorted((places["data/parts"] / "test").iterdir())
    assert pictures == [file.stem for file in images] and len(images) == 2
    found = json.loads((places["found"] / "detections.json").read_text())
    assert {entry["category_name"] for entry in found} <= set(OWN)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"--start": "no/folder"}, "no/folder does not exist"),
        ({"--start": "openai"}, "--start openai: expected a work dir or a checkpoint"),
        ({"--data": "nothing.yaml"}, "nothing.yaml"),
        ({"--rehearse": "other.yaml"}, "--rehearse names data for --keep rehearse"),
        ({"--share": "1"}, "argument --share"),
    ],
)
def test_mistakes(run_tool, own, detector, tmp_path, change, message):
    options = {"--data": own, "--start": detector, "--work-dir": tmp_path / "new", **change}
    done = run_tool("finetune.py", *(word for pair in options.items() for word in pair))
    assert done.returncode == 2 and done.stderr.count("\n") == 1 and message in done.stderr
    assert not (tmp_path / "new").exists()


def test_the_table_of_means(run_tool, finished, own, detector, tmp_path):
    (tmp_path / "seed0").mkdir()
    (tmp_path / "seed0" / "plain").symlink_to(finished[0])
    done = run_tool(
        *("evaluate_finetuning.py", "--starts", detector, "--data", own),
        *("--work-dir", tmp_path, "--table"),
    )
    lines = done.stdout.splitlines()
    assert [line.split(" | ")[0].strip("| ") for line in lines[2:]] == [
        "start",
        "plain",
        "plain, mixed",
    ]
    assert "of the start's" in lines[0]
