"""Short trainings of all three kinds on tiny scenes, on one process and on two gloo processes."""

from __future__ import annotations

import multiprocessing
import os
import traceback
from collections.abc import Callable, Iterable
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any

import torch
import torch.distributed as dist
from detectron2.engine import HookBase
from detectron2.utils import comm
from matplotlib import pyplot
from mmengine.hooks import Hook
from tool_runs import as_a_fresh_process

import detection as detection_package
from fineclip.engine import build_runner, load_config, prepare_training
from fineclip.engine.hooks import unwrapped
from fineclip.scenes import make_scenes
from segmentation.data import register_datasets
from segmentation.engine import SegmentationTrainer, check_inputs
from segmentation.engine import load_config as load_segmentation_config

# What a run imports late is here before the processes are forked.
IMPORTED = (pyplot, detection_package)

CONFIGS = Path(__file__).parents[2] / "configs"
STEPS = 3
LIMIT = 300  # seconds
IMAGES = 4  # of a step, on all processes together
# Adam would blow rounding noise, in gradients that cancel, up to whole steps.
SGD = {"type": "SGD", "lr": 0.2, "momentum": 0.9, "weight_decay": 1e-3}


class Recorder:
    """What a training logs at each step, and the trained weights before and after it."""

    def __init__(self) -> None:
        self.losses: list[dict[str, float]] = []
        self.before: dict[str, torch.Tensor] = {}
        self.after: dict[str, torch.Tensor] = {}

    @staticmethod
    def weights(model: torch.nn.Module) -> dict[str, torch.Tensor]:
        return {name: p.detach().clone() for name, p in model.named_parameters()}


class RunnerRecorder(Hook, Recorder):
    def before_train(self, runner: Any) -> None:
        self.before = self.weights(unwrapped(runner))

    def after_train_iter(self, runner, batch_idx, data_batch=None, outputs=None) -> None:
        names = [name for name in outputs if "loss" in name]
        self.losses.append({name: float(outputs[name]) for name in names})

    def after_train(self, runner: Any) -> None:
        self.after = self.weights(unwrapped(runner))


class TrainerRecorder(HookBase, Recorder):
    def before_train(self) -> None:
        self.before = self.weights(self._model)

    def after_step(self) -> None:
        if comm.is_main_process():  # which alone knows what is logged
            self.losses.append({"total_loss": self.trainer.storage.history("total_loss").latest()})

    def after_train(self) -> None:
        self.after = self.weights(self._model)

    @property
    def _model(self) -> torch.nn.Module:
        return getattr(self.trainer.model, "module", self.trainer.model)


def pretraining(data: Path, work_dir: Path, processes: int) -> Recorder:
    """FineCLIP's three losses, both towers trained; images have different numbers of regions."""
    options = {"data_root": str(data), "batch_size": IMAGES // processes, "crop_size": 32}
    config = load_config(
        CONFIGS / "fineclip" / "scenes.py",
        {**options, "image_size": 32, "max_epochs": 1, "num_images": STEPS * IMAGES},
    )
    return _run(config, work_dir, processes)


def detection(data: Path, work_dir: Path, processes: int) -> Recorder:
    """F-ViT with masks; images differ in the numbers of anchors, proposals and masks drawn."""
    options = {"data_root": str(data), "batch_size": IMAGES // processes, "image_size": 64}
    config = load_config(
        CONFIGS / "detection" / "scenes_fvit.py",
        {
            **options,
            "pretrained": None,
            "text_pretrained": None,
            "max_epochs": 1,
            # torch's synchronised batch norm has no kernel for CPUs.
            "norm_eval": True,
            "model.train_cfg.rpn.sampler.neg_pos_ub": 3,
            "model.train_cfg.rcnn.sampler.neg_pos_ub": 3,
        },
    )
    dataset = config.train_dataloader.dataset
    dataset.indices = STEPS * IMAGES  # full batches, for any number of processes
    _add_masks(config)
    return _run(config, work_dir, processes)


def _add_masks(config: Any) -> None:
    """The mask head of the configs for OV-LVIS, which scenes have none of."""
    lvis = load_config(
        CONFIGS / "detection" / "ov-lvis_vit-b-16.py",
        {name: config[name] for name in ("model_name", "channels", "strides", "taps")},
    ).model
    for part in ("mask_roi_extractor", "mask_head"):
        config.model.roi_head[part] = lvis.roi_head[part]
    config.model.train_cfg.rcnn.mask_size = lvis.train_cfg.rcnn.mask_size
    config.model.data_preprocessor.pad_mask = True
    for step in config.train_dataloader.dataset.pipeline:
        if step.type == "LoadAnnotations":
            step.with_mask = True


def _run(config: Any, work_dir: Path, processes: int) -> Recorder:
    config.optim_wrapper.optimizer = dict(SGD)
    config.param_scheduler = None  # so few steps would be warming up
    config.val_cfg = config.val_dataloader = config.val_evaluator = None
    runner = build_runner(
        config, work_dir=work_dir, launcher="pytorch" if processes > 1 else "none"
    )
    recorder = RunnerRecorder()
    runner.register_hook(recorder)
    prepare_training(runner)
    runner.train()
    return recorder


def segmentation(data: Path, work_dir: Path, processes: int) -> Recorder:
    """CAT-Seg with CLIP's attention; ignored pixels, and some of the classes at a time."""
    register_datasets(data.parent)
    options = {
        "OUTPUT_DIR": str(work_dir),
        "DATASETS.TEST": "()",
        "MODEL.SEM_SEG_HEAD.CLIP_WEIGHTS": "none",
        "MODEL.SEM_SEG_HEAD.CLIP_FINETUNE": "attention",
        "MODEL.SEM_SEG_HEAD.FEATURE_RESOLUTION": "[4, 4]",
        "INPUT.MIN_SIZE_TRAIN": "(32,)",
        "INPUT.SIZE_DIVISIBILITY": "32",
        "SOLVER.IMS_PER_BATCH": str(IMAGES),
        "SOLVER.MAX_ITER": str(STEPS),
        "SOLVER.AMP.ENABLED": "False",
        "SOLVER.OPTIMIZER": SGD["type"],
        "SOLVER.BASE_LR": str(SGD["lr"]),
        "SOLVER.WARMUP_ITERS": "0",
        "SOLVER.CLIP_GRADIENTS.CLIP_VALUE": "0.1",
    }
    config = load_segmentation_config(
        CONFIGS / "segmentation" / "scenes_vit-ti-8.yaml",
        [word for pair in options.items() for word in pair],
    )
    check_inputs(config, num_processes=processes)
    recorder = TrainerRecorder()
    torch.manual_seed(comm.get_rank())
    trainer = SegmentationTrainer(config, [recorder])
    trainer.resume_or_load(resume=False)
    trainer.train()
    return recorder


TRAININGS = {"pretraining": pretraining, "detection": detection, "segmentation": segmentation}


def differences(folder: Path, names: list[str]) -> dict[str, dict[str, float]]:
    """Runs trainings on one process and on two, and compares them.

    Args:
        folder: Of data and results.
        names: Which of :data:`TRAININGS`.

    Returns:
        By training ``loss_difference``, the largest over steps and logged losses, relative to the
        loss on one process; and ``weight_difference``, the largest over both processes and weight
        tensors, root mean square, relative to how far the training on one process moved the tensor,
        or to a thousandth of the farthest if that is more.

    Raises:
        RuntimeError: A process failed, or all hang.
    """
    make_scenes(folder / "scenes", images=2 * STEPS * IMAGES, val_images=1, size=64)
    # Forked, so that the libraries are imported once.
    context = multiprocessing.get_context("fork")
    places = [(0, 1), (0, 2), (1, 2)]
    workers = [context.Process(target=_work, args=(folder, names, *place)) for place in places]
    for worker in workers:
        worker.start()
    waiting = {worker.sentinel for worker in workers}
    while waiting:
        ended = set(wait(waiting, timeout=LIMIT))
        waiting -= ended
        if not ended or any(worker.exitcode for worker in workers):
            for worker in workers:  # one would wait for the other
                worker.terminate()
                worker.join()
            errors = [file.read_text() for file in folder.glob("error-*")]
            raise RuntimeError("\n".join(["a training failed or hangs", *errors]))
    found = {}
    for name in names:
        files = [folder / f"{name}-{rank}-of-{processes}.pt" for rank, processes in places]
        single, *pair = (torch.load(file, weights_only=True) for file in files)
        found[name] = {
            "loss_difference": max(_loss_difference(single, rank) for rank in pair),
            "weight_difference": max(_weight_difference(single, rank) for rank in pair),
        }
    return found


def _loss_difference(single: dict, rank: dict) -> float:
    steps = rank["losses"] or single["losses"]  # detectron2 logs on the first process alone
    assert len(single["losses"]) == len(steps) == STEPS
    assert single["losses"][0].keys() == steps[0].keys()
    return _largest(
        abs(step[name] - expected[name]) / abs(expected[name])
        for step, expected in zip(steps, single["losses"], strict=True)
        for name in expected
    )


def _weight_difference(single: dict, rank: dict) -> float:
    before, after = single["before"], single["after"]
    assert before.keys() == after.keys() == rank["after"].keys()
    moved = {name: _size(after[name] - before[name]) for name in after}
    floor = max(moved.values()) / 1000
    assert floor > 1e-6  # steps of nothing would prove nothing
    return _largest(
        _size(rank["after"][name] - after[name]) / max(moved[name], floor) for name in after
    )


def _largest(values: Iterable[float]) -> float:
    """Not a number if one is, unlike ``max``."""
    return float(torch.tensor(list(values), dtype=torch.float64).max())


def _size(values: torch.Tensor) -> float:
    """Root mean square."""
    return float(values.double().square().mean().sqrt())


def _work(folder: Path, names: list[str], rank: int, processes: int) -> None:
    with (folder / f"log-{rank}-of-{processes}").open("wb") as log:
        for stream in (1, 2):
            os.dup2(log.fileno(), stream)
    torch.set_num_threads(1)
    try:
        if processes > 1:
            os.environ.update(RANK=str(rank), LOCAL_RANK=str(rank), WORLD_SIZE=str(processes))
            store = f"file://{folder / 'store'}"
            dist.init_process_group("gloo", init_method=store, rank=rank, world_size=processes)
            comm.create_local_process_group(processes)
        for name in names:
            training: Callable[[Path, Path, int], Recorder] = TRAININGS[name]
            with as_a_fresh_process():
                found = training(folder / "scenes", folder / f"{name}-{processes}", processes)
            result = {"losses": found.losses, "before": found.before, "after": found.after}
            torch.save(result, folder / f"{name}-{rank}-of-{processes}.pt")
    except BaseException:
        (folder / f"error-{rank}-of-{processes}").write_text(traceback.format_exc())
        os._exit(1)
    os._exit(0)  # not through what the parent registered for its own end
