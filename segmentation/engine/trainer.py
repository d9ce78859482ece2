"""detectron2's default trainer for CAT-Seg."""

from __future__ import annotations

import weakref
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, HookBase, create_ddp_model, hooks
from detectron2.engine.train_loop import TrainerBase
from detectron2.modeling import build_model
from detectron2.utils import comm
from detectron2.utils.events import EventWriter
from torch import nn

from segmentation.detectron2.solver import build_optimizer
from segmentation.engine.checkpointer import SafeCheckpointer
from segmentation.engine.curves import GroupedCurves
from segmentation.engine.inference import evaluate
from segmentation.engine.loader import build_train_loader
from segmentation.engine.step import StepTrainer

# What the evaluator reports per class; hundreds of curves would help nobody.
_PER_CLASS = ("IoU-", "ACC-")


class SegmentationTrainer(DefaultTrainer):
    """Trains a configuration; a resumed run takes the steps an uninterrupted one would have taken.

    Unlike ``DefaultTrainer`` it runs on CPU in mixed precision, reads checkpoints without
    unpickling, continues the sequence of training images where the checkpoint left it, and leaves
    the loggers alone.

    Args:
        cfg: Complete configuration. ``SEED`` decides order and augmentation of the images; a
            negative one is drawn, and kept in checkpoints.
        extra_hooks: Run after detectron2's own.

    Raises:
        ValueError: Settings that do not go together.
        FileNotFoundError: Data or weights are missing.
    """

    def __init__(self, cfg: CfgNode, extra_hooks: list[HookBase] | None = None) -> None:
        # Not DefaultTrainer's own, which builds what is replaced here.
        TrainerBase.__init__(self)
        cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        self.cfg = cfg
        self.seed = cfg.SEED if cfg.SEED >= 0 else comm.shared_random_seed()
        device = torch.device(cfg.MODEL.DEVICE)
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        loader, self._sampler = build_train_loader(cfg, self.seed)
        on_cpu = {"device_ids": None} if device.type == "cpu" else {}
        model = create_ddp_model(model, broadcast_buffers=False, **on_cpu)
        self._trainer = StepTrainer(
            model, loader, optimizer, device=device, amp=cfg.SOLVER.AMP.ENABLED
        )
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.checkpointer = SafeCheckpointer(model, cfg.OUTPUT_DIR, trainer=weakref.proxy(self))
        self.start_iter = 0
        self.max_iter = cfg.SOLVER.MAX_ITER
        self.register_hooks([*self.build_hooks(), *(extra_hooks or [])])

    @classmethod
    def build_model(cls, cfg: CfgNode) -> nn.Module:
        """The model alone, on its device, with CLIP's weights in it."""
        return build_model(cfg)

    @classmethod
    def build_optimizer(cls, cfg: CfgNode, model: nn.Module) -> torch.optim.Optimizer:
        """See :func:`segmentation.detectron2.solver.build_optimizer`."""
        return build_optimizer(cfg, model)

    @classmethod
    def test(cls, cfg: CfgNode, model: nn.Module) -> dict[str, dict[str, float]]:
        """See :func:`segmentation.engine.evaluate`."""
        return evaluate(cfg, model)

    def build_hooks(self) -> list[HookBase]:
        """Timing, schedule, checkpoints, evaluation and logs, in detectron2's order."""
        cfg = self.cfg
        found: list[HookBase] = [hooks.IterationTimer(), hooks.LRScheduler()]
        if comm.is_main_process():
            found.append(
                hooks.PeriodicCheckpointer(self.checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD)
            )
        if cfg.DATASETS.TEST:
            found.append(hooks.EvalHook(cfg.TEST.EVAL_PERIOD, self._test_for_curves))
        if comm.is_main_process():
            found.append(hooks.PeriodicWriter(self.build_writers()))
        return found

    def build_writers(self) -> list[EventWriter]:
        """detectron2's, with curves in groups."""
        printer, metrics, _ = super().build_writers()
        return [printer, metrics, GroupedCurves(self.cfg.OUTPUT_DIR, self.cfg.DATASETS.TEST)]

    def resume_or_load(self, resume: bool = True) -> None:
        """Loads the last checkpoint, with all that belongs to it, or ``MODEL.WEIGHTS``.

        Args:
            resume: Look for a last checkpoint in ``OUTPUT_DIR``.

        Raises:
            CheckpointError: The file does not fit, or reading it would run code.
        """
        super().resume_or_load(resume)
        self._sampler.start = self.start_iter * self.cfg.SOLVER.IMS_PER_BATCH

    def state_dict(self) -> dict[str, Any]:
        """With the seed."""
        return {**super().state_dict(), "seed": self.seed}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the checkpoint's seed where the configuration leaves it open."""
        super().load_state_dict(state_dict)
        if self.cfg.SEED < 0:
            self.seed = self._sampler.seed = state_dict["seed"]

    def _test_for_curves(self) -> dict[str, dict[str, float]]:
        self.last_results = self.test(self.cfg, self.model)
        return {
            dataset: {k: v for k, v in scores.items() if not k.startswith(_PER_CLASS)}
            for dataset, scores in self.last_results.items()
        }
