"""Which names a config may hold that is data from anybody.

mmengine imports and calls any function whose dotted name is a ``type``, and some classes of its
family evaluate their arguments. So what the ``plain_config.json`` beside weights names is held
against a list (:mod:`fineclip.configuration.plain`).
"""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from fineclip.checks import shown
from fineclip.configuration.settings import sections
from fineclip.configuration.sources import PACKAGES
from fineclip.engine.arguments import own_callables

_SCOPES = ("fineclip", "mmdet", "mmengine")

_NAMED_BY = ("type", "constructor", "runner_type")

# Classes of the libraries that configs of this project and near ones name, besides its own. None
# evaluates text, or builds what another argument than a `type` names (as EMAHook does).
_LIBRARY_NAMES = {
    *("AdamW", "SGD", "OptimWrapper", "AmpOptimWrapper", "DefaultOptimWrapperConstructor"),
    *("ConstantLR", "CosineAnnealingLR", "LinearLR", "MultiStepLR", "PolyLR"),
    *("EpochBasedTrainLoop", "IterBasedTrainLoop", "TestLoop", "ValLoop", "CheckpointHook"),
    *("DetVisualizationHook", "DistSamplerSeedHook", "IterTimerHook", "LoggerHook"),
    *("ParamSchedulerHook", "RuntimeInfoHook", "DetLocalVisualizer", "LocalVisBackend"),
    *("LogProcessor", "TensorboardVisBackend", "Visualizer", "DefaultSampler", "InfiniteSampler"),
    *("AspectRatioBatchSampler", "pseudo_collate", "default_collate", "ClassBalancedDataset"),
    *("ConcatDataset", "RepeatDataset", "MMDistributedDataParallel", "FilterAnnotations"),
    *("LoadAnnotations", "PackDetInputs", "Pad", "RandomChoice", "RandomChoiceResize"),
    *("RandomCrop", "RandomFlip", "RandomResize", "Resize", "Caffe2Xavier", "Constant", "Kaiming"),
    *("Normal", "Pretrained", "TruncNormal", "Uniform", "Xavier", "BN", "GELU", "GN", "LN", "ReLU"),
    *("SyncBN", "AnchorGenerator", "CrossEntropyLoss", "DeltaXYWHBBoxCoder", "DetDataPreprocessor"),
    *("FCNMaskHead", "FPN", "L1Loss", "MaxIoUAssigner", "RandomSampler", "RoIAlign"),
    *("SingleRoIExtractor", "SmoothL1Loss", "nms", "soft_nms", "VOCDataset"),
    "VOCMetric",
}


def require_harmless(content: Mapping[str, Any], path: str | Path) -> None:
    """Imports the packages of a config that is data, and looks at every name in it.

    Args:
        content: The config, finished.
        path: Its file, for messages.

    Raises:
        ValueError: It names what is not known to be harmless.
    """
    _import_packages(content.get("custom_imports"), path)
    _require_known_names(content, path)


def _import_packages(named: Any, path: str | Path) -> None:
    """Imports what registers the classes of a config, of this project's packages alone."""
    modules = (named.get("imports") if isinstance(named, Mapping) else None) or []
    for module in [modules] if isinstance(modules, str) else modules:
        if module not in PACKAGES:
            raise _unknown(f"custom_imports: module {shown(module)}", path)
        import_module(module)


def _require_known_names(content: Mapping[str, Any], path: str | Path) -> None:
    known = _LIBRARY_NAMES | own_callables().keys()
    for keys, section in sections({"": content}):
        for key in (*_NAMED_BY, "_scope_", "default_scope"):
            name = section.get(key)
            if name is None:
                continue
            where = ".".join((*keys[1:], key))
            if not isinstance(name, str):
                raise ValueError(f"config {path}: {where}: expected a name, got {shown(name)}")
            scope, _, plain = name.rpartition(".")
            is_scope = key not in _NAMED_BY
            known_scope = (name if is_scope else scope) in (*_SCOPES, *([] if is_scope else [""]))
            if not known_scope or not (is_scope or plain in known):
                raise _unknown(f"{where}: {shown(name)}", path)


def _unknown(what: str, path: str | Path) -> ValueError:
    return ValueError(
        f"config {path}: {what} is not known to be harmless, and this file is data that may come "
        "from anybody: where you trust it, name the Python config that it was made from (--config)"
    )
