"""Runs of commands that are killed, continued, and compared with runs that were not.

Commands run in forks of a process that has imported everything. What a fork does with files is
counted by an audit hook, which can also kill it at one of these moments: before a file gets its
name, before one is removed, when a temporary one has just been opened.
"""

import os
import random
import shutil
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from states import differences
from tool_runs import ROOT, load_tool

from fineclip.files import sweep_leftovers
from fineclip.interrupts import run_command
from fineclip.scenes import make_scenes
from fineclip.work_dir import POINTER, WorkDirError, last_checkpoint

COUNTS = ("kills", "not_resumed", "different", "wrong_pointer", "leftovers")

_EVALUATION = ("cfg", "dataloader", "evaluator")
_TIMES_KILLED = 3  # at most, of one run
_LONGEST_DELAY = 0.005  # seconds between a moment of saving and the kill


@dataclass(frozen=True)
class Run:
    """A command, and how it is continued.

    Attributes:
        tool: File below ``tools/``.
        words: Of the command line for a folder to write to.
        again: Added to continue.
        result: What is compared, of the folder: by name, bytes or the content of a checkpoint.
    """

    tool: str
    words: Callable[[Path], Sequence[object]]
    again: tuple[str, ...]
    result: Callable[[Path], dict[str, Any]]


@dataclass(frozen=True)
class Whole:
    """What an uninterrupted run came to."""

    seconds: float
    moments: int
    result: dict[str, Any]


class Failure(Exception):
    """A run that was not killed and yet did not end well."""


# ---- What is run ---------------------------------------------------------------------------------


def make_runs(folder: Path) -> dict[str, Run]:
    """Tiny data in a folder, and a command of each kind on them."""
    scenes = folder / "scenes"
    make_scenes(scenes, images=8, val_images=2, size=64)
    os.environ["DETECTRON2_DATASETS"] = str(folder)
    maps = folder / "maps" / "ADEChallengeData2016" / "annotations" / "validation"
    maps.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for number in range(12):
        Image.fromarray(rng.integers(0, 150, (64, 64), np.uint8)).save(maps / f"{number:03d}.png")
    weights = folder / "clip.pt"
    _write_clip(weights)
    return {
        "pretraining": _training("configs/fineclip/scenes.py", scenes, ["crop_size=32"]),
        "detection": _training(
            "configs/detection/scenes_fvit.py", scenes, ["text_pretrained=None", "num_rois=8"]
        ),
        "segmentation": Run(
            "train_segmentation.py", _segmentation, ("--resume",), _content("model_final.pth")
        ),
        "shards": Run(
            "make_shards.py",
            lambda out: [
                *(out / "shards", "--image-root", scenes / "train", "--samples-per-shard", 3),
                *("--annotations", scenes / "annotations/instances_train.json"),
                *("--captions", scenes / "annotations/captions_train.json", "--overwrite"),
            ],
            (),
            _files("shards"),
        ),
        "annotation": Run(
            "annotate_regions.py",
            lambda out: [
                *(scenes / "train", out / "regions", "--coco", "--cfg-options", "shard_size=3"),
                *("--annotations", scenes / "annotations/instances_train.json"),
                *("--captions", scenes / "annotations/captions_train.json"),
            ],
            (),
            _files("regions"),
        ),
        "preparation": Run(
            "prepare.py",
            lambda out: ["ade20k-150", "--root", out, "--source", maps],
            (),
            _files("ADEChallengeData2016"),
        ),
        "conversion": Run(
            "convert_checkpoint.py",
            lambda out: [weights, out / "clip.pth", "--to", "catseg"],
            (),
            _files("."),
        ),
    }


def _training(config: str, scenes: Path, options: list[str]) -> Run:
    words = [
        *("--cfg-options", f"data_root={scenes}", "pretrained=None", "max_epochs=2"),
        *("batch_size=2", "warmup_iters=2", "checkpoint_steps=3", "image_size=64", *options),
        *(f"{part}_{what}=None" for part in ("val", "test") for what in _EVALUATION),
        "default_hooks.checkpoint.max_keep_ckpts=1",
    ]
    return Run(
        "train.py",
        lambda out: [config, "--work-dir", out, *words],
        ("--resume",),
        _content("iter_8.pth"),
    )


def _segmentation(out: Path) -> list[object]:
    options = {
        "OUTPUT_DIR": out,
        "MODEL.SEM_SEG_HEAD.CLIP_WEIGHTS": "none",
        "MODEL.SEM_SEG_HEAD.FEATURE_RESOLUTION": "[4, 4]",
        "INPUT.MIN_SIZE_TRAIN": "(32,)",
        "INPUT.SIZE_DIVISIBILITY": "32",
        "SOLVER.IMS_PER_BATCH": "2",
        "SOLVER.MAX_ITER": "8",
        "SOLVER.CHECKPOINT_PERIOD": "3",
        "DATASETS.TEST": "()",
    }
    words = [word for pair in options.items() for word in pair]
    return ["--config-file", "configs/segmentation/scenes_vit-ti-8.yaml", *words]


def _write_clip(file: Path) -> None:
    from fineclip.models import DenseCLIP

    torch.manual_seed(0)
    torch.save(DenseCLIP.create("ViT-Ti-8-scenes").clip.state_dict(), file)


def _content(last: str) -> Callable[[Path], dict[str, Any]]:
    """The last checkpoint without folders, times and commits, and which others there are."""

    def read(folder: Path) -> dict[str, Any]:
        content = torch.load(folder / last, map_location="cpu", weights_only=True)
        if "meta" in content:
            content["meta"] = {key: content["meta"][key] for key in ("epoch", "iter", "seed")}
            for name in ("cfg", "experiment_name", "mmengine_version"):
                del content["message_hub"]["runtime_info"][name]
        return {"checkpoints": sorted(file.name for file in folder.glob("*.pth")), **content}

    return read


def _files(name: str) -> Callable[[Path], dict[str, Any]]:
    def read(folder: Path) -> dict[str, Any]:
        place = folder / name
        files = sorted(file for file in place.rglob("*") if file.is_file())
        return {str(file.relative_to(place)): file.read_bytes() for file in files}

    return read


# ---- Killing -------------------------------------------------------------------------------------


def kill_runs(folder: Path, kills: int, seed: int, report: Callable[[str], None]) -> dict[str, int]:
    """Kills runs of all kinds in turn, half of them at a moment of saving.

    Args:
        folder: An empty one.
        kills: How many.
        seed: Of the moments.
        report: Called with a line for each run that went wrong.

    Returns:
        The :data:`COUNTS`, and ``by_kind``: kills by kind.
    """
    rng = random.Random(seed)
    runs = make_runs(folder)
    _import_all(runs)
    wholes: dict[str, Whole] = {}
    counts, by_kind = Counter(dict.fromkeys(COUNTS, 0)), Counter(dict.fromkeys(runs, 0))
    for number, kind in enumerate(_in_turn(runs)):
        if counts["kills"] >= kills:
            break
        run = runs[kind]
        if kind not in wholes:
            wholes[kind] = _uninterrupted(run, folder / f"{kind}-whole")
        out = folder / f"{kind}-{number}"
        left = kills - counts["kills"]
        times = min(left, rng.choice((1, 1, _TIMES_KILLED))) if left > len(runs) else 1
        try:
            done, wrong_pointers = _kill(run, out, wholes[kind], times, rng)
            counts["wrong_pointer"] += wrong_pointers
            counts["kills"] += done
            by_kind[kind] += done
            if wrong_pointers:
                report(f"{kind} {number}: a pointer led nowhere")
            _start(run, out, again=done > 0).wait()
        except Failure as error:
            counts["not_resumed"] += 1
            report(f"{kind} {number}: {error}")
            continue
        if left := sweep_leftovers(out, all_of_them=True):
            counts["leftovers"] += 1
            report(f"{kind} {number}: left {', '.join(left)}")
        if found := differences(run.result(out), wholes[kind].result):
            counts["different"] += 1
            report(f"{kind} {number}: other {', '.join(found[:3])}")
        shutil.rmtree(out)
    return {**counts, "by_kind": dict(by_kind)}


def _in_turn(runs: dict[str, Run]) -> Iterator[str]:
    while True:
        yield from runs


def _import_all(runs: dict[str, Run]) -> None:
    """So that forks need not, some of which import when they run."""
    from mmengine.runner import runner

    import segmentation.data.preparation
    import segmentation.engine.launch  # noqa: F401

    for run in runs.values():
        load_tool(run.tool)
    runner.collect_env = dict  # asks compilers for their versions
    torch.set_num_threads(1)


def _uninterrupted(run: Run, out: Path) -> Whole:
    start = time.monotonic()
    child = _start(run, out, count=True)
    child.wait()
    seconds = time.monotonic() - start
    moments = int(child.moments.read_text())
    return Whole(seconds, moments, run.result(out))


def _kill(run: Run, out: Path, whole: Whole, times: int, rng: random.Random) -> tuple[int, int]:
    """Starts a run and kills it, more than once perhaps: kills, and pointers that were wrong."""
    done = wrong = 0
    missed = False
    while done < times:
        if rng.random() < 0.5 and not missed:
            child = _start(run, out, again=done > 0)
            killed = child.kill_after(rng.uniform(0, whole.seconds))
        else:
            moment = rng.randrange(whole.moments)
            delay = rng.choice((0, rng.uniform(0, _LONGEST_DELAY)))
            child = _start(run, out, again=done > 0, moment=moment, delay=delay)
            killed = child.wait(may_be_killed=True)
        if not killed and (missed or done):
            break
        if not killed:  # it was through before: a moment of saving is never missed
            missed = True
            shutil.rmtree(out)
            continue
        done += 1
        wrong += run.again == ("--resume",) and not _pointer_is_right(out)
    return done, wrong


def _pointer_is_right(out: Path) -> bool:
    """Whether it names a whole checkpoint; there may be none yet."""
    if not (out / POINTER).exists():
        return True
    try:
        torch.load(last_checkpoint(out), map_location="cpu", weights_only=True)
    except (WorkDirError, OSError, RuntimeError):
        return False
    return True


@dataclass
class Child:
    """A fork that runs a command."""

    pid: int
    log: Path
    moments: Path

    def wait(self, *, may_be_killed: bool = False) -> bool:
        """Whether it was killed.

        Raises:
            Failure: It ended otherwise than well.
        """
        status = os.waitpid(self.pid, 0)[1]
        if may_be_killed and os.WIFSIGNALED(status):
            return True
        if status:
            code = os.waitstatus_to_exitcode(status)
            lines = self.log.read_text(errors="replace").strip().splitlines()[-3:]
            raise Failure(f"ended with {code}: {' | '.join(lines)}")
        return False

    def kill_after(self, seconds: float) -> bool:
        """Whether it still ran then."""
        time.sleep(seconds)
        os.kill(self.pid, signal.SIGKILL)  # an ended one is still there to be waited for
        return self.wait(may_be_killed=True)


def _start(
    run: Run,
    out: Path,
    *,
    again: bool = False,
    count: bool = False,
    moment: int | None = None,
    delay: float = 0,
) -> Child:
    out.mkdir(exist_ok=True)
    log, moments = out.with_suffix(".log"), out.with_suffix(".moments")
    words = [str(word) for word in run.words(out)]
    at = words.index("--work-dir") if "--work-dir" in words else 0
    words[at:at] = run.again if again else ()
    sys.stdout.flush()
    pid = os.fork()
    if pid:
        return Child(pid, log, moments)
    try:
        descriptor = os.open(log, os.O_CREAT | os.O_WRONLY | os.O_TRUNC)
        os.dup2(descriptor, 1)
        os.dup2(descriptor, 2)
        os.chdir(ROOT)
        counted = _watch(out, moment, delay)
        sys.argv = [run.tool, *words]
        code = run_command(lambda: load_tool(run.tool).main(words))
        if count:
            moments.write_text(str(counted()))
    except BaseException:
        traceback.print_exc()
        code = 1
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _watch(out: Path, moment: int | None, delay: float) -> Callable[[], int]:
    """Counts the moments at which files below a folder change, and dies at one of them."""
    seen, inside = 0, str(out)

    def watch(event: str, arguments: tuple) -> None:
        nonlocal seen
        if event not in ("os.rename", "os.remove", "open") or not arguments:
            return
        path = str(arguments[0])
        opened = event == "open"
        if not path.startswith(inside) or (opened and not path.endswith(".tmp")):
            return
        if seen == moment and delay:
            signal.setitimer(signal.ITIMER_REAL, delay)  # SIGALRM, which nothing handles
        elif seen == moment:
            os.kill(os.getpid(), signal.SIGKILL)
        seen += 1

    sys.addaudithook(watch)
    return lambda: seen
