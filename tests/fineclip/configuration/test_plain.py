import json
from pathlib import Path

import pytest
from mmengine.config import Config

from fineclip.configuration.plain import PLAIN_CONFIG, read_plain_config, write_plain_config
from fineclip.engine import load_config

CONFIGS = Path(__file__).parents[3] / "configs"
DETECTION = [pytest.param(f, id=f.stem) for f in sorted((CONFIGS / "detection").glob("*.py"))]
PRETRAINING = [pytest.param(f, id=f.stem) for f in sorted((CONFIGS / "fineclip").glob("*.py"))]


@pytest.mark.parametrize("file", [*DETECTION, *PRETRAINING])
def test_every_config_comes_back_as_it_was(file, tmp_path):
    if file.parent.name == "detection":
        pytest.importorskip("mmdet")
    config = load_config(file)
    write_plain_config(config, tmp_path)
    found = load_config(tmp_path / PLAIN_CONFIG)
    assert repr(found.to_dict()) == repr(config.to_dict())
    assert Path(found.filename).name == file.name


def test_values_come_back_as_they_were(tmp_path):
    values = {
        "a": (1, [2.5, (None,)], {"b": Path("x/y")}),
        "c": {"d": True, "e": "text", "f": float("inf"), "g": {}},
    }
    write_plain_config(Config(values), tmp_path)
    assert read_plain_config(tmp_path / PLAIN_CONFIG).to_dict() == values


def test_where_a_training_starts_is_left_out(tmp_path):
    start = {"load_from": "a.pth", "resume": True, "launcher": "pytorch", "work_dir": "w"}
    write_plain_config(Config({**start, "lr": 0.1}), tmp_path)
    found = read_plain_config(tmp_path / PLAIN_CONFIG).to_dict()
    nothing = {"load_from": None, "resume": False, "launcher": "none", "work_dir": None}
    assert found == {**nothing, "lr": 0.1}


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"a": [{"b": {1, 2}}]}, r"a\.0\.b: expected a plain value .*got set"),
        ({"a": {"b": b"x"}}, r"a\.b: expected a plain value"),
        ({"a": {3: "x"}}, r"a: 3 can be no key"),
        ({"a": {"__tuple__": []}}, r"a: '__tuple__' can be no key"),
    ],
)
def test_what_json_cannot_hold_is_refused(tmp_path, values, message):
    with pytest.raises(ValueError, match=message):
        write_plain_config(Config(values), tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "expected the plain_config.json of a training"),
        ({"model": {}}, "expected the plain_config.json of a training"),
        ({"version": 2}, "version 2 is not known"),
        ({"config": []}, "'config': expected an object"),
        ({"name": "../a"}, "'name': expected a config's name"),
        ({"config": {"filename": "x"}}, "filename is reserved"),
        ({"config": {"model": {"type": 3}}}, r"model\.type: expected a name, got 3"),
    ],
)
def test_malformed_files_are_refused(tmp_path, document, message):
    right = {"format": "fineclip-config", "version": 1, "name": "a", "config": {}}
    if isinstance(document, dict) and "model" not in document:
        document = {**right, **document}
    (tmp_path / PLAIN_CONFIG).write_text(json.dumps(document))
    with pytest.raises(ValueError, match=message):
        load_config(tmp_path / PLAIN_CONFIG)


def test_endless_brackets_are_refused(tmp_path):
    deep = "[" * 600 + "]" * 600
    text = f'{{"format": "fineclip-config", "version": 1, "name": "a", "config": {{"a": {deep}}}}}'
    (tmp_path / PLAIN_CONFIG).write_text(text)
    with pytest.raises(ValueError, match="too many brackets"):
        load_config(tmp_path / PLAIN_CONFIG)


def test_overrides_are_put_into_it(tmp_path):
    write_plain_config(load_config(CONFIGS / "fineclip" / "scenes.py"), tmp_path)
    found = load_config(tmp_path / PLAIN_CONFIG, {"train_dataloader.batch_size": 3, "lr": 0.5})
    assert found.train_dataloader.batch_size == 3 and found.lr == 0.5
    with pytest.raises(ValueError, match="--cfg-options leraning_rate"):
        load_config(tmp_path / PLAIN_CONFIG, {"leraning_rate": 1.0})
