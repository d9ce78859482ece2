"""Training on mmengine's Runner: config loading, optimizer, hooks."""

from fineclip.engine.config import OverridesAction, load_config, parse_overrides
from fineclip.engine.hooks import (
    ClampLogitScaleHook,
    EMATeacherHook,
    PlainCheckpointHook,
    SkippedSamplesHook,
)
from fineclip.engine.launch import build_runner, explaining_errors, prepare_training
from fineclip.engine.logits import InitialLogitsHook
from fineclip.engine.optim import (
    AutocastOptimWrapper,
    CLIPOptimWrapperConstructor,
    default_device,
    parameter_groups,
)
from fineclip.engine.progress import ProgressBarHook
from fineclip.engine.resume import ResumableEpochLoop, ResumeError
from fineclip.engine.saving import KeptCheckpointHook
from fineclip.engine.schedule import WarmupCosineLR

__all__ = [
    "AutocastOptimWrapper",
    "CLIPOptimWrapperConstructor",
    "ClampLogitScaleHook",
    "EMATeacherHook",
    "InitialLogitsHook",
    "KeptCheckpointHook",
    "OverridesAction",
    "PlainCheckpointHook",
    "ProgressBarHook",
    "ResumableEpochLoop",
    "ResumeError",
    "SkippedSamplesHook",
    "WarmupCosineLR",
    "build_runner",
    "default_device",
    "explaining_errors",
    "load_config",
    "parameter_groups",
    "parse_overrides",
    "prepare_training",
]
