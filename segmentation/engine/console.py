"""What a run says on the console: ten lines before it, how far it is, and its tables.

detectron2's own log, with environment, configuration and steps, goes to the log file.
"""

from __future__ import annotations

import logging
import sys
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.utils import comm
from detectron2.utils.logger import setup_logger

from fineclip.quiet import mute_noise


def set_up_loggers(folder: str) -> None:
    """Sends everything to ``log.txt`` of a folder; the console gets warnings, and our own lines.

    detectron2's setup finds these loggers made already.
    """
    mute_noise()
    rank = comm.get_rank()
    for logger in (
        setup_logger(folder, distributed_rank=rank, name="fvcore"),
        setup_logger(folder, distributed_rank=rank),
    ):
        for handler in logger.handlers:
            if handler.stream is sys.stdout:
                handler.setLevel(logging.WARNING)
    setup_logger(folder, distributed_rank=rank, name="segmentation")


def plan_of(cfg: CfgNode, trainer: Any) -> dict[str, str]:
    """The ten lines that matter of a training, by their titles.

    Args:
        cfg: Its configuration.
        trainer: The trainer, its weights loaded.
    """
    head, solver = cfg.MODEL.SEM_SEG_HEAD, cfg.SOLVER
    counts = [(p.numel(), p.requires_grad) for p in trainer.model.parameters()]
    total = sum(n for n, _ in counts) / 1e6
    trained = sum(n for n, trains in counts if trains) / 1e6
    start = cfg.MODEL.WEIGHTS or f"CLIP weights {head.CLIP_WEIGHTS}"
    if trainer.start_iter:
        start = f"resumed at step {trainer.start_iter}"
    images = len(trainer.data_loader.loader.dataset.dataset)
    amp = ("float16" if cfg.MODEL.DEVICE.startswith("cuda") else "bfloat16") * solver.AMP.ENABLED
    every = cfg.TEST.EVAL_PERIOD
    share = f"{100 * cfg.DATASETS.REHEARSE_SHARE:g} % of the steps on "
    rehearsed = "".join(f", {share}{name}" for name in cfg.DATASETS.REHEARSE)
    return {
        "model": f"CAT-Seg on {head.CLIP_PRETRAINED}: {total:.1f} M parameters, "
        f"{trained:.1f} M trained (CLIP: {head.CLIP_FINETUNE})",
        "start": start,
        "data": f"{images} images of {', '.join(cfg.DATASETS.TRAIN)}{rehearsed}, tested on "
        f"{', '.join(cfg.DATASETS.TEST) or 'nothing'}",
        "objective": f"binary cross entropy of every pixel and class ("
        f"{head.TRAIN_CLASS_JSON or 'its own'})",
        "schedule": f"{solver.MAX_ITER} steps of {solver.IMS_PER_BATCH} images, learning rate "
        f"{solver.BASE_LR:g}, evaluation {f'every {every} steps' if every else 'at the end'}",
        "device": device_in_words_of(cfg),
        "precision": amp or "float32",
        "memory": f"a batch at once, evaluation within {cfg.TEST.MEMORY_BUDGET_MB:g} MB",
        "results": cfg.OUTPUT_DIR,
        "log": f"{cfg.OUTPUT_DIR}/log.txt, with environment and settings",
    }


def device_in_words_of(cfg: CfgNode) -> str:
    """What a configuration computes on: kind, threads, and how many processes there are."""
    processes = f", {comm.get_world_size()} processes" if comm.get_world_size() > 1 else ""
    return f"{cfg.MODEL.DEVICE} ({torch.get_num_threads()} threads){processes}"
