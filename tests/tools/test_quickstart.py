"""The whole experiment in a few steps: what it prints and writes, and that nothing runs twice."""

import json
import re

import pytest
from job_runs import jobs_in_process

pytest.importorskip("mmdet")
pytest.importorskip("detectron2")

SIZES = ["--images", 64, "--val-images", 4, "--pretrain-epochs", 1, "--epochs", 1]
SIZES += ["--detection-epochs", 1, "--segmentation-steps", 1]
BOXES = {"box_top1", "box_top5", "i2t_r1", "t2i_r1"}
TASKS = {
    "detection": {"novel_ap50", "base_ap50", "all_ap50"},
    "segmentation": {"miou", "macc", "novel_miou"},
}


@pytest.fixture(scope="module")
def finished(run_tool, tmp_path_factory):
    folder = tmp_path_factory.mktemp("quickstart")
    with jobs_in_process():
        done = run_tool("quickstart.py", "--work-dir", folder, *SIZES)
    assert done.returncode == 0, done.stderr
    return folder, done.stdout


def test_a_line_per_stage(finished):
    stages = [line.split(": ")[1] for line in finished[1].splitlines() if line.startswith("seed 0")]
    order = ["scenes", "clip", "clip_continued", "fineclip", "detection", "segmentation"]
    assert list(dict.fromkeys(stages)) == order


def test_says_and_keeps_the_precision(finished):
    amp = json.loads((finished[0] / "precision.json").read_text())["amp"]
    assert finished[1].startswith(f"precision: {amp or 'float32'}, the faster one here")


def test_summary(finished):
    summary = json.loads((finished[0] / "summary.json").read_text())
    spent = summary["seconds"]
    assert list(spent) == ["scenes", "clip", "clip_continued", "fineclip", *TASKS, "command"]
    assert all(seconds > 0 for seconds in spent.values())
    for run in ("clip", "clip_continued", "fineclip"):
        assert summary[run].keys() == BOXES
    for task, metrics in TASKS.items():
        assert summary[task].keys() == {"fineclip", "clip"}
        assert summary["seeds"]["0"][task] == summary[task]
        for found in summary[task].values():
            assert found.keys() == metrics
            assert all(0 <= value <= 100 for value in found.values())


def test_report(finished):
    page = (finished[0] / "report.html").read_text()
    assert f"{finished[0] / 'report.html'}" in finished[1]
    summary = json.loads((finished[0] / "summary.json").read_text())
    row = re.search('<th scope="row">box_top1</th>(.*?)</tr>', page)[1]
    values = [float(text) for text in re.findall(">([0-9.]+)</td>", row)]
    runs = ("clip", "clip_continued", "fineclip")
    assert values == pytest.approx([summary[run]["box_top1"] for run in runs], abs=0.006)
    assert "unfinished" not in page and "not recorded" not in page
    assert all(f"seed0/{task}/fineclip" in page for task in TASKS)


def test_nothing_runs_twice(run_tool, finished):
    folder, printed = finished
    spent = json.loads((folder / "summary.json").read_text())["seconds"]
    before = {file: file.stat().st_mtime_ns for file in folder.rglob("*.pth")}
    done = run_tool("quickstart.py", "--work-dir", folder, "--stages", "segmentation", *SIZES)
    assert done.returncode == 0, done.stderr
    end = str(folder / "summary.json")
    tables = [text[text.index("| model |") : text.index(end)] for text in (printed, done.stdout)]
    assert "| fineclip |" in tables[0]
    assert tables[0] == tables[1]
    assert before == {file: file.stat().st_mtime_ns for file in folder.rglob("*.pth")}
    # What is kept took the time that it took.
    again = json.loads((folder / "summary.json").read_text())["seconds"]
    assert {**again, "command": 0} == {**spent, "command": 0}


def test_a_stage_without_what_it_needs(run_tool, tmp_path):
    done = run_tool("quickstart.py", "--work-dir", tmp_path, "--stages", "detection", *SIZES)
    assert done.returncode == 2
    assert "error: stage detection needs stage fineclip with the same settings" in done.stderr
