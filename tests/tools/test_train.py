"""tools/train.py and tools/test.py as a user runs them."""

import json
import shutil

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tool_runs import opens_with_ten_lines_and_warns_of_nothing

from fineclip.checkpoints.conversion import convert_source
from fineclip.checkpoints.source import source_from
from fineclip.models import DenseCLIP
from fineclip.run_record import read_record

COCO = "configs/fineclip/coco_vit-b-16.py"


def losses(work_dir):
    """Loss by step of the newest log."""
    log = max(work_dir.glob("*/vis_data/scalars.json"), key=lambda path: path.stat().st_mtime)
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    return {entry["step"]: entry["loss"] for entry in entries if "loss" in entry}


@pytest.fixture(scope="module")
def coco_folder(scenes, tmp_path_factory):
    """The scenes under COCO's names, without region captions and panoptic files."""
    folder = tmp_path_factory.mktemp("coco")
    (folder / "annotations").mkdir()
    for split in ("train", "val"):
        shutil.copytree(scenes / split, folder / f"{split}2017")
        for kind in ("instances", "captions"):
            shutil.copy(
                scenes / "annotations" / f"{kind}_{split}.json",
                folder / "annotations" / f"{kind}_{split}2017.json",
            )
    return folder


def options(folder):
    return [
        "--cfg-options",
        f"data_root={folder}",
        "model_name=ViT-Ti-16",
        "pretrained=None",
        "image_size=32",
        "crop_size=32",
        "batch_size=4",
        "max_epochs=2",
        "warmup_iters=2",
        "lr=1e-3",
        "num_workers=0",
        "log_interval=1",
    ]


def test_trains_resumes_to_the_same_losses_and_tests(run_tool, coco_folder, tmp_path):
    whole = tmp_path / "whole"
    done = run_tool("train.py", COCO, "--work-dir", whole, *options(coco_folder))
    assert done.returncode == 0, done.stderr[-2000:]
    assert sorted(losses(whole)) == [1, 2, 3, 4, 5, 6]
    opens_with_ten_lines_and_warns_of_nothing(done)
    assert "epoch 2 of 2: loss " in done.stdout and "evaluation: box_top1 " in done.stdout
    (log,) = whole.glob("*/*.log")
    assert "System environment" in log.read_text() and "Epoch(train)" in log.read_text()
    # Validations stand at their training steps, in a group of their own.
    events = EventAccumulator(str(next(whole.glob("*/vis_data")))).Reload()
    assert {tag.split("/")[0] for tag in events.Tags()["scalars"]} == {"train", "val"}
    assert [event.step for event in events.Scalars("train/loss")] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in events.Scalars("val/box_top1")] == [3, 6]

    done = run_tool("train.py", COCO, "--work-dir", whole, *options(coco_folder))
    assert done.returncode == 2 and "epoch_2.pth" in done.stderr
    assert "--resume" in done.stderr and "--overwrite" in done.stderr
    overwriting = [*options(coco_folder), "lr=2e-3", "max_epochs=1", "val_cfg=None"]
    overwriting += ["val_dataloader=None", "val_evaluator=None", "test_cfg=None"]
    overwriting += ["test_dataloader=None", "test_evaluator=None"]
    other = tmp_path / "other"
    shutil.copytree(whole, other)
    done = run_tool("train.py", COCO, "--work-dir", other, "--overwrite", *overwriting)
    assert done.returncode == 0, done.stderr[-2000:]
    assert [file.name for file in other.glob("*.pth")] == ["epoch_1.pth"]
    assert len(list(other.glob("*/vis_data"))) == 1

    # Cut off after the first epoch, then resumed.
    resumed = tmp_path / "resumed"
    resumed.mkdir()
    shutil.copy(whole / "epoch_1.pth", resumed)
    (resumed / "last_checkpoint").write_text(str(resumed / "epoch_1.pth"))
    done = run_tool("train.py", COCO, "--work-dir", resumed, "--resume", *options(coco_folder))
    assert done.returncode == 0, done.stderr[-2000:]
    assert losses(resumed) == {s: pytest.approx(losses(whole)[s], abs=1e-5) for s in (4, 5, 6)}
    for folder, steps in ((whole, 6), (other, 3), (resumed, 6)):
        (part,) = read_record(folder)  # an overwritten one is gone
        assert (part["config"], part["step"], part["finished"]) == ("coco_vit-b-16", steps, True)

    out = tmp_path / "metrics.json"
    done = run_tool(
        "test.py",
        COCO,
        whole,  # its last checkpoint
        "--work-dir",
        tmp_path / "test",
        "--out",
        out,
        *options(coco_folder),
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert f"start      weights of {whole / 'epoch_2.pth'}" in done.stdout
    metrics = json.loads(out.read_text())
    assert {"box_top1", "box_top5", "i2t_r1", "t2i_r1"} <= metrics.keys()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nothing.py"], "config nothing.py does not exist"),
        ([COCO, "--cfg-options", "data_rot=x"], "--cfg-options data_rot"),
        ([COCO, "--cfg-options", "model_name=ViT-B-61"], "unknown model 'ViT-B-61'"),
        (
            [COCO, "--cfg-options", "model_name=ViT-Ti-16", "pretrained=None", "data_root=nowhere"],
            "nowhere",
        ),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(run_tool, arguments, message, tmp_path):
    done = run_tool("train.py", *arguments, "--work-dir", tmp_path / "w")
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert message in line
    assert "Traceback" not in done.stderr


def test_less_data_than_a_batch_is_explained(run_tool, coco_folder, tmp_path):
    arguments = [*options(coco_folder), "batch_size=64"]
    done = run_tool("train.py", COCO, "--work-dir", tmp_path / "w", *arguments)
    assert done.returncode == 2
    assert "error: the 12 training images do not fill one batch of 64" in done.stderr


def test_amp_runs_on_cpu_and_fp16_is_refused(run_tool, coco_folder, tmp_path):
    arguments = ["--log-to", *options(coco_folder), "max_epochs=1", "num_images=4"]
    done = run_tool("train.py", COCO, "--amp", "--work-dir", tmp_path / "w", *arguments)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "precision   bfloat16" in done.stdout
    assert not list(tmp_path.glob("w/*/vis_data/events*"))  # plain --log-to: scalars.json alone
    done = run_tool("train.py", COCO, "--amp", "fp16", "--work-dir", tmp_path / "v", *arguments)
    assert done.returncode == 2
    assert "error: --amp fp16 needs a GPU" in done.stderr


@pytest.fixture(scope="module")
def weights():
    """Of the model that is trained here, under the pretrainer's names."""
    torch.manual_seed(0)
    clip = DenseCLIP.create("ViT-Ti-16").clip.state_dict()
    return {f"clip.clip.{key}": value for key, value in clip.items()}


def without_prefix(weights):
    return {key.removeprefix("clip.clip."): value for key, value in weights.items()}


def of_a_segmenter(weights):
    clip = without_prefix(weights)
    return convert_source(source_from(clip, "clip"), to="catseg").tensors, "(CAT-Seg naming)"


def of_a_clip(weights):
    return without_prefix(weights), "the weights of a CLIP are named as pretrained"


def with_40_keys_missing(weights):
    return dict(list(weights.items())[40:]), "40 missing keys: clip.clip."


def of_another_shape(weights):
    key = "clip.clip.text_projection"
    return weights | {key: weights[key][:, :9].clone()}, f"1 wrong shape: {key} (64, 9)"


def with_nan(weights):
    key = "clip.clip.visual.proj"
    return weights | {key: weights[key] * torch.nan}, "NaN or infinite values in 1 of"


@pytest.mark.parametrize("use", ["test", "resume", "load_from"])
@pytest.mark.parametrize(
    "make", [of_a_segmenter, of_a_clip, with_40_keys_missing, of_another_shape, with_nan]
)
def test_checkpoints_of_other_models(run_tool, coco_folder, weights, tmp_path, make, use):
    state, message = make(weights)
    path = tmp_path / "other.pth"
    progress = {"meta": {"epoch": 1, "iter": 3}, "message_hub": {}, "optimizer": {}}
    torch.save({**progress, "state_dict": state}, path)
    arguments = ["--work-dir", tmp_path / "w", *options(coco_folder)]
    if use == "test":
        done = run_tool("test.py", COCO, path, *arguments)
    elif use == "resume":
        done = run_tool("train.py", COCO, "--resume", path, *arguments)
    else:
        done = run_tool("train.py", COCO, *arguments, f"load_from={path}")
    assert done.returncode == 2, done.stderr
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert line.startswith(f"error: {path} ")
    assert message in line
    assert "Traceback" not in done.stderr


@pytest.mark.parametrize("content", [[1, 2], {"state_dict": 3}, {"epoch": 4}])
def test_files_that_are_no_checkpoints(run_tool, coco_folder, tmp_path, content):
    path = tmp_path / "other.pth"
    torch.save(content, path)
    done = run_tool("test.py", COCO, path, "--work-dir", tmp_path / "w", *options(coco_folder))
    assert done.returncode == 2
    assert f"error: {path} holds no state dict" in done.stderr


def test_weights_alone_are_tested_and_not_resumed(run_tool, coco_folder, weights, tmp_path):
    """Under the names that DistributedDataParallel and torch.compile leave, too."""
    path = tmp_path / "weights.pth"
    torch.save({f"module._orig_mod.{key}": value for key, value in weights.items()}, path)
    arguments = ["--work-dir", tmp_path / "w", *options(coco_folder)]
    done = run_tool("test.py", COCO, path, "--out", tmp_path / "m.json", *arguments)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "do not match" not in done.stdout + done.stderr
    done = run_tool("train.py", COCO, "--resume", path, *arguments)
    assert done.returncode == 2
    assert f"error: {path} cannot be resumed" in done.stderr


@pytest.mark.parametrize("images", [4, 12])
def test_training_on_no_usable_image_is_an_error(run_tool, coco_folder, tmp_path, images):
    root = tmp_path / "coco"
    shutil.copytree(coco_folder, root)
    for file in (root / "train2017").iterdir():
        file.write_bytes(file.read_bytes()[:300])
    arguments = [*options(root), f"num_images={images}", "num_workers=2"]
    done = run_tool("train.py", COCO, "--work-dir", tmp_path / "w", *arguments)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert str(root / "train2017") in line and "cannot be used" in line
    assert "Traceback" not in done.stderr and not list((tmp_path / "w").glob("*.pth"))
