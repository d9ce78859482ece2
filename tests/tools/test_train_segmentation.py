"""A tiny CAT-Seg from training to evaluation, through the command line."""

import json
import shutil
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tool_runs import opens_with_ten_lines_and_warns_of_nothing

from fineclip.models import DenseCLIP
from fineclip.run_record import read_record

pytest.importorskip("detectron2")

from detectron2.data import DatasetCatalog, MetadataCatalog

from segmentation.data import described

ROOT = Path(__file__).parents[2]
CONFIG = ROOT / "configs/segmentation/scenes_vit-ti-8.yaml"


@pytest.fixture(scope="module", autouse=True)
def datasets(scenes):
    patch = pytest.MonkeyPatch()
    patch.setenv("DETECTRON2_DATASETS", str(scenes.parent))
    yield
    patch.undo()


def run(run_tool, out, *args, options=()):
    small = ["MODEL.SEM_SEG_HEAD.FEATURE_RESOLUTION", "[4, 4]", "INPUT.MIN_SIZE_TRAIN", "(32,)"]
    small += ["INPUT.MIN_SIZE_TEST", "32", "INPUT.SIZE_DIVISIBILITY", "32"]
    small += ["MODEL.SEM_SEG_HEAD.CLIP_WEIGHTS", "none", "SOLVER.MAX_ITER", "2"]
    return run_tool(
        "train_segmentation.py", "--config-file", CONFIG, *args, "OUTPUT_DIR", out, *small, *options
    )


def test_train_evaluate_resume(run_tool, tmp_path):
    done = run(run_tool, tmp_path / "a")
    assert done.returncode == 0, done.stderr
    assert "mIoU-unseen" in done.stdout and "red circle" in done.stdout
    opens_with_ten_lines_and_warns_of_nothing(done)
    events = EventAccumulator(str(tmp_path / "a")).Reload()
    tags = events.Tags()["scalars"]
    assert {tag.split("/")[0] for tag in tags} == {"train", "val"}
    assert {"train/total_loss", "val/scenes_val_sem_seg/mIoU"} <= set(tags)
    assert "Running with full config" in (tmp_path / "a/log.txt").read_text()
    results = json.loads((tmp_path / "a/results.json").read_text())["scenes_val_sem_seg"]
    assert {"mIoU", "mAcc", "fwIoU", "mIoU-seen"} <= results.keys()
    weights = tmp_path / "a/model_final.pth"
    # As in detectron2, and in our words with the work dir for its last checkpoint.
    done = run(run_tool, tmp_path / "c", "--eval-only", options=["MODEL.WEIGHTS", weights])
    assert done.returncode == 0, done.stderr
    done = run(run_tool, tmp_path / "b", "--eval-only", "--weights", tmp_path / "a")
    assert done.returncode == 0, done.stderr
    assert json.loads((tmp_path / "b/results.json").read_text())["scenes_val_sem_seg"] == results
    assert not (tmp_path / "b/model_final.pth").exists()
    done = run(run_tool, tmp_path / "a", "--resume", options=["SOLVER.MAX_ITER", "3"])
    assert done.returncode == 0, done.stderr
    assert "resumed at step 2" in done.stdout
    parts = read_record(tmp_path / "a")
    assert [(part["step"], part["finished"]) for part in parts] == [(2, True), (3, True)]
    assert {part["config"] for part in parts} == {"scenes_vit-ti-8"}


def test_the_reading_of_the_start_weights_goes_along(run_tool, tmp_path):
    """``auto`` becomes what FineCLIP was trained with, in all that a training leaves."""
    state = DenseCLIP.create("ViT-Ti-8-scenes").state_dict()
    settings = {"model.objectives.0.type": "SelfDistillation"}
    start = tmp_path / "epoch_5.pth"
    state = {f"clip.{key}": value for key, value in state.items()}
    torch.save({"state_dict": state, "meta": {"settings": settings}}, start)
    key = "MODEL.SEM_SEG_HEAD.CLIP_RESIDUAL"
    weights = ["MODEL.SEM_SEG_HEAD.CLIP_WEIGHTS", start, "DATASETS.TEST", "()"]
    out = tmp_path / "out"
    done = run(run_tool, out, options=[*weights, key, "auto", "SOLVER.MAX_ITER", "1"])
    assert done.returncode == 0, done.stderr
    assert "with each token's own residual" in done.stdout
    config = yaml.safe_load((out / "config.yaml").read_text())
    assert config["MODEL"]["SEM_SEG_HEAD"]["CLIP_RESIDUAL"] == "own"
    saved = torch.load(out / "model_final.pth", weights_only=True)
    assert saved["trainer"]["settings"][key] == "own"
    # Where neither a start nor a setting says it, the checkpoint does.
    options = [*weights, "MODEL.SEM_SEG_HEAD.CLIP_WEIGHTS", "none", key, "auto"]
    events = list(out.glob("events*"))
    done = run(run_tool, out, "--log-to", "--resume", options=options)
    assert done.returncode == 0, done.stderr
    assert list(out.glob("events*")) == events  # plain --log-to: metrics.json alone
    assert "settings changed since: SOLVER.MAX_ITER 1 -> 2" in done.stdout


TUTORIAL = """
import os
from detectron2.data import DatasetCatalog, MetadataCatalog

def records(split):
    folder = os.path.join({folder!r}, split)
    return [
        {{"file_name": os.path.join(folder, name), "image_id": name, "height": 32, "width": 32,
          "sem_seg_file_name": os.path.join(folder + "_labels", name[:-3] + "png")}}
        for name in sorted(os.listdir(folder))
    ]

for split in ["train", "val"]:
    DatasetCatalog.register("my_" + split, lambda split=split: records(split))
    MetadataCatalog.get("my_" + split).stuff_classes = [f"part {{k}}" for k in range(12)]
"""


@pytest.fixture
def tutorial(tmp_path):
    """A program that registers twelve classes as detectron2's tutorial does, and no more."""
    rng = np.random.default_rng(0)
    for split, number in (("train", 4), ("val", 2)):
        for name in (split, f"{split}_labels"):
            (tmp_path / name).mkdir()
        for i in range(number):
            labels = rng.integers(0, 12, (4, 4), dtype=np.uint8).repeat(8, 0).repeat(8, 1)
            Image.fromarray(labels).save(tmp_path / f"{split}_labels/{i}.png")
            Image.fromarray(labels * 20).convert("RGB").save(tmp_path / f"{split}/{i}.jpg")
    program = tmp_path / "mine.py"
    program.write_text(TUTORIAL.format(folder=str(tmp_path)))
    yield program
    forget()


def forget():
    for name in ("my_train", "my_val"):
        DatasetCatalog.pop(name, None)
        MetadataCatalog.pop(name, None)
    described._programs.clear()


def test_two_processes(run_tool, tmp_path, monkeypatch, tutorial):
    """Forked, which spares two imports of detectron2, with what a fresh process would be sent."""
    start = torch.multiprocessing.start_processes

    def forked(function, args, **options):
        function, args = ForkingPickler.loads(ForkingPickler.dumps((function, args)))

        def as_fresh(*sent):
            forget()  # nothing is registered there
            function(*sent)

        return start(as_fresh, args, **options, start_method="fork")

    monkeypatch.setattr(torch.multiprocessing, "start_processes", forked)
    out = tmp_path / "out"
    own = ["--register", tutorial]
    sets = ["DATASETS.TRAIN", "('my_train',)", "DATASETS.TEST", "('my_val',)"]
    sets += ["MODEL.SEM_SEG_HEAD.TRAIN_CLASS_JSON", "", "MODEL.DEVICE", "cpu", "TEST.AMP", "False"]
    done = run(run_tool, out, *own, "--num-gpus", "2", options=sets)
    assert done.returncode == 0, done.stderr
    results = json.loads((out / "results.json").read_text())["my_val"]
    assert {"IoU-part 0", "IoU-part 11", "mIoU"} <= results.keys()
    alone = tmp_path / "alone"
    options = [*sets, "MODEL.WEIGHTS", out / "model_final.pth"]
    done = run(run_tool, alone, *own, "--eval-only", options=options)
    assert done.returncode == 0, done.stderr
    # What two processes counted is what one counts.
    assert json.loads((alone / "results.json").read_text())["my_val"] == results
    forget()
    done = run(run_tool, tmp_path / "no", options=sets)
    assert done.returncode == 2 and "'my_train' is not registered" in done.stderr


@pytest.mark.parametrize(
    ("args", "options", "message"),
    [
        ([], ["SOLVER.NO_KEY", "1"], "NO_KEY"),
        ([], ["MODEL.SEM_SEG_HEAD.TRAIN_CLASS_JSON", "voc20"], "voc20 has 20 names"),
        ([], ["DATASETS.TRAIN", "('ade20k_150_test_sem_seg',)"], "scenes_base has 30 names"),
        ([], ["DATASETS.TEST", "('ade20k_150_test_sem_seg',)"], "ADEChallengeData2016"),
        (["--eval-only"], [], "set MODEL.WEIGHTS"),
        (["--eval-only"], ["MODEL.WEIGHTS", "no.pth"], "no.pth does not exist"),
        ([], ["MODEL.SEM_SEG_HEAD.CLIP_WEIGHTS", "no/clip.pt"], "no/clip.pt does not exist"),
        (["--log-to", "mlflow", "--num-gpus", "1"], [], "the package mlflow is not installed"),
        ([], ["LOG_TO", "['tensorbord']"], "did you mean tensorboard?"),
        (["--num-gpus", "0"], [], "--num-gpus: expected an integer from 1 on"),
    ],
)
def test_bad_input(run_tool, tmp_path, args, options, message):
    done = run(run_tool, tmp_path / "out", *args, options=options)
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and message in last
    assert not list(tmp_path.glob("out/*.pth"))


def test_missing_config(run_tool, tmp_path):
    done = run_tool("train_segmentation.py", "--config-file", tmp_path / "no.yaml")
    assert done.returncode == 2 and "no.yaml does not exist" in done.stderr


def test_a_broken_image_is_named(run_tool, tmp_path, scenes, monkeypatch):
    shutil.copytree(scenes, tmp_path / "scenes")
    broken = sorted((tmp_path / "scenes/train").iterdir())
    for file in broken:
        file.write_bytes(file.read_bytes()[:200])
    monkeypatch.setenv("DETECTRON2_DATASETS", str(tmp_path))
    done = run(run_tool, tmp_path / "out", options=["DATALOADER.NUM_WORKERS", "1"])
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and str(tmp_path / "scenes/train") in last
