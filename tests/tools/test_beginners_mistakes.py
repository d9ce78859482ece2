"""What everybody gets wrong once: exit code 2 and one line that helps, before torch is imported."""

import json
import os
import resource
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
from PIL import Image

ROOT = Path(__file__).parents[2]
SCENES = "configs/fineclip/scenes.py"
DETECTOR = "configs/detection/scenes_fvit.py"
CATSEG = "configs/segmentation/scenes_vit-ti-8.yaml"
EVALUATE = ["evaluate_clip.py", "--model", "ViT-Ti-16", "--data-root"]
CPU_SECONDS = 3

# {data}: scenes; {image}: an image; {here}: an empty folder.
MISTAKES = [
    (["train.py"], "the following arguments are required: CONFIG"),
    (["train.py", "nothing.py"], "config nothing.py does not exist"),
    (
        ["train.py", SCENES, "--work_dir", "w"],
        "there is no option --work_dir; did you mean --work-",
    ),
    (["train.py", SCENES, "--amp", "bf61"], "invalid choice: 'bf61'"),
    (["train.py", SCENES, "--log-to", "wandbb"], "invalid choice: 'wandbb'"),
    (["train_segmentation.py", "--config", CATSEG, "--log-to", "wandbb"], "choice: 'wandbb'"),
    (["train.py", SCENES, "--cfg-options", "lr"], "expected KEY=VALUE, got 'lr'"),
    (["train.py", SCENES, "--cfg-options", "batch_size=0"], "expected an integer from 1 on"),
    (["train.py", SCENES, "--cfg-options", "bach_size=8"], "did you mean batch_size?"),
    (["train.py", SCENES, "--cfg-options", "optim_wraper.optimizer.lr=1"], "mean optim_wrapper?"),
    (
        ["train.py", SCENES, "--cfg-options", "optim_wrapper.optimizer.weight_decai=1"],
        "optim_wrapper.optimizer.weight_decai: AdamW has no such argument; did you mean weight_d",
    ),
    (
        ["train.py", SCENES, "--cfg-options", "model.unlock_groups=3"],
        "model.unlock_groups: FineCLIPPretrainer has no such argument; did you mean unlocked_gro",
    ),
    (
        ["train.py", SCENES, "--cfg-options", "train_dataloader.dataset.images.transform.sise=8"],
        "images.transform.sise: ImageTransform has no such argument; did you mean size?",
    ),
    (
        ["train.py", DETECTOR, "--cfg-options", "model.backbone.out_indexes=[1]"],
        "model.backbone.out_indexes: FViTBackbone has no such argument; did you mean out_indices?",
    ),
    (["train.py", SCENES, "--cfg-options", "data_root=no"], "data_root: folder no does not exist"),
    (
        ["train.py", SCENES, "--cfg-options", "data_root={data}", "annotations=no.json"],
        "no.json does not exist",
    ),
    (
        ["train.py", SCENES, "--cfg-options", "data_root={data}", "model_name=ViT-B-61"],
        "model_name: unknown model 'ViT-B-61'; did you mean ViT-B-16?",
    ),
    (
        ["train.py", SCENES, "--cfg-options", "data_root={data}", "pretrained=no.pth"],
        "pretrained: checkpoint no.pth does not exist",
    ),
    (
        ["train.py", SCENES, "--cfg-options", "data_root={data}", "image_size=13"],
        "images.transform.size is 13, no multiple of the model's patch, 8 x 8 pixels",
    ),
    (["train.py", SCENES, "--resume", "no.pth"], "checkpoint no.pth does not exist"),
    (["train.py", SCENES, "--launcher", "pytorch"], "start with torchrun"),
    (["test.py", SCENES], "the following arguments are required: WEIGHTS"),
    (["test.py", SCENES, "{here}"], "holds no checkpoint of a training (last_checkpoint)"),
    ([*EVALUATE, "no"], "--data-root: folder no does not exist"),
    ([*EVALUATE, "{data}", "--batch-size", "0"], "--batch-size: expected an integer from 1 on"),
    ([*EVALUATE, "{data}", "--task", "retreival"], "invalid choice: 'retreival'"),
    ([*EVALUATE, "{data}", "--weights", "no.pt"], "--weights: checkpoint no.pt does not exist"),
    ([*EVALUATE, "{data}", "--vocabulary", "lvis"], "lvis_v1"),
    ([*EVALUATE, "{data}", "--out", "no/out.json"], "no does not exist"),
    (["evaluate_clip.py", "--model", "ViT-B/61", "--data-root", "."], "did you mean ViT-B-16?"),
    (["detect.py", "{image}"], "name what to look for: --vocabulary NAME..."),
    (["detect.py", "--vocabulary", "cat", "dog"], "no images: name files or folders"),
    (["detect.py", "no.jpg", "--vocabulary", "cat"], "no.jpg does not exist"),
    (["detect.py", "{image}", "--vocabulary", "cat", "--weights", "no.pth"], "no.pth does not"),
    (["detect.py", "{image}", "--vocabulary", "cat", "--score-threshold", "20"], "from 0 to 1"),
    (["detect.py", "{image}", "--vocabulary", "cat,dog"], "names stand apart, without commas"),
    (["segment.py", "{here}", "--vocabulary", "cat", "--weights", "w.pth"], "holds no images"),
    (["segment.py", "{image}", "--vocabulary-file", "cocoo"], "unknown vocabulary 'cocoo'"),
    (["segment.py", "{image}", "--vocabulary", "cat", "--device", "GPU 0"], "expected cpu, cuda"),
    (["segment.py", "{image}", "--vocabulary", "a", "--cfg-options", "A.B=1", "C"], "KEY=VALUE"),
    (["train_segmentation.py", "--config", "no.yaml"], "configuration no.yaml does not exist"),
    (["train_segmentation.py", "--config", "c.yaml", "SEED"], "has no value"),
    (
        ["train_segmentation.py", "--config", CATSEG, "SOLVER.MAX_ITRE", "9"],
        "option SOLVER.MAX_ITRE: there is no MAX_ITRE in SOLVER; did you mean MAX_ITER?",
    ),
    (
        ["train_segmentation.py", "--config", CATSEG, "SOLVER.MAX_ITER", "many"],
        "option SOLVER.MAX_ITER: expected int such as 40000, got 'many'",
    ),
    (
        ["train_segmentation.py", "--config", CATSEG, "MODEL.SEM_SEG_HEAD.CLIP_RESIDAUL", "own"],
        "did you mean CLIP_RESIDUAL?",
    ),
    (["convert_checkpoint.py", "no.pth", "out.pt", "--to", "open_clip"], "no.pth does not exist"),
    (["convert_checkpoint.py", "a.pth", "out.pt", "--to", "openclip"], "choice: 'openclip'"),
    (["build_class_embeddings.py", "coco", "o.safetensors", "--model", "ViT-B-16"], "--weights"),
    (["make_scenes.py", "{here}/s", "--images", "many"], "expected an integer from 1 on"),
    (["import_data.py", "no", "{here}/out", "--from", "yolo"], "SRC: no does not exist"),
    (["import_data.py", "{data}", "{here}/out", "--from", "yollo"], "invalid choice: 'yollo'"),
    (["check_data.py", "--annotations", "no.json"], "--annotations: no.json does not exist"),
    (["prepare.py", "ov-coc"], "invalid choice: 'ov-coc'"),
    (["ablate.py", "--config", "no.py"], "config no.py does not exist"),
    (["quickstart.py", "--stages", "clpi"], "invalid choice: 'clpi'"),
]


@pytest.fixture(scope="module")
def filled(scenes, tmp_path_factory):
    """Fills in the places of the commands."""
    here = tmp_path_factory.mktemp("beginner")
    Image.new("RGB", (8, 8)).save(here / "image.png")
    (here / "empty").mkdir()
    places = {"data": scenes, "image": here / "image.png", "here": here / "empty"}
    return lambda command: [word.format(**places) for word in command]


@pytest.fixture(scope="module")
def answers(filled):
    """Exit code, output, errors and heavy imports of all commands, in one fresh process."""
    program = textwrap.dedent(
        """
        import contextlib, io, json, runpy, sys
        answers = []
        for command in json.load(sys.stdin):
            out, err = io.StringIO(), io.StringIO()
            sys.argv = [f"tools/{command[0]}", *command[1:]]
            code = None
            with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
                try:
                    runpy.run_path(sys.argv[0], run_name="__main__")
                except SystemExit as stop:
                    code = stop.code
            heavy = sorted({"torch", "open_clip", "mmdet", "detectron2"} & sys.modules.keys())
            answers.append([code, out.getvalue(), err.getvalue(), heavy])
        json.dump(answers, sys.stdout)
        """
    )
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        input=json.dumps([filled(command) for command, _ in MISTAKES]),
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("number", range(len(MISTAKES)), ids=lambda n: " ".join(MISTAKES[n][0]))
def test_one_line_that_helps(answers, number):
    code, out, err, heavy = answers[number]
    (line,) = err.splitlines()
    assert line.startswith("error: ")
    assert MISTAKES[number][1] in line
    assert (code, out, heavy) == (2, "", [])


@pytest.mark.parametrize("start", ["train.py nothing", "train.py .*bach_size", "detect.py no.jpg"])
def test_what_it_costs(filled, start):
    """As a user calls it; the other mistakes import no more than these."""
    tool, _, word = start.partition(" ")
    word = word.removeprefix(".*")
    (command,) = [c for c, _ in MISTAKES if c[0] == tool and any(word in part for part in c[1:])]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    done = subprocess.run(
        [sys.executable, ROOT / "tools" / command[0], *filled(command)[1:]],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert done.returncode == 2 and len(done.stderr.splitlines()) == 1, done.stderr
    seconds = sum(getattr(after, k) - getattr(before, k) for k in ("ru_utime", "ru_stime"))
    assert seconds < CPU_SECONDS
