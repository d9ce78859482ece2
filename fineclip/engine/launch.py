"""From a config to a Runner that is ready to train or test."""

from __future__ import annotations

import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Literal

import torch
import torch.distributed as dist
from mmengine.config import Config
from mmengine.dist import is_main_process
from mmengine.registry import init_default_scope
from mmengine.runner import CheckpointLoader, Runner

from fineclip.checkpoints import (
    check_progress,
    install_safe_loader,
    load_trained,
    read_checkpoint,
)
from fineclip.configuration.mistakes import check_sizes
from fineclip.configuration.plain import write_plain_config
from fineclip.devices import autocast_type, default_device
from fineclip.engine.arguments import explain_build_error
from fineclip.engine.console import with_quiet_console
from fineclip.engine.continuing import RULE, ContinuingRunner, changed_settings, settings_of
from fineclip.engine.hooks import PlainCheckpointHook, unwrapped
from fineclip.engine.recording import RunRecordHook
from fineclip.engine.resume import ResumeError
from fineclip.engine.sharding import ShardedRunner, WholeCheckpointHook
from fineclip.work_dir import claim, clear, last_checkpoint

Precision = Literal["bf16", "fp16"]


def build_runner(
    config: Config,
    *,
    work_dir: str | Path | None = None,
    resume: bool | str = False,
    amp: Precision | None = None,
    launcher: str = "none",
    quiet: bool = False,
    used: Literal["refuse", "overwrite", "share"] = "share",
) -> Runner:
    """Builds mmengine's Runner with safe checkpoint loading, on any device.

    The checkpoint that it is to load or to resume is compared with the model right away, every
    key and shape: mmengine itself loads what fits of any file.

    Args:
        config: A complete config, of pretraining or of detection.
        work_dir: Where logs and checkpoints go; by default the config's ``work_dir``, else
            ``work_dirs/<name of the config>``, with ``_<method>`` where the config has methods.
        resume: Continue from the last checkpoint of the work dir, if there is one, or from this
            file; see :mod:`fineclip.engine.continuing`.
        amp: Train in mixed precision; fp16 scales the loss by the config's ``loss_scale``, or
            dynamically.
        launcher: "none", or "pytorch" under ``torchrun``; without an accelerator its processes
            talk through gloo.
        quiet: The console gets warnings alone; environment, settings and steps go to the log file
            (:mod:`fineclip.engine.console`).
        used: What becomes of the training that a work dir holds already, where none is resumed:
            "refuse" and "overwrite" take the folder for this process alone; "share", for
            evaluations, does not. What is overwritten goes in :func:`prepare_training`.

    Raises:
        FileNotFoundError: The checkpoint to load or to resume from does not exist.
        ValueError: For settings that do not go together, a checkpoint of another model or run, a
            pointer to the last checkpoint that leads nowhere, or a work dir in use.
        OSError: The work dir cannot be written to.
    """
    install_safe_loader()
    name = Path(config.filename).stem if config.filename else "run"
    if "method" in config:  # methods of one config must not take over each other's checkpoints
        name = f"{name}_{config.method}"
    config.work_dir = str(work_dir or config.get("work_dir") or Path("work_dirs") / name)
    config.launcher = launcher
    with explaining_errors(config):
        if config.get("fully_sharded"):
            _check_sharding(config, launcher, amp)
            config.model_wrapper_cfg = {"type": "fineclip.FullyShardedModel"}
        if amp:
            _set_precision(config, amp)
        if launcher != "none" and default_device().type == "cpu":
            _use_gloo(config)
        loader = config.get("train_dataloader") or {}
        if default_device().type == "cpu" and loader.get("pin_memory"):
            config.train_dataloader.pin_memory = False  # there is no device to copy to
        resume = resume or bool(config.get("resume") and not config.get("load_from"))
        if used != "share" and int(os.environ.get("RANK", 0)) == 0:
            claim(config.work_dir, resume=bool(resume), overwrite=used == "overwrite")
        if resume:
            checkpoint = last_checkpoint(config.work_dir) if resume is True else Path(str(resume))
            if checkpoint and not checkpoint.is_file():
                raise FileNotFoundError(f"--resume: checkpoint {checkpoint} does not exist")
            # mmengine would resume from `load_from`, were it set, in place of the work dir's last.
            config.resume = checkpoint is not None
            if checkpoint:
                config.load_from = str(checkpoint)
        init_default_scope(config.get("default_scope", "fineclip"))
        sharded = config.get("fully_sharded", False)
        for hook in (config.get("default_hooks") or {}).values():
            if hook and hook.get("type") == "CheckpointHook":
                hook.type = "fineclip.KeptCheckpointHook"
        kind = ShardedRunner if sharded else ContinuingRunner
        runner = (with_quiet_console(kind) if quiet else kind).from_cfg(config)
        patch = getattr(getattr(unwrapped(runner), "clip", None), "patch_size", None)
        check_sizes(config, patch and max(patch))
        runner.register_hook(PlainCheckpointHook())
        runner.register_hook(RunRecordHook())
        if sharded:
            runner.register_hook(WholeCheckpointHook())
        if config.get("load_from") is not None:
            _check_checkpoint(runner, config.load_from, resume=bool(config.get("resume")))
        elif resume:
            runner.opening = (
                f"--resume: {config.work_dir} holds no checkpoint, training starts from the "
                "beginning"
            )
        if runner.opening:
            runner.logger.info(runner.opening)
        runner.replaces_another = used == "overwrite" and not config.get("resume")
        return runner


def _check_checkpoint(runner: Runner, path: Any, *, resume: bool) -> None:
    """Loads a checkpoint strictly. The runner loads it again, when its model is initialised."""
    if not isinstance(path, str | Path):
        raise ValueError(f"load_from: expected a checkpoint's path or URL, got {path!r:.80}")
    if "://" in str(path):
        checkpoint = CheckpointLoader.load_checkpoint(str(path), map_location="cpu")
    else:
        checkpoint = read_checkpoint(path, mmap=True)
    if resume:
        max_epochs = (runner.cfg.get("train_cfg") or {}).get("max_epochs", math.inf)
        check_progress(checkpoint, path, max_epochs)
        runner.opening = _what_is_resumed(runner, checkpoint["meta"], path)
    load_trained(unwrapped(runner), checkpoint, path, resume=resume)


def _what_is_resumed(runner: Runner, meta: Mapping[str, Any], path: str | Path) -> str:
    max_epochs = (runner.cfg.get("train_cfg") or {}).get("max_epochs", math.inf)
    if meta["epoch"] > max_epochs:
        raise ResumeError(
            f"{path} has trained {meta['epoch']} epochs, max_epochs is {max_epochs}: raise it"
        )
    saved = meta.get("settings")
    if isinstance(saved, Mapping):
        changes = ", ".join(changed_settings(saved, settings_of(runner.cfg), path)) or "none"
    else:
        changes = "unknown (it was written by an earlier version and says nothing of them)"
    return f"resuming {path} at step {meta['iter']}: {RULE}; settings changed since: {changes}"


def prepare_training(runner: Runner) -> None:
    """Builds the data sets of a run, so that what is wrong with them shows before it starts.

    Its config is kept in the work dir as data, with which its weights can be used.

    Raises:
        FileNotFoundError: A file or folder of the data is missing.
        ValueError: A file is malformed, there is less data than one batch, or ``load_from``
            would leave the frozen teacher behind.
    """
    with explaining_errors(runner.cfg):
        if runner.cfg.get("load_from") and not runner.cfg.get("resume"):
            _refuse_stale_teacher(runner)
        loader = runner.train_loop.dataloader
        if runner.cfg.get("val_cfg"):
            _ = runner.val_loop
        if not isinstance(runner, ShardedRunner):  # which can build it only once
            runner.optim_wrapper = runner.build_optim_wrapper(runner.optim_wrapper)
    if not len(loader):
        raise ValueError(
            f"the {len(loader.dataset)} training images do not fill one batch of "
            f"{loader.batch_size} per process: lower batch_size"
        )
    if getattr(runner, "replaces_another", False) and is_main_process():
        clear(runner.work_dir, keep=(runner.log_dir, runner.cfg.get("load_from") or ""))
    if runner.rank == 0:
        write_plain_config(runner.cfg, runner.work_dir)


@contextmanager
def explaining_errors(config: Config) -> Iterator[None]:
    """Turns what libraries raise while a config's objects are built into one line.

    Wrong settings end in errors of any type there; the original stays as the cause.

    Raises:
        ValueError: Naming the config, and key and class where they can be told.
    """
    try:
        yield
    except (
        TypeError,
        LookupError,
        AttributeError,
        AssertionError,
        ArithmeticError,
        RuntimeError,
    ) as error:
        reason = explain_build_error(error, config._cfg_dict)
        raise ValueError(f"config {config.filename}: {reason}") from error


def _refuse_stale_teacher(runner: Runner) -> None:
    """A frozen teacher is copied when the model is built, before ``load_from`` is read."""
    named = runner.cfg.model.get("teacher")
    if getattr(unwrapped(runner), "teacher", None) is not None and named is None:
        raise ValueError(
            f"load_from={runner.cfg.load_from}: the frozen teacher would keep the weights the "
            "model was built with; name the start weights as pretrained, or give model.teacher"
        )


def _check_sharding(config: Config, launcher: str, amp: Precision | None) -> None:
    if launcher == "none":
        raise ValueError(
            "fully_sharded divides the model over processes: start with torchrun and --launcher "
            "pytorch"
        )
    if "MixedWeightsHook" in {hook.get("type") for hook in config.get("custom_hooks") or ()}:
        raise ValueError("fully_sharded does not go with mixed weights; set alpha=1.0")
    if amp == "fp16":
        raise ValueError("fully_sharded does not go with fp16's loss scaling; use --amp bf16")
    if config.model.get("chunk_sizes") == "auto":
        config.model.chunk_sizes = None  # each process would plan for its own memory
    if config.model.get("chunk_sizes") is not None:
        raise ValueError(
            "fully_sharded does not go with chunk_sizes: processes with more chunks than others "
            "would wait for them; set fully_sharded=False or model.chunk_sizes=None"
        )


def _set_precision(config: Config, amp: Precision) -> None:
    if config.get("optim_wrapper") is None:
        raise ValueError("--amp: the config has no optim_wrapper to train with")
    mixed: dict[str, Any] = {
        "bf16": {"type": "fineclip.AutocastOptimWrapper", "dtype": "bfloat16"},
        "fp16": {
            "type": "AmpOptimWrapper",
            "dtype": "float16",
            "loss_scale": config.get("loss_scale", "dynamic"),
        },
    }[amp]
    autocast_type(amp, default_device())  # refuses float16 on a CPU
    config.optim_wrapper.pop("loss_scale", None)
    config.optim_wrapper.update(mixed)


def set_test_precision(config: Config, amp: Precision) -> None:
    """Tests in mixed precision.

    Args:
        config: Changed in place.
        amp: Autocast type of the model's forward passes.

    Raises:
        ValueError: float16 on a CPU.
    """
    device = default_device()
    dtype = autocast_type(amp, device)
    assert dtype is not None  # for a type that is named
    if config.test_cfg.type.endswith("MultiTaskTestLoop"):
        config.test_cfg.amp = amp
        return
    config.test_cfg.fp16 = True  # what mmengine calls autocast, of the type that torch has set
    torch.set_autocast_dtype(device.type, dtype)


def _use_gloo(config: Config) -> None:
    """Mmengine's own launcher insists on a GPU per process."""
    if not dist.is_initialized():
        missing = [name for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK") if name not in os.environ]
        if missing:
            raise ValueError(
                f"--launcher pytorch: {', '.join(missing)} not set; start with torchrun"
            )
        dist.init_process_group("gloo")
    wrapper = dict(config.get("model_wrapper_cfg") or {"type": "MMDistributedDataParallel"})
    if wrapper["type"] == "MMDistributedDataParallel":
        wrapper["device_ids"] = None
    config.model_wrapper_cfg = wrapper
