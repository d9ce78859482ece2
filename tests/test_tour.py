"""The tour: a notebook that runs from a clone, and can be read without running it."""

import json
import re
from pathlib import Path

import nbformat
from nbclient import NotebookClient

ROOT = Path(__file__).resolve().parents[1]
TOUR = ROOT / "docs" / "tour.ipynb"


def test_it_runs_from_a_clone(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    tour = nbformat.read(TOUR, as_version=4)
    for cell in tour.cells:
        cell.pop("outputs", None)
        cell.source = cell.source.replace("val_images=40", "val_images=4")
    NotebookClient(tour, timeout=300, resources={"metadata": {"path": tmp_path}}).execute()
    answers = json.dumps([cell.outputs for cell in tour.cells if cell.cell_type == "code"])
    for said in ("wooden floor", "image/jpeg", "novel_box_top1", "mIoU"):
        assert said in answers, said


def test_it_is_short_and_shows_its_pictures():
    tour = nbformat.read(TOUR, as_version=4)
    assert TOUR.stat().st_size < 300_000
    code = [cell for cell in tour.cells if cell.cell_type == "code"]
    assert len(code) == 10
    outputs = [output for cell in code for output in cell.outputs]
    assert all(len(json.dumps(output)) < 100_000 for output in outputs)
    assert sum("image/jpeg" in output.get("data", ()) for output in outputs) >= 2
    assert not any(
        output.output_type == "error" or output.get("name") == "stderr" for output in outputs
    )


def test_its_links_lead_somewhere():
    text = "\n".join(cell.source for cell in nbformat.read(TOUR, as_version=4).cells)
    links = re.findall(r"\]\(([^)#]+)", text)
    assert links and all((TOUR.parent / link).is_file() for link in links)
