"""What the variables of the shipped configs, and settings of libraries, must be: one table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from fineclip.checks import (
    ANY_TEXT,
    FLAG,
    NOTHING,
    OBJECT,
    TEXT,
    Check,
    either,
    integer_from,
    list_of,
    one_of,
    real,
    table,
)

_COUNT = integer_from(1)
_SHARE = real(0, 1)
_RATE = real(0)
_OPTIONAL_COUNT = either(NOTHING, _COUNT)
_OPTIONAL_TEXT = either(NOTHING, TEXT)
_WORDS = list_of(TEXT)
_SEED = either(NOTHING, integer_from(0, 2**32 - 1))

VARIABLES: dict[str, Check] = {
    # ---- All.
    "default_scope": _OPTIONAL_TEXT,
    "recipe": one_of("pretraining", "detection"),
    "start": _OPTIONAL_TEXT,
    "log_interval": _COUNT,
    "load_from": _OPTIONAL_TEXT,
    "work_dir": _OPTIONAL_TEXT,
    "seed": _SEED,
    "data_root": TEXT,
    "model_name": TEXT,
    "pretrained": _OPTIONAL_TEXT,
    "image_size": _COUNT,
    "batch_size": _COUNT,
    "max_epochs": _COUNT,
    "val_interval": _COUNT,
    "warmup_iters": integer_from(0),
    "lr": _RATE,
    "num_workers": integer_from(0),
    "vocabulary": either(TEXT, _WORDS, OBJECT),
    # ---- Pretraining.
    "method": TEXT,
    "trainable": _WORDS,
    "unlocked_groups": _OPTIONAL_COUNT,
    "alpha": _SHARE,
    "templates": either(TEXT, _WORDS),
    "checkpoint_steps": _OPTIONAL_COUNT,
    "fully_sharded": FLAG,
    "crop_size": _COUNT,
    "crop_patch": _OPTIONAL_COUNT,
    "crop_scale": real(0, above=True),
    "regions": one_of("boxes", "grid"),
    "max_boxes": _COUNT,
    "draw_by": one_of("uniform", "area", "sqrt_area"),
    "betas": list_of(_SHARE, 2),
    "eps": _RATE,
    "weight_decay": _RATE,
    "accumulate": _COUNT,
    "chunk_sizes": either(NOTHING, one_of("auto"), table(_OPTIONAL_COUNT)),
    "memory_budget": either(NOTHING, real(0, above=True)),
    "grad_checkpointing": FLAG,
    "compile_blocks": either(FLAG, OBJECT),
    "prefetch": _COUNT,
    "backend": one_of("pil", "tensor"),
    "num_images": _OPTIONAL_COUNT,
    "val_root": TEXT,
    "flickr_root": _OPTIONAL_TEXT,
    "shards": _OPTIONAL_TEXT,
    "annotations": TEXT,
    "captions": _OPTIONAL_TEXT,
    "region_captions": _OPTIONAL_TEXT,
    "train_split": TEXT,
    "val_split": TEXT,
    "restart_logits": FLAG,
    "contrast": one_of("views", "image"),
    "momentum": _SHARE,
    "frozen_prototype_epochs": integer_from(0),
    "num_prototypes": _COUNT,
    "prototype_hidden": _COUNT,
    "prototype_width": _COUNT,
    "num_local": _COUNT,
    "local_size": _COUNT,
    # ---- Detection.
    "text_pretrained": _OPTIONAL_TEXT,
    "train_annotations": TEXT,
    "val_annotations": TEXT,
    "train_prefix": ANY_TEXT,  # empty: images lie in data_root itself
    "val_prefix": ANY_TEXT,
    "dataset_type": TEXT,
    "metric_type": TEXT,
    "metric": either(TEXT, _WORDS),
    "with_mask": FLAG,
    "val_batch_size": _COUNT,
    "loss_scale": either(one_of("dynamic"), real(0, above=True)),
    "strides": list_of(real(0, above=True)),
    "width": _COUNT,
    "embed_dim": _COUNT,
    "taps": list_of(integer_from(0)),
    "channels": _COUNT,
    "num_proposals": _COUNT,
    "num_rois": _COUNT,
    "beta": _SHARE,
    "share": _SHARE,
    "steps": list_of(_COUNT),
    "sync_bn": _OPTIONAL_TEXT,
    "norm_eval": FLAG,
    # ---- Ablation.
    "images": _COUNT,
    "pretrain_epochs": _COUNT,
    "pretrain_lr": _RATE,
    "pretrain_batch_size": _COUNT,
    "epochs": _COUNT,
    "workers": _COUNT,
    "threads": _OPTIONAL_COUNT,
    "amp": either(NOTHING, one_of("bf16", "fp16")),
    "metrics": table(TEXT),
}
"""By the name of a config's top-level variable."""

_OF_A_LOADER = {
    "batch_size": _COUNT,
    "num_workers": integer_from(0),
    "prefetch_factor": _OPTIONAL_COUNT,
    "persistent_workers": FLAG,
    "pin_memory": FLAG,
    "drop_last": FLAG,
    "dataset": OBJECT,
    "sampler": OBJECT,
}
_OF_A_SECTION: dict[str, dict[str, Check]] = {
    "train_cfg": {"max_epochs": _COUNT, "max_iters": _COUNT, "val_interval": _COUNT},
    "optim_wrapper": {"accumulative_counts": _COUNT, "optimizer": OBJECT},
    "optimizer": {
        "lr": _RATE,
        "weight_decay": _RATE,
        "eps": _RATE,
        "betas": list_of(_SHARE, 2),
    },
    "clip_grad": {"max_norm": real(0, above=True)},
    "param_scheduler": {
        "warmup_iters": integer_from(0),
        "begin": integer_from(0),
        "end": integer_from(0),
    },
    "checkpoint": {"interval": integer_from(-1), "max_keep_ckpts": integer_from(-1)},
    "logger": {"interval": _COUNT},
    "log_processor": {"window_size": _COUNT},
    "randomness": {"seed": _SEED},
}
"""Settings that mmengine and torch take unchecked, by the name of the dict that holds them."""


def sections(node: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Mapping]]:
    """All dicts of a finished config, each with the keys that lead to it."""
    if isinstance(node, Mapping):
        if path:
            yield path, node
        for key, value in node.items():
            yield from sections(value, (*path, str(key)))
    elif isinstance(node, list | tuple):
        for number, item in enumerate(node):
            yield from sections(item, (*path, str(number)))


def checks_of(path: tuple[str, ...], section: Mapping[str, Any]) -> Mapping[str, Check]:
    """What the table says of the entries of a dict in a config."""
    if any(name.endswith("_dataloader") for name in path[:2]) and "dataset" in section:
        return _OF_A_LOADER
    name = next((key for key in reversed(path) if not key.isdecimal()), "")
    return _OF_A_SECTION.get(name, {})
