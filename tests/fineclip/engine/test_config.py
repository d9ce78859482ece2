import argparse
import re
from pathlib import Path

import open_clip
import pytest
from mmengine.config import Config

from fineclip.engine import (
    OverridesAction,
    build_runner,
    load_config,
    parse_overrides,
    prepare_training,
)

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


SCENES = ROOT / "configs" / "fineclip" / "scenes.py"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("max_boxes=-1", "max_boxes: expected an integer from 1 on, got -1"),
        ("draw_by=size", "draw_by: expected 'uniform' or 'area' or 'sqrt_area', got 'size'"),
        ("num_images=-5", "num_images: expected None or an integer from 1 on, got -5"),
        ("checkpoint_steps=-1", "checkpoint_steps: expected None or an integer from 1 on"),
        ("batch_size=0", "batch_size: expected an integer from 1 on, got 0"),
        ("batch_size=2.5", "batch_size: expected an integer from 1 on, got 2.5"),
        ("batch_size=[1,2]", "batch_size: expected an integer from 1 on, got [1, 2]"),
        ("batch_size=", "batch_size: expected an integer from 1 on, got ''"),
        ("max_epochs=nan", "max_epochs: expected a finite number, got nan"),
        ("betas=0.9,nan", "betas: expected a finite number, got nan"),
        ("lr=abc", "lr: expected a number from 0 on, got 'abc'"),
        ("seed=-1", "seed: expected None or an integer from 0"),
        ("num_workers=-2", "num_workers: expected an integer from 0 on"),
        ("data_root=", "data_root: expected text that is not empty"),
        ("betas=0.9", "betas: expected a list of 2"),
        ("backend=PIL", "backend: expected 'pil' or 'tensor'"),
        ("chunk_sizes=3", "chunk_sizes: expected None or 'auto' or a dict"),
        ("model=3", "model: expected a dict"),
        ("model=clip", "model: expected a dict"),
        ("model.clip=3", "model.clip: expected a dict"),
        ("modle=3", "has no modle; did you mean model?"),
        ("model.clp.name=x", "has no model.clp; did you mean clip?"),
        ("data_root.x=1", "data_root of"),
        ("data_root.x.y=1", "data_root of"),
        ("load_from.x=1", "is None, which has no parts"),
        ("custom_hooks.7=1", "custom_hooks of"),
        ("custom_hooks.x.type=1", "is none of"),
        ("custom_hooks.\u00b2=1", "is none of"),
        ("model.clip.nmae=x", None),
        ("model.chunk_size=3", "FineCLIPPretrainer has no such argument; did you mean chunk_sizes"),
        ("model.trainable=image", "FineCLIPPretrainer expects a list of text, got 'image'"),
        ("model.local_loss=1", "expects True or False, got 1"),
        ("train_dataloader.batch_size=-3", "an integer from 1 on"),
        ("train_dataloader.num_workers=-3", "an integer from 0 on"),
        ("val_dataloader.retrieval.batch_size=0", "an integer from 1 on"),
        ("train_dataloader.dataset.regions.max_boxes=x", "BoxRegions expects an integer"),
        ("train_dataloader.dataset.regions.max_box=1", "did you mean max_boxes"),
        ("train_dataloader.dataset.images.bakend=pil", "ImageReader has no such argument"),
        ("train_dataloader.dataset.images.transform.size=x", "ImageTransform expects an integer"),
        ("train_dataloader.dataset.fields=texts", "a list of text"),
        ("val_dataloader.retrieval.dataset.splt=x", "did you mean split"),
        ("custom_hooks.0.maximum=x", "ClampLogitScaleHook expects a number"),
        ("custom_hooks.0.maximun=1", "did you mean maximum"),
        ("optim_wrapper.optimizer.lr=x", "a number from 0 on"),
        ("optim_wrapper.optimizer.lr=-1", "a number from 0 on"),
        ("train_cfg.max_epochs=-1", "an integer from 1 on"),
        ("param_scheduler.warmup_iters=-1", "an integer from 0 on"),
        ("default_hooks.checkpoint.interval=x", "an integer from -1 on"),
    ],
)
def test_values_that_make_no_sense(words, message):
    """One line that names the key; nothing was built."""
    options = parse_overrides([words])
    if message is None:  # handed on to open_clip, which may know it
        load_config(SCENES, options)
        return
    (key,) = options
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        load_config(SCENES, options)
    assert str(caught.value).startswith(f"--cfg-options {key}")
    assert "\n" not in str(caught.value)


def test_values_of_files_are_checked_as_well(tmp_path):
    file = tmp_path / "mine.py"
    file.write_text(f'_base_ = "{SCENES}"\nbatch_size = 0\n')
    with pytest.raises(ValueError, match=r"config .*mine\.py: batch_size: expected an integer"):
        load_config(file)
    with pytest.raises(ValueError, match=r"coco\.py leaves model_name, pretrained to be set"):
        load_config(SCENES.parent / "_base_" / "coco.py")
    for text, what in (("a = [1][2]", "index"), ("a = 1 / 0", "zero")):
        file.write_text(text)
        with pytest.raises(ValueError, match=f"mine.py cannot be evaluated: .*{what}"):
            load_config(file)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "image_size=13",
            "dataset.images.transform.size is 13, no multiple of the model's patch, 8",
        ),
        ("crop_size=20", "crop_transform.size is 20, no multiple"),
        ("crop_patch=4", "images.crop_patch is 4, no multiple of the model's patch, 8"),
        ("train_cfg.max_epoch=3", "train_cfg.max_epoch: ResumableEpochLoop has no such argument"),
        ("model.clip.nmae=x", "nmae"),
        ("train_cfg.type=Lop", "train_cfg.type: there is no class 'Lop'"),
    ],
)
def test_what_shows_when_it_is_built(words, message, tmp_path):
    with pytest.raises(ValueError, match=re.escape(message)) as caught:
        prepare_training(
            build_runner(load_config(SCENES, parse_overrides([words])), work_dir=tmp_path)
        )
    assert "scenes.py" in str(caught.value) or "--cfg-options" in str(caught.value)


def test_words_of_the_command_line():
    words = ["a=1", "b=1e-3", "c=None", "d=True", "e=[1,(2,x)]", "f=1,2", "g=a b=c", "h=", "i='q'"]
    assert parse_overrides(words) == {
        "a": 1,
        "b": 0.001,
        "c": None,
        "d": True,
        "e": [1, (2, "x")],
        "f": [1, 2],
        "g": "a b=c",
        "h": "",
        "i": "q",
    }
    for word, message in (
        ("lr", "expected KEY=VALUE, got 'lr'"),
        ("=3", "expected KEY=VALUE"),
        ("lr=[1,(2", "lr: brackets of"),
        ("lr=" + "[" * 5000 + "," + "]" * 5000, "lr: too many brackets"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            parse_overrides([word])


def test_malformed_words_are_bad_usage(capsys):
    parser = argparse.ArgumentParser()
    parser.add_argument("--cfg-options", nargs="+", action=OverridesAction, default={})
    args = parser.parse_args(["--cfg-options", "a=1", "--cfg-options", "b=2", "a=3"])
    assert args.cfg_options == {"a": 3, "b": 2}
    with pytest.raises(SystemExit) as stopped:
        parser.parse_args(["--cfg-options", "lr"])
    assert stopped.value.code == 2
    assert "argument --cfg-options: expected KEY=VALUE, got 'lr'" in capsys.readouterr().err
