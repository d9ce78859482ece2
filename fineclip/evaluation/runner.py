"""One evaluation run: a model, a data loader, metrics; used by the training loops and the tools."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sized
from typing import Any, Literal, cast

import torch
from mmengine.dist import is_main_process
from mmengine.evaluator import Evaluator
from mmengine.model import is_model_wrapper
from torch import nn
from torch.utils.data import DataLoader

from fineclip.evaluation.prediction import Step, predictor
from fineclip.images import SkippedImages
from fineclip.models import DenseCLIP
from fineclip.progress import track

Amp = Literal["bf16", "fp16"]
_AMP_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}

OnBatch = Callable[[int, Mapping[str, Any], list[dict[str, Any]] | None], None]
"""Called with the batch index, the batch and the model's outputs (None before it ran)."""


def evaluate(
    model: nn.Module,
    dataloader: DataLoader,
    evaluator: Evaluator,
    progress: bool = True,
    *,
    amp: Amp | None = None,
    make_step: Callable[[DenseCLIP], Step] = predictor,
    before_batch: OnBatch | None = None,
    after_batch: OnBatch | None = None,
) -> dict[str, float]:
    """Evaluates a model on one data set.

    Every metric with a ``prepare`` method gets the ``DenseCLIP`` first (class embeddings, say).
    The model is in eval mode meanwhile; afterwards each module is back in its own mode, so a
    frozen tower kept in eval stays there. Batches without a usable image skip the model.

    Args:
        model: A ``DenseCLIP``. Or what trains one, such as ``FineCLIPPretrainer``, or a
            distributed wrapper of that: it has ``clip`` and ``val_step(batch)``, which returns
            what :func:`fineclip.evaluation.prediction.predict` does.
        dataloader: Yields the batches of
            :func:`fineclip.datasets.evaluation_batch.collate_evaluation`.
        evaluator: The metrics; they get the data set's ``metainfo``.
        progress: Show the progress, on the main process.
        amp: Autocast type of the forward passes, None for full precision.
        make_step: Makes what embeds a batch, of a ``DenseCLIP``.
        before_batch: Called before each batch.
        after_batch: Called after each batch.

    Returns:
        The results of all metrics by name.

    Raises:
        ValueError: Unknown ``amp``.
        UnusableImageError: All images are unusable, or too many of them.
    """
    if amp is not None and amp not in _AMP_DTYPES:
        raise ValueError(f"amp must be one of {', '.join(_AMP_DTYPES)} or None, got {amp!r}")
    evaluator.dataset_meta = getattr(dataloader.dataset, "metainfo", None)
    clip, embed = _clip_and_step(model, make_step)
    with eval_mode(model), torch.no_grad():
        with _autocast(clip.device, amp):
            for metric in evaluator.metrics:
                if hasattr(metric, "prepare"):
                    metric.prepare(clip)
        used = 0
        skipped: list[tuple[str, str]] = []
        hidden = not (progress and is_main_process())
        for index, batch in enumerate(track(dataloader, "evaluating", "batch", disable=hidden)):
            if before_batch:
                before_batch(index, batch, None)
            outputs: list[dict[str, Any]] = []
            if len(batch["data_samples"]):
                inputs = {key: value for key, value in batch.items() if key != "skipped"}
                with _autocast(clip.device, amp):
                    outputs = embed(inputs)
            evaluator.process(data_samples=outputs, data_batch=batch)
            used += len(batch["data_samples"])
            skipped += batch.get("skipped", ())
            if after_batch:
                after_batch(index, batch, outputs)
    _check_skipped(dataloader, used, skipped)
    return evaluator.evaluate(len(cast(Sized, dataloader.dataset)))


def _check_skipped(dataloader: DataLoader, used: int, named: list[tuple[str, str]]) -> None:
    """Refuses to report on what is left when too many images of this process are unusable."""
    total = len(cast(Sized, dataloader.sampler))
    counter = SkippedImages(total)
    # An image that was used may have been named for one of its regions.
    counter.add(used, named[: max(total - used, 0)])
    counter.finish()


def _clip_and_step(model: Any, make_step: Callable[[DenseCLIP], Step]) -> tuple[DenseCLIP, Step]:
    """The CLIP in a model, and what embeds a batch."""
    if isinstance(model, DenseCLIP):
        return model, make_step(model)
    trainer = model.module if is_model_wrapper(model) else model
    # The step is the wrapper's own: it may have to collect its parameters first.
    return trainer.clip, model.val_step


@contextlib.contextmanager
def eval_mode(model: nn.Module) -> Iterator[None]:
    """Puts a model into eval mode and restores the mode of each of its modules afterwards.

    Args:
        model: Any module.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


def _autocast(device: torch.device, amp: Amp | None) -> contextlib.AbstractContextManager[None]:
    if amp is None:
        return contextlib.nullcontext()
    return torch.autocast(device.type, dtype=_AMP_DTYPES[amp])


def join_results(results: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Joins the results of several tasks into one flat dict.

    Args:
        results: Results by task.

    Returns:
        Results by name; a name that several tasks use becomes ``<task>/<name>`` in all of them.
    """
    counts: dict[str, int] = {}
    for of_task in results.values():
        for name in of_task:
            counts[name] = counts.get(name, 0) + 1
    return {
        name if counts[name] == 1 else f"{task}/{name}": value
        for task, of_task in results.items()
        for name, value in of_task.items()
    }
