"""tools/make_shards.py and tools/benchmark_loading.py as a user runs them."""

import json

import pytest

CONFIG = "configs/fineclip/scenes.py"


def files(scenes):
    annotations = scenes / "annotations"
    return [
        "--image-root",
        scenes / "train",
        "--annotations",
        annotations / "proposals_train.json",
        "--captions",
        annotations / "captions_train.json",
    ]


def train(run_tool, work_dir, *arguments):
    options = ["model_name=ViT-Ti-16", "image_size=32", "crop_size=32", "batch_size=4"]
    options += ["max_epochs=2", "warmup_iters=2", "log_interval=1", "checkpoint_steps=2"]
    options += ["max_boxes=2", "default_hooks.checkpoint.max_keep_ckpts=9"]
    flags = [a for a in arguments if a.startswith("--")]
    options += [a for a in arguments if not a.startswith("--")]
    done = run_tool("train.py", CONFIG, "--work-dir", work_dir, *flags, "--cfg-options", *options)
    assert done.returncode == 0, done.stderr[-2000:]
    log = max(work_dir.glob("*/vis_data/scalars.json"), key=lambda path: path.stat().st_mtime)
    entries = [json.loads(line) for line in log.read_text().splitlines()]
    return {e["step"]: (e["loss"], "data_time" in e) for e in entries if "loss" in e}


def test_shards_train_to_the_same_losses_and_resume_within_an_epoch(run_tool, scenes, tmp_path):
    captions = scenes / "annotations" / "region_captions_train.json"
    shards = tmp_path / "shards"
    done = run_tool(
        "make_shards.py",
        shards,
        *files(scenes),
        "--region-captions",
        captions,
        "--samples-per-shard",
        5,
    )
    assert done.returncode == 0, done.stderr
    assert "12 images in 3 shards" in done.stdout
    data = [f"data_root={scenes}"]
    whole = train(run_tool, tmp_path / "files", *data)
    assert sorted(whole) == [1, 2, 3, 4, 5, 6]
    assert all(timed for _, timed in whole.values())

    # Cut off in the second epoch, then resumed from shards.
    resumed = tmp_path / "resumed"
    resumed.mkdir()
    checkpoint = resumed / "iter_4.pth"
    (tmp_path / "files" / "iter_4.pth").rename(checkpoint)
    (resumed / "last_checkpoint").write_text(str(checkpoint))
    rest = train(run_tool, resumed, "--resume", *data, f"shards={shards}")
    assert rest == {step: whole[step] for step in (5, 6)}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (["--annotations", "nowhere.json"], "nowhere.json does not exist"),
        (["--samples-per-shard", 0], "--samples-per-shard: expected an integer from 1 on"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(run_tool, scenes, tmp_path, change, message):
    done = run_tool("make_shards.py", tmp_path / "s", *files(scenes), *change)
    assert done.returncode == 2
    (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
    assert message in line
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "s").exists()


def test_benchmark_of_loading(run_tool, scenes, tmp_path):
    out = tmp_path / "loading.json"
    arguments = [*files(scenes), "--size", 16, "--rounds", 1, "--images", 2, "--out", out]
    done = run_tool("benchmark_loading.py", *arguments)
    assert done.returncode == 0, done.stderr
    assert "images/s per core" in done.stdout
    assert [p["path"] for p in json.loads(out.read_text())["paths"]] == [
        "reference",
        "pil",
        "tensor",
    ]
    done = run_tool("benchmark_loading.py", *files(scenes), "--boxes", 0)
    assert done.returncode == 2
    assert "--boxes: expected an integer from 1 on" in done.stderr
