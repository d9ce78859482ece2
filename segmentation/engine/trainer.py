"""detectron2's default trainer for CAT-Seg."""

from __future__ import annotations

import logging
import weakref
from collections.abc import Iterator, Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from detectron2.config import CfgNode
from detectron2.engine import DefaultTrainer, HookBase, create_ddp_model, hooks
from detectron2.engine.train_loop import TrainerBase
from detectron2.modeling import build_model
from detectron2.utils import comm
from detectron2.utils.events import EventWriter
from torch import nn

from fineclip.checkpoints import read_checkpoint
from fineclip.checkpoints.provenance import RESIDUAL_KEY
from fineclip.engine.continuing import RULE, changed_settings
from fineclip.engine.resume import ResumeError
from fineclip.interrupts import Interrupted, NotedSignal, heeding_signals, noting_signals
from fineclip.work_dir import INTERRUPTED, last_checkpoint
from segmentation.detectron2.solver import build_optimizer
from segmentation.engine.checkpointer import SafeCheckpointer
from segmentation.engine.curves import GroupedCurves
from segmentation.engine.inference import evaluate
from segmentation.engine.loader import build_train_loader
from segmentation.engine.recording import RecordHook
from segmentation.engine.step import StepTrainer

# What the evaluator reports per class; hundreds of curves would help nobody.
_PER_CLASS = ("IoU-", "ACC-")

_SETTINGS = (
    *("MODEL.META_ARCHITECTURE", "MODEL.SEM_SEG_HEAD", "MODEL.PROMPT_ENSEMBLE"),
    *("MODEL.PROMPT_ENSEMBLE_TYPE", "MODEL.CLIP_PIXEL_MEAN", "MODEL.CLIP_PIXEL_STD"),
    *("SOLVER", "INPUT", "DATASETS.TRAIN"),
)
_OF_THE_RUN = (
    *("MODEL", "SOLVER.OPTIMIZER", "DATASETS.TRAIN", "SEED", "images of DATASETS.TRAIN"),
    *("DATASETS.REHEARSE", "DATASETS.REHEARSE_SHARE"),
)
# The weights that training starts from are replaced, and evaluation does not change training.
_NO_MATTER = ("CLIP_WEIGHTS", "TEST_CLASS_JSON")


class SegmentationTrainer(DefaultTrainer):
    """Trains a configuration; a resumed run takes the steps an uninterrupted one would have taken.

    Unlike ``DefaultTrainer`` it runs on CPU in mixed precision, reads checkpoints without
    unpickling, continues the sequence of training images where the checkpoint left it, and leaves
    the loggers alone.

    Args:
        cfg: Complete configuration. ``SEED`` decides order and augmentation of the images; a
            negative one is drawn, and kept in checkpoints.
        extra_hooks: Run after detectron2's own.

    Attributes:
        opening: What is said of resuming at the start.

    Raises:
        ValueError: Settings that do not go together.
        FileNotFoundError: Data or weights are missing.
    """

    def __init__(self, cfg: CfgNode, extra_hooks: list[HookBase] | None = None) -> None:
        self.opening = ""
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
        self._images_before = 0
        self._noted = NotedSignal()
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

    @property
    def residual(self) -> str:
        """How the model reads the dense map, where the configuration may say ``auto``."""
        model: Any = getattr(self.model, "module", self.model)
        return model.sem_seg_head.predictor.residual

    def build_hooks(self) -> list[HookBase]:
        """Timing, schedule, checkpoints, evaluation and logs, in detectron2's order."""
        cfg = self.cfg
        found: list[HookBase] = [hooks.IterationTimer(), hooks.LRScheduler()]
        if comm.is_main_process():
            found.append(
                hooks.PeriodicCheckpointer(self.checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD)
            )
        found.append(_EndIfTold())
        if cfg.DATASETS.TEST:
            found.append(hooks.EvalHook(cfg.TEST.EVAL_PERIOD, self._test_for_curves))
        if comm.is_main_process():
            found += [hooks.PeriodicWriter(self.build_writers()), RecordHook(self.seed)]
        return found

    def build_writers(self) -> list[EventWriter]:
        """detectron2's, with curves in groups."""
        printer, metrics, _ = super().build_writers()
        cfg = self.cfg
        return [printer, metrics, GroupedCurves(cfg.OUTPUT_DIR, cfg.DATASETS.TEST, cfg.LOG_TO)]

    def resume_or_load(self, resume: bool = True) -> None:
        """Loads the last checkpoint, with all that belongs to it, or ``MODEL.WEIGHTS``.

        Weights, moments and progress are the checkpoint's, all settings the configuration's.

        Args:
            resume: Look for a last checkpoint in ``OUTPUT_DIR``.

        Raises:
            CheckpointError: The file does not fit, or reading it would run code.
            WorkDirError: The pointer to it leads nowhere.
            ResumeError: It belongs to another run.
        """
        last = last_checkpoint(self.cfg.OUTPUT_DIR) if resume else None
        if last is not None:
            self.opening = self._compare(last)
            if last.name != INTERRUPTED and comm.is_main_process():
                last.with_name(INTERRUPTED).unlink(missing_ok=True)
        elif resume:
            self.opening = (
                f"--resume: {self.cfg.OUTPUT_DIR} holds no checkpoint, training starts from the "
                "beginning"
            )
        if self.opening:
            logging.getLogger(__name__).info(self.opening)
        super().resume_or_load(resume)
        self._sampler.start = self._images_before

    def train(self) -> Any:
        """Trains to the end.

        Raises:
            Interrupted: By SIGINT or SIGTERM, after the step; a checkpoint is written.
        """
        with noting_signals() as self._noted:
            return super().train()

    def end_if_told(self) -> None:
        """Ends the run where a signal has come to any of its processes.

        Raises:
            Interrupted: It has; a checkpoint is written.
        """
        told = max(comm.all_gather(self._noted.number or 0))
        if told:
            raise self._interrupted(told)

    def state_dict(self) -> dict[str, Any]:
        """With the seed, the place in the sequence of images, and the settings of the run."""
        steps = self.iter + 1 - self.start_iter
        return {
            **super().state_dict(),
            "seed": self.seed,
            "images": self._images_before + steps * self.cfg.SOLVER.IMS_PER_BATCH,
            "settings": self._settings(),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes moments and progress, and the seed where the configuration leaves it open."""
        options = [_options(group) for group in self.optimizer.param_groups]
        rates = self.scheduler.base_lrs
        super().load_state_dict(state_dict)
        self.scheduler.base_lrs = rates
        # Closed-form schedules: what the rates are follows from the step alone.
        for group, fresh, rate in zip(
            self.optimizer.param_groups, options, self.scheduler.get_lr(), strict=True
        ):
            group.update(fresh, lr=rate)
        steps = state_dict["iteration"] + 1
        self._images_before = state_dict.get("images", steps * self.cfg.SOLVER.IMS_PER_BATCH)
        if self.cfg.SEED < 0:
            self.seed = self._sampler.seed = state_dict["seed"]

    def _settings(self) -> dict[str, Any]:
        """What decides about a training, by the keys of the configuration."""
        found: dict[str, Any] = {}
        for section in _SETTINGS:
            node: Any = self.cfg
            for name in section.split("."):
                node = node[name]
            found.update(_leaves(node, section))
        if self.cfg.DATASETS.REHEARSE:
            for name in ("REHEARSE", "REHEARSE_SHARE"):
                found.update(_leaves(self.cfg.DATASETS[name], f"DATASETS.{name}"))
        found[RESIDUAL_KEY] = self.residual
        return {**found, "SEED": self.seed, "images of DATASETS.TRAIN": self._sampler.size}

    def _compare(self, last: Path) -> str:
        """What a resumed run says, once it is known to be the run of a checkpoint."""
        loaded = read_checkpoint(last, mmap=True)
        state = loaded.get("trainer") if isinstance(loaded, Mapping) else None
        if not isinstance(state, Mapping) or not isinstance(state.get("iteration"), int):
            raise ResumeError(
                f"{last} does not say how far its training was; to start from its weights name it "
                "as MODEL.WEIGHTS"
            )
        steps, length = state["iteration"] + 1, self.cfg.SOLVER.MAX_ITER
        if steps > length:
            raise ResumeError(f"{last} has trained {steps} steps, SOLVER.MAX_ITER is {length}")
        saved, now = state.get("settings"), self._settings()
        if isinstance(saved, Mapping):
            if self.cfg.SEED < 0:
                now["SEED"] = saved.get("SEED")
            changes = ", ".join(changed_settings(saved, now, last, _OF_THE_RUN)) or "none"
        else:
            changes = "unknown (it was written by an earlier version and says nothing of them)"
        return f"resuming {last} at step {steps}: {RULE}; settings changed since: {changes}"

    def _interrupted(self, number: int) -> Interrupted:
        if self.checkpointer.saved_iteration != self.iter:
            self.checkpointer.save(Path(INTERRUPTED).stem, iteration=self.iter)
        text = f"interrupted at step {self.iter + 1}; continue with --resume"
        if comm.get_world_size() > 1:  # the parent says it otherwise, which does not know the step
            logging.getLogger(__name__).info(text)
        return Interrupted(number, text)

    def _test_for_curves(self) -> dict[str, dict[str, float]]:
        self.end_if_told()
        try:
            # Between steps there is nothing to finish; several processes wait for each other.
            alone = comm.get_world_size() == 1
            with heeding_signals() if alone else nullcontext():
                self.last_results = self.test(self.cfg, self.model)
        except Interrupted as stop:
            raise self._interrupted(stop.number) from None
        return {
            dataset: {k: v for k, v in scores.items() if not k.startswith(_PER_CLASS)}
            for dataset, scores in self.last_results.items()
        }


class _EndIfTold(HookBase):
    """Ends a training after the step in which a signal has come, unless it was the last."""

    def after_step(self) -> None:
        if self.trainer.iter + 1 < self.trainer.max_iter:
            self.trainer.end_if_told()


def _options(group: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key != "params"}


def _leaves(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    if isinstance(node, Mapping):
        for name, value in node.items():
            if name not in _NO_MATTER:
                yield from _leaves(value, f"{key}.{name}")
    elif isinstance(node, str):  # folders may have moved
        yield key, Path(node).name
    else:
        yield key, list(node) if isinstance(node, tuple) else node
