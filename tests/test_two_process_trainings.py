"""Two gloo processes train as one does: pretraining, detection and segmentation."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

pytest.importorskip("mmdet")
pytest.importorskip("detectron2")

FILE = Path(__file__).parent / "two_processes.py"


@pytest.fixture
def command(monkeypatch):
    """The command in this process, which has imported what it needs."""
    monkeypatch.setattr(sys, "path", [str(FILE.parent), *sys.path])
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")  # it is set there, and here unset again
    spec = importlib.util.spec_from_file_location("_two_processes", FILE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.main


def test_losses_and_weights_equal_those_of_one_process(command, tmp_path, capfd):
    code = command(["--json", str(tmp_path / "out.json")])
    report = json.loads((tmp_path / "out.json").read_text())
    assert report.keys() == {"pretraining", "detection", "segmentation"}
    for training, found in report.items():
        assert 0 <= found["loss_difference"] < 1e-5, training
        assert 0 <= found["weight_difference"] < 1e-3, training
    assert code == 0
    assert capfd.readouterr().out.count("weight_difference") == 3
