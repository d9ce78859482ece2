"""Schedules for data of one's own, derived from how much of it there is.

A run on some dozen images needs many passes, one on many thousands few. What tutorials and
published recipes take lies near one line, passes ~ 1 / sqrt(images): detectron2's tutorial trains
300 steps of 2 on 61 balloons, the longer the better; mmdet takes 20 epochs on some hundred cats
(Grounding DINO) and 8 on 3 000 street scenes (Cityscapes); ultralytics stops at 100; F-ViT and
CAT-Seg take 3 on COCO's 118 000.
"""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass, replace
from typing import Any, Literal

Task = Literal["pretraining", "detection", "segmentation"]

_PASSES = 310.0
_MOST, _FEWEST = 100, 3  # epochs
_BATCH = {"pretraining": 32, "detection": 8, "segmentation": 4}
# FineCLIP's, F-ViT's, CAT-Seg's. Adam's steps have the size of the rate, whatever the batch. Heads
# that start from nothing have some hundred steps where F-ViT's had 5 500: they get five times the
# rate, of the size of ultralytics' rule for short runs, 0.002 * 5 / (4 + classes).
_RATE = {"pretraining": 1e-5, "detection": 1e-4, "segmentation": 2e-4}
_FRESH_HEADS = {"pretraining": 1.0, "detection": 5.0, "segmentation": 1.0}
_WARMUP, _LONGEST_WARMUP = 0.1, 250  # share of the steps, and steps
_EVALUATIONS = 4
_STEPS = 500  # more processes make larger batches only where that many steps are left


@dataclass(frozen=True)
class Recipe:
    """A schedule.

    Attributes:
        task: What is trained.
        num_images: Training images.
        epochs: Passes over them.
        batch_size: Images of a step and process.
        lr: Learning rate of AdamW.
        warmup_steps: Steps until it is reached.
        val_interval: Epochs between evaluations.
        processes: Processes that share a batch.
    """

    task: Task
    num_images: int
    epochs: int
    batch_size: int
    lr: float
    warmup_steps: int
    val_interval: int
    processes: int = 1

    @property
    def batch(self) -> int:
        """Images of a step, in all processes."""
        return self.batch_size * self.processes

    @property
    def steps_per_epoch(self) -> int:
        """Steps of a pass."""
        return math.ceil(self.num_images / self.batch)

    @property
    def steps(self) -> int:
        """Steps of all epochs."""
        return self.epochs * self.steps_per_epoch

    def variables(self) -> dict[str, Any]:
        """Values for the top-level variables of a config of mmengine's."""
        return {
            "max_epochs": self.epochs,
            "batch_size": self.batch_size,
            "lr": self.lr,
            "warmup_iters": self.warmup_steps,
            "val_interval": self.val_interval,
        }

    def solver(self) -> dict[str, Any]:
        """Values for the keys of a configuration of detectron2's."""
        period = self.val_interval * self.steps_per_epoch
        return {
            "SOLVER.IMS_PER_BATCH": self.batch,
            "SOLVER.MAX_ITER": self.steps,
            "SOLVER.BASE_LR": self.lr,
            "SOLVER.WARMUP_ITERS": self.warmup_steps,
            "SOLVER.CHECKPOINT_PERIOD": period,
            "TEST.EVAL_PERIOD": period,
        }

    def said(self, replaced: Collection[str] = ()) -> str:
        """One line for people.

        Args:
            replaced: What the command line says otherwise.
        """
        given = [key for key in (*self.variables(), *self.solver()) if key in replaced]
        return (
            f"{_count(self.num_images, 'image')}: {_count(self.epochs, 'epoch')} of "
            f"{_count(self.steps_per_epoch, 'step')} of {self.batch}, learning rate {self.lr:g}, "
            f"warmup {_count(self.warmup_steps, 'step')}, evaluation every "
            f"{_count(self.val_interval, 'epoch')}"
            + (f"; but for {', '.join(given)} of the command line" if given else "")
        )


def recipe_for(
    num_images: int,
    task: Task,
    *,
    trained: bool = False,
    lr: float | None = None,
    processes: int = 1,
) -> Recipe:
    """Derives a schedule from the amount of data.

    Args:
        num_images: Training images.
        task: What is trained.
        trained: The start has been trained for this task, so no head starts from nothing.
        lr: Rate that the start was trained with, which is then kept; None: that of the task.
        processes: Processes that share a batch.

    Returns:
        Passes that fall with the root of the images, between 3 and 100; a batch with which an
        epoch has four steps at least, where there are so many images.

    Raises:
        ValueError: No images.
    """
    if num_images < 1:
        raise ValueError("there is no image to train on")
    epochs = min(max(round(_PASSES / math.sqrt(num_images)), _FEWEST), _MOST)
    batch = min(_BATCH[task], max(num_images // 4, 1))
    batch = max(batch, min(batch * processes, epochs * num_images // _STEPS))
    batch_size = max(batch // processes, 1)
    recipe = Recipe(
        task=task,
        num_images=num_images,
        epochs=epochs,
        batch_size=batch_size,
        lr=lr or _RATE[task] * (1.0 if trained else _FRESH_HEADS[task]),
        warmup_steps=0,
        val_interval=math.ceil(epochs / _EVALUATIONS),
        processes=processes,
    )
    warmup = min(max(round(_WARMUP * recipe.steps), 1), _LONGEST_WARMUP)
    return replace(recipe, warmup_steps=warmup)


def _count(number: int, unit: str) -> str:
    return f"{number:,} {unit}{'' if number == 1 else 's'}"
