"""Training on mmengine's Runner: config loading, optimizer, hooks."""

from fineclip.devices import default_device
from fineclip.engine.config import OverridesAction, load_config, parse_overrides
from fineclip.engine.curves import CurvesHook
from fineclip.engine.hooks import (
    ClampLogitScaleHook,
    EMATeacherHook,
    FrozenPrototypesHook,
    PlainCheckpointHook,
    SkippedSamplesHook,
)
from fineclip.engine.launch import (
    build_runner,
    explaining_errors,
    prepare_training,
    set_test_precision,
)
from fineclip.engine.logits import InitialLogitsHook
from fineclip.engine.mixing import MixedWeightsHook
from fineclip.engine.optim import (
    AutocastOptimWrapper,
    CLIPOptimWrapperConstructor,
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
    "CurvesHook",
    "EMATeacherHook",
    "FrozenPrototypesHook",
    "InitialLogitsHook",
    "KeptCheckpointHook",
    "MixedWeightsHook",
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
    "set_test_precision",
]
