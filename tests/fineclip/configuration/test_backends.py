"""Backends of curves, chosen by a word."""

import re
from pathlib import Path

import pytest
from mmengine.visualization import vis_backend

from fineclip.configuration import backends
from fineclip.configuration.reading import read_config

SCENES = Path(__file__).parents[3] / "configs" / "fineclip" / "scenes.py"


def types(config):
    return [backend["type"] for backend in config.visualizer.vis_backends]


def test_curves_go_where_they_are_sent(monkeypatch):
    monkeypatch.setattr(backends, "find_spec", lambda package: object())
    config = read_config(SCENES)
    assert types(config) == ["LocalVisBackend", "TensorboardVisBackend"]
    backends.send_curves_to(config, ["wandb", "mlflow"])
    assert types(config) == ["LocalVisBackend", "WandbVisBackend", "MLflowVisBackend"]
    assert config.visualizer.type == "Visualizer"
    backends.send_curves_to(config, [])
    assert types(config) == ["LocalVisBackend"]


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr(backends, "find_spec", lambda package: None)
    message = "--log-to wandb: the package wandb is not installed (pip install wandb)"
    with pytest.raises(ValueError, match=re.escape(message)):
        backends.send_curves_to(read_config(SCENES), ["wandb"])


def test_every_backend_is_mmengines():
    assert all(hasattr(vis_backend, name) for name, _ in backends.BACKENDS.values())
