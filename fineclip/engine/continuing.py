"""What a resumed run takes from its checkpoint, and what from its config."""

from __future__ import annotations

import os
import warnings
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config
from mmengine.runner import Runner

from fineclip.engine.resume import ResumableEpochLoop, ResumeError

RULE = "weights, optimizer moments and progress are the checkpoint's, all settings this run's"

_SECTIONS = (
    *("method", "model", "train_dataloader", "optim_wrapper", "param_scheduler", "train_cfg"),
    "auto_scale_lr",
)
# Other values of these make the same run.
_NO_MATTER = {
    *("chunk_sizes", "memory_budget", "grad_checkpointing", "compile_blocks", "test_cfg"),
    *("num_workers", "persistent_workers", "prefetch_factor", "pin_memory", "val_interval"),
    *("val_begin", "dynamic_intervals"),
}
# With others, weights or moments of the checkpoint mean something else.
OF_THE_RUN = ("method", "model", "optim_wrapper.optimizer.type", "optim_wrapper.constructor")


class ContinuingRunner(Runner):
    """mmengine's Runner, with one rule for resuming: :data:`RULE`.

    mmengine's takes learning rate, other options of the optimizer and the whole schedule from the
    checkpoint, whatever the config says. Here the schedule is the config's, at the place that the
    checkpoint has reached. A config that is another run's was refused before, by
    :func:`changed_settings`.

    Attributes:
        replaces_another: What the work dir holds of an earlier run is to be removed.
        opening: What is said of resuming at the start.
    """

    replaces_another = False
    opening = ""

    def resume(self, filename: str, *args: Any, **options: Any) -> None:
        """Loads a checkpoint and goes to its place in this config's training.

        Args:
            filename: The checkpoint.
            *args: As for mmengine's, which decides alone where a scheduler waits for metrics:
                what these were nobody knows any more.
            **options: Likewise.

        Raises:
            ResumeError: It is from the middle of an epoch of other data.
        """
        schedulers = self.param_schedulers or []
        by_metrics = isinstance(schedulers, dict) or any(
            getattr(scheduler, "need_val_args", False) for scheduler in schedulers
        )
        fresh = [_options(group) for group in self.optim_wrapper.param_groups]
        seed = (self.cfg.get("randomness") or {}).get("seed")
        if by_metrics:
            super().resume(filename, *args, **options)
        else:
            super().resume(filename, resume_param_scheduler=False)
        if seed is not None and seed != self.seed:
            self._randomness_cfg.update(seed=seed)
            self.set_randomness(**self._randomness_cfg)
        if isinstance(self.train_loop, ResumableEpochLoop):
            self.train_loop.take_position()
        if not by_metrics:
            for group, settings in zip(self.optim_wrapper.param_groups, fresh, strict=True):
                group.update(settings)
            _replay(self)


def settings_of(config: Config) -> dict[str, Any]:
    """What decides about a training, as plain values by dotted keys; of paths, the last part."""
    content = config._cfg_dict.to_dict()
    return {
        key: value
        for section in _SECTIONS
        if section in content
        for key, value in _leaves(content[section], section)
    }


def changed_settings(
    saved: Mapping[str, Any],
    now: Mapping[str, Any],
    path: str | Path,
    of_the_run: Sequence[str] = OF_THE_RUN,
) -> list[str]:
    """Compares the settings in a checkpoint with those of the run that continues it.

    Args:
        saved: Of the checkpoint, by dotted keys; see :func:`settings_of`.
        now: Of the run.
        path: The checkpoint, for messages.
        of_the_run: Keys, or sections of them, with other values of which it is another run.

    Returns:
        Lines "key before -> after" for what is used as the config says it now.

    Raises:
        ResumeError: One of ``of_the_run`` is another.
    """
    keys = [key for key in {**saved, **now} if saved.get(key, ...) != now.get(key, ...)]
    other = [key for key in keys if any(f"{key}.".startswith(f"{own}.") for own in of_the_run)]
    if other:
        first = other[0]
        more = f" (and {len(other) - 1} more: {', '.join(other[1:4])})" if other[1:] else ""
        raise ResumeError(
            f"{path} belongs to another run: {first} was {_said(saved, first)}, is "
            f"{_said(now, first)}{more}; resume with its settings, or start a new run from its "
            "weights"
        )
    return [f"{key} {_said(saved, key)} -> {_said(now, key)}" for key in keys]


def _options(group: Mapping[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in group.items() if key != "params"}


def _replay(runner: Runner) -> None:
    """Takes the schedulers, which are at their first step, to where the training is."""
    loop = runner.train_loop
    by_epoch = [s for s in runner.param_schedulers or [] if s.by_epoch]
    by_step = [s for s in runner.param_schedulers or [] if not s.by_epoch]
    length = len(loop.dataloader) if loop.epoch else 0
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they expect a step of the optimizer before each
        for step in range(1, loop.iter + 1):
            for scheduler in by_step:
                scheduler.step()
            if length and step % length == 0 and step // length <= loop.epoch:
                for scheduler in by_epoch:
                    scheduler.step()


def _leaves(node: Any, key: str) -> Iterator[tuple[str, Any]]:
    nested = isinstance(node, list | tuple) and any(isinstance(item, Mapping) for item in node)
    if isinstance(node, Mapping) or nested:
        items = node.items() if isinstance(node, Mapping) else enumerate(node)
        for name, value in items:
            if name not in _NO_MATTER:
                yield from _leaves(value, f"{key}.{name}")
    else:
        yield key, _plain(node)


def _plain(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, str):  # folders may have moved
        return value.rstrip(os.sep).rpartition(os.sep)[2]
    return value if isinstance(value, bool | int | float | None) else repr(value)


def _said(settings: Mapping[str, Any], key: str) -> str:
    text = repr(settings[key]) if key in settings else "not set"
    return text if len(text) <= 60 else f"{text[:57]}..."
