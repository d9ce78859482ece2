"""Configurations and what they name are checked before anything slow begins."""

import json
import re
import shutil

import pytest
import torch
from PIL import Image

from segmentation.data import register_datasets
from segmentation.engine import check_inputs, evaluate, load_config, summary_table
from segmentation.engine.config import prepare_for_checkpoint
from segmentation.engine.inference import evaluation_classes as classes_of
from segmentation.engine.trainer import SegmentationTrainer

_LIST = ("MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON", "voc20")


def test_unknown_keys_and_missing_files(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("VERSION: 2\nMODEL:\n  META_ARCHITECTUR: CATSeg\n")
    with pytest.raises(ValueError, match=r"c\.yaml: Non-existent.*META_ARCHITECTUR"):
        load_config(file)
    file.write_text("VERSION: 2\n")
    assert load_config(file, ["SOLVER.BASE_LR", "0.5"]).SOLVER.BASE_LR == 0.5
    with pytest.raises(ValueError, match=r"SOLVER\.LERNING"):
        load_config(file, ["SOLVER.LERNING", "1"])
    with pytest.raises(ValueError, match="pairs KEY VALUE"):
        load_config(file, ["SOLVER.BASE_LR"])
    with pytest.raises(ValueError, match=r"option SOLVER\.BASE_LR: expected float.*'fast'"):
        load_config(file, ["SOLVER.BASE_LR", "fast"])
    with pytest.raises(FileNotFoundError, match=r"nowhere\.yaml does not exist"):
        load_config(tmp_path / "nowhere.yaml")
    file.write_text("_BASE_: nowhere.yaml\n")
    with pytest.raises(FileNotFoundError, match=r"c\.yaml: its base .*nowhere\.yaml"):
        load_config(file)
    file.write_text("MODEL: [1\n")
    with pytest.raises(ValueError, match="not valid yaml"):
        load_config(file)


@pytest.mark.parametrize(
    ("key", "word", "message"),
    [
        ("SOLVER.BASE_LT", "1", "there is no BASE_LT in SOLVER; did you mean BASE_LR"),
        ("SOLVERS", "1", "there is no SOLVERS at the top; did you mean SOLVER"),
        ("SOLVER.BASE_LR.X", "1", "SOLVER.BASE_LR is a value"),
        ("OUTPUT_DIR.put", "1", "OUTPUT_DIR is a value"),
        ("SOLVER", "1", "is a section"),
        ("SOLVER.MAX_ITER", "-1", "an integer from 1 on, got -1"),
        ("SOLVER.MAX_ITER", "1.5", "expected int"),
        ("SOLVER.MAX_ITER", "None", "expected int"),
        ("SOLVER.IMS_PER_BATCH", "0", "an integer from 1 on, got 0"),
        ("SOLVER.BASE_LR", "-0.1", "a number from 0 on"),
        ("SOLVER.BASE_LR", "1e999", "a number from 0 on, got inf"),
        ("DATALOADER.NUM_WORKERS", "-2", "an integer from 0 on"),
        ("MODEL.DEVICE", "None", "text that is not empty, got None"),
        ("INPUT.MIN_SIZE_TRAIN", "32", "expected tuple"),
        ("DATASETS.TRAIN", "{[1]: 2}", "expected tuple"),
        ("TEST.SLIDING_WINDOW_CANVAS", "[640]", "a list of 2"),
    ],
)
def test_values_of_options(tmp_path, key, word, message):
    file = tmp_path / "c.yaml"
    file.write_text("VERSION: 2\n")
    with pytest.raises(ValueError, match=f"option {re.escape(key)}.*{re.escape(message)}"):
        load_config(file, [key, word])


def test_an_integer_is_a_number(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text("VERSION: 2\n")
    cfg = load_config(file, ["SOLVER.BASE_LR", "1", "DATASETS.TEST", "['a']"])
    assert cfg.SOLVER.BASE_LR == 1.0 and isinstance(cfg.SOLVER.BASE_LR, float)
    assert cfg.DATASETS.TEST == ("a",)


def test_yaml_does_not_run_code(tmp_path):
    file = tmp_path / "c.yaml"
    file.write_text(
        f'VERSION: 2\nOUTPUT_DIR: !!python/object/apply:open ["{tmp_path / "ran"}", "w"]\n'
    )
    with pytest.raises(ValueError, match="not valid yaml"):
        load_config(file)
    assert not (tmp_path / "ran").exists()


def test_device_follows_the_machine(make_config, monkeypatch):
    for available, device in ((False, "cpu"), (True, "cuda")):
        monkeypatch.setattr(torch.cuda, "is_available", lambda found=available: found)
        assert device == make_config().MODEL.DEVICE
    assert make_config("MODEL.DEVICE", "cpu").MODEL.DEVICE == "cpu"


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        (["MODEL.SEM_SEG_HEAD.TRAIN_CLASS_JSON", "voc20"], ValueError, "voc20 has 20 names.* 30"),
        (
            ["DATASETS.TEST", "('scenes_val_sem_seg',)", *_LIST],
            ValueError,
            "TEST_CLASS_JSON: voc20 has 20 names.* 42",
        ),
        (["DATASETS.TRAIN", "('nothing',)"], ValueError, "^DATASETS.TRAIN.*'nothing'.*known: "),
        (["DATASETS.TRAIN", "()"], ValueError, "DATASETS.TRAIN is empty"),
        (["DATASETS.TEST", "('ade20k_150_test_sem_seg',)"], FileNotFoundError, "ADEChallenge"),
        (["MODEL.WEIGHTS", "no/such.pth"], FileNotFoundError, "no/such.pth does not exist"),
        (["SOLVER.IMS_PER_BATCH", "3"], ValueError, "2 processes"),
    ],
)
def test_bad_inputs(make_config, options, error, message):
    with pytest.raises(error, match=message):
        check_inputs(make_config(*options), num_processes=2)


def test_evaluation_needs_weights_and_data(make_config, tmp_path):
    test = ["DATASETS.TEST", "('scenes_val_sem_seg',)"]
    with pytest.raises(ValueError, match=r"DATASETS\.TEST is empty"):
        check_inputs(make_config(), train=False)
    with pytest.raises(ValueError, match=r"set MODEL\.WEIGHTS.*--resume"):
        check_inputs(make_config(*test), train=False)
    with pytest.raises(ValueError, match="no last_checkpoint"):
        check_inputs(make_config(*test), train=False, resume=True)
    (tmp_path / "out").mkdir()
    (tmp_path / "out/last_checkpoint").write_text("model.pth")
    with pytest.raises(ValueError, match=r"names model\.pth, which does not exist"):
        check_inputs(make_config(*test), train=False, resume=True)
    (tmp_path / "out/model.pth").touch()
    check_inputs(make_config(*test), train=False, resume=True)


def test_every_data_set_has_its_own_classes(make_config):
    both = make_config(
        "DATASETS.TEST", "('scenes_val_sem_seg', 'scenes_train_base_sem_seg')", *_LIST
    )
    assert len(classes_of(both, "scenes_val_sem_seg")) == 42
    assert len(classes_of(both, "scenes_train_base_sem_seg")) == 30
    one = make_config("DATASETS.TEST", "('scenes_val_sem_seg',)", *_LIST)
    assert len(classes_of(one, "scenes_val_sem_seg")) == 20
    one.MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON = ""
    assert len(classes_of(one, "scenes_val_sem_seg")) == 42


def test_two_data_sets_in_one_evaluation(make_config, tmp_path):
    cfg = make_config(
        *("DATASETS.TEST", "('scenes_val_sem_seg', 'scenes_train_base_sem_seg')"),
        *("TEST.POOLING_SIZES", "[1, 1]"),
    )
    model = SegmentationTrainer.build_model(cfg)
    network = model.sem_seg_head.predictor.transformer
    used = []
    network.register_forward_pre_hook(lambda module, _: used.append(module.pooling_size))
    results = evaluate(cfg, model)
    assert set(used) == {(1, 1)} and network.pooling_size == (2, 2)
    assert model.training
    assert list(results) == ["scenes_val_sem_seg", "scenes_train_base_sem_seg"]
    assert json.loads((tmp_path / "out/results.json").read_text()).keys() == results.keys()
    table = summary_table(results).splitlines()
    columns = ["mIoU", "mIoU-all", "mAcc", "fwIoU", "mIoU-seen", "mIoU-unseen"]
    assert table[0].split() == ["data", "set", *columns]
    assert len(table) == 3 and table[1].split()[0] == "scenes_val_sem_seg"


@pytest.mark.parametrize(
    ("name", "source", "skipped"),
    [
        ("ViT-B/16", "", True),
        ("ViT-B/16", "openai", True),
        ("ViT-B-16", "somewhere.pt", True),
        ("EVA02-B-16", "merged2b_s8b_b131k", True),
        # The tag says that these weights have the approximate GELU, which the name does not.
        ("ViT-B-16", "openai", False),
    ],
)
def test_clip_need_not_be_read_where_a_checkpoint_holds_it(make_config, name, source, skipped):
    cfg = make_config()
    cfg.MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED = name
    cfg.MODEL.SEM_SEG_HEAD.CLIP_WEIGHTS = source
    prepare_for_checkpoint(cfg, "none.pth")
    left = "none" if skipped else source
    assert left == cfg.MODEL.SEM_SEG_HEAD.CLIP_WEIGHTS


def test_data_without_a_labelled_pixel_are_refused(make_config, registered, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(registered, copy)
    folder = copy / "scenes/annotations/semantic_train"
    try:
        register_datasets(copy)
        # The first class is novel, so nobody trains on it.
        for value, message in ((0, "no pixel of its 8 label maps"), (1, "are of one class")):
            for file in folder.glob("*.png"):
                with Image.open(file) as image:
                    size = image.size
                Image.new("L", size, value).save(file)
            with pytest.raises(ValueError, match=message):
                check_inputs(make_config())
        test = ["DATASETS.TEST", "('scenes_train_base_sem_seg',)"]
        weights = tmp_path / "w.pth"
        weights.touch()
        check_inputs(make_config(*test, "MODEL.WEIGHTS", str(weights)), train=False)
    finally:
        register_datasets(registered)
