from pathlib import Path

import open_clip
import pytest
from mmengine.config import Config

from fineclip.engine import load_config

ROOT = Path(__file__).parents[3]
CONFIGS = sorted((ROOT / "configs" / "fineclip").glob("*.py"))


@pytest.fixture
def config(tmp_path):
    (tmp_path / "base.py").write_text("size = 2\nlr = 0.1\nmodel = dict(size=size, area=size**2)\n")
    (tmp_path / "child.py").write_text(
        '_base_ = "base.py"\nlr = 0.2\noptimizer = dict(lr=lr)\nnodes = [dict(name="a")]\n'
    )
    return tmp_path / "child.py"


def test_without_options(config):
    loaded = load_config(config)
    assert loaded.model == {"size": 2, "area": 4}
    assert loaded.optimizer.lr == 0.2


def test_variables_are_replaced_where_they_are_assigned(config):
    loaded = load_config(config, {"size": 3, "lr": 0.5})
    assert loaded.model == {"size": 3, "area": 9}
    assert loaded.lr == loaded.optimizer.lr == 0.5
    assert loaded.filename == str(config.resolve())


def test_dotted_keys_change_the_finished_config(config):
    loaded = load_config(config, {"model.size": 7, "nodes.0.name": "b", "model.extra": 1})
    assert loaded.model == {"size": 7, "area": 4, "extra": 1}
    assert loaded.nodes[0].name == "b"


@pytest.mark.parametrize("key", ["sise", "model.deep.er", "nodes.4.name"])
def test_unknown_keys_are_refused(config, key):
    with pytest.raises(ValueError, match=f"--cfg-options {key}"):
        load_config(config, {key: 1})


def test_missing_and_broken_files(config, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"nothing\.py does not exist"):
        load_config(tmp_path / "nothing.py")
    config.write_text("a = b\n")
    with pytest.raises(ValueError, match="cannot be evaluated"):
        load_config(config)


def test_variables_of_a_derived_config_reach_its_bases(config):
    """What is computed from them follows; dicts are fused, and the command line wins."""
    grandchild = config.parent / "grandchild.py"
    grandchild.write_text(
        '_base_ = "child.py"\nlr = 0.4\nsize = int("9") if lr > 1 else 5\nname = f"{lr}"\n'
        "side = 2 * lr\nmodel = dict(name=name)\n"
    )
    (config.parent / "base.py").write_text(
        "size = 2\nlr = ...\nside = lr\nmodel = dict(size=size, area=size**2, side=side)\n"
    )
    loaded = load_config(grandchild)
    assert loaded.model == {"size": 5, "area": 25, "side": 0.8, "name": "0.4"}
    assert loaded.optimizer.lr == 0.4
    loaded = load_config(grandchild, {"lr": 1})
    assert (loaded.model.side, loaded.model["name"], loaded.optimizer.lr) == (2, "1", 1)
    # What only mmengine can evaluate stays where it is.
    loaded = load_config(grandchild, {"lr": 2})
    assert (loaded.size, loaded.model.size) == (9, 2)


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_shipped_configs_are_consistent(path):
    """One model, one tokenizer, sizes that fit the patch; a new data root reaches every file."""
    config = load_config(path, {"data_root": "elsewhere"})
    name = config.model.clip.name
    assert name == config.model_name
    assert name in open_clip.list_models()
    if config.model.clip.pretrained:
        assert config.model.clip.pretrained in open_clip.list_pretrained_tags_by_model(name)
    train = config.train_dataloader.dataset
    assert train.tokenizer == config.val_dataloader.retrieval.dataset.tokenizer == name
    sizes = {config.image_size, train.images.transform.size}
    for loaders in (config.val_dataloader, config.test_dataloader):
        sizes |= {task.dataset.transform.size for task in loaders.values()}
    assert sizes == {config.image_size}
    assert train.images.crop_transform.size == config.crop_size
    for value in (train.source.image_root, train.source.annotations, train.source.captions):
        assert value.startswith("elsewhere/")
    assert config.train_dataloader.batch_size == config.batch_size
    assert config.train_cfg.max_epochs == config.param_scheduler.end == config.max_epochs
    # Read without load_config it names no model, where it could have named another's.
    assert Config.fromfile(path).model.clip.name is ...
