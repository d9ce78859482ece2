"""Training on mmengine's Runner: config loading, optimizer, hooks."""

from fineclip.engine.config import load_config
from fineclip.engine.hooks import (
    ClampLogitScaleHook,
    EMATeacherHook,
    PlainCheckpointHook,
    SkippedSamplesHook,
)
from fineclip.engine.launch import build_runner, prepare_training
from fineclip.engine.logits import InitialLogitsHook
from fineclip.engine.optim import (
    AutocastOptimWrapper,
    CLIPOptimWrapperConstructor,
    default_device,
    parameter_groups,
)
from fineclip.engine.progress import ProgressBarHook
from fineclip.engine.resume import ResumableEpochLoop
from fineclip.engine.schedule import WarmupCosineLR

__all__ = [
    "AutocastOptimWrapper",
    "CLIPOptimWrapperConstructor",
    "ClampLogitScaleHook",
    "EMATeacherHook",
    "InitialLogitsHook",
    "PlainCheckpointHook",
    "ProgressBarHook",
    "ResumableEpochLoop",
    "SkippedSamplesHook",
    "WarmupCosineLR",
    "build_runner",
    "default_device",
    "load_config",
    "parameter_groups",
    "prepare_training",
]
