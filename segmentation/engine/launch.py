"""From a configuration to a finished training or evaluation, on one process or many."""

from __future__ import annotations

import logging
import multiprocessing
import os
from collections.abc import Sequence
from pathlib import Path

import torch
from detectron2.config import CfgNode
from detectron2.engine import default_setup, launch
from detectron2.utils import comm

from fineclip.files import write_atomically
from fineclip.interrupts import Interrupted, noting_signals
from fineclip.progress import print_plan
from fineclip.weights import CONFIG_FILE
from fineclip.work_dir import claim, clear, last_checkpoint
from segmentation.data.described import register_described, run_registrations
from segmentation.engine.checkpointer import SafeCheckpointer
from segmentation.engine.config import prepare_for_checkpoint
from segmentation.engine.console import plan_of, set_up_loggers
from segmentation.engine.inference import evaluate
from segmentation.engine.progress import ProgressBar
from segmentation.engine.trainer import SegmentationTrainer


def run(
    cfg: CfgNode,
    *,
    eval_only: bool = False,
    resume: bool = False,
    overwrite: bool = False,
    num_gpus: int = 1,
    num_machines: int = 1,
    machine_rank: int = 0,
    dist_url: str = "auto",
    register: Sequence[str | Path] = (),
) -> None:
    """Trains, with evaluations in between and at the end, or evaluates alone.

    Logs, checkpoints and ``results.json`` go to ``OUTPUT_DIR``.

    Args:
        cfg: Of :func:`segmentation.engine.load_config`, checked by
            :func:`segmentation.engine.check_inputs`.
        eval_only: Evaluate ``MODEL.WEIGHTS``, or with ``resume`` the last checkpoint.
        resume: Continue from the last checkpoint in ``OUTPUT_DIR`` if there is one.
        overwrite: Replace the training in ``OUTPUT_DIR``.
        num_gpus: Processes on this machine; without CUDA they run on the CPU.
        num_machines: Machines.
        machine_rank: Which one this is.
        dist_url: Where the processes meet; "auto": a free port of this machine.
        register: Programs that register data sets, run in every process.

    Raises:
        ValueError: More processes than devices, a folder that is another training's, a checkpoint
            of another run, or whatever the processes raised.
        FileNotFoundError: Data or weights are missing.
        Interrupted: By SIGINT or SIGTERM; a checkpoint was written.
    """
    devices = torch.cuda.device_count()
    if cfg.MODEL.DEVICE.startswith("cuda") and num_gpus > devices:
        raise ValueError(f"--num-gpus is {num_gpus}, this machine has {devices} CUDA devices")
    if dist_url == "auto" and num_machines > 1:
        raise ValueError("several machines need --dist-url tcp://HOST:PORT of the first one")
    arguments = (cfg, eval_only, resume, overwrite, register)
    if num_gpus == 1:
        launch(_work, 1, num_machines, machine_rank, dist_url, arguments)
        return
    with noting_signals(_tell_children) as noted:
        try:
            launch(_work, num_gpus, num_machines, machine_rank, dist_url, arguments)
        finally:
            if noted.number is not None:
                raise Interrupted(noted.number, "interrupted; continue with --resume")


def _tell_children(number: int) -> None:
    for child in multiprocessing.active_children():
        if child.pid is not None:
            os.kill(child.pid, number)


def _work(
    cfg: CfgNode, eval_only: bool, resume: bool, overwrite: bool, register: Sequence[str | Path]
) -> None:
    # Of several processes, each is started afresh.
    run_registrations(register)
    register_described(cfg.DATASETS.DESCRIPTIONS)
    if not eval_only and comm.is_main_process():
        claim(cfg.OUTPUT_DIR, resume=resume, overwrite=overwrite)
        if overwrite:
            clear(cfg.OUTPUT_DIR, keep=(cfg.MODEL.WEIGHTS, cfg.MODEL.SEM_SEG_HEAD.CLIP_WEIGHTS))
    comm.synchronize()
    checkpoint = (resume and last_checkpoint(cfg.OUTPUT_DIR)) or cfg.MODEL.WEIGHTS
    if checkpoint:
        prepare_for_checkpoint(cfg, checkpoint)
        # What open_clip says of random weights would mislead here.
        logging.getLogger().setLevel(logging.ERROR)
    cfg.freeze()
    set_up_loggers(cfg.OUTPUT_DIR)
    default_setup(cfg, _Arguments(eval_only))
    # The recipes' matrix products; nothing changes on a CPU.
    torch.set_float32_matmul_precision("high")
    if eval_only:
        model = SegmentationTrainer.build_model(cfg)
        SafeCheckpointer(model, cfg.OUTPUT_DIR).resume_or_load(cfg.MODEL.WEIGHTS, resume=resume)
        evaluate(cfg, model)
        return
    trainer = SegmentationTrainer(cfg, [ProgressBar()])
    trainer.resume_or_load(resume)
    if comm.is_main_process():
        pin_config(cfg, trainer.residual)
        if trainer.opening:
            print(trainer.opening)
        print_plan(plan_of(cfg, trainer))
    trainer.train()


def pin_config(cfg: CfgNode, residual: str) -> None:
    """Writes the configuration of a training beside it, with what ``auto`` has become.

    Args:
        cfg: The configuration.
        residual: See :attr:`SegmentationTrainer.residual`.
    """
    cfg = cfg.clone()
    cfg.defrost()
    cfg.MODEL.SEM_SEG_HEAD.CLIP_RESIDUAL = residual
    write_atomically(Path(cfg.OUTPUT_DIR) / CONFIG_FILE, cfg.dump())


class _Arguments:
    """What detectron2's setup asks of the command line."""

    def __init__(self, eval_only: bool) -> None:
        self.eval_only = eval_only

    def __repr__(self) -> str:
        return f"eval_only={self.eval_only}"
