"""Reading a configuration, and checking what it names before anything slow begins."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import open_clip
import torch
import yaml
from detectron2.config import CfgNode, get_cfg
from detectron2.data import DatasetCatalog

from fineclip.checkpoints.source import provenance_at
from fineclip.checks import TEXT, Check, integer_from, list_of, real
from fineclip.configuration.backends import require_backends
from fineclip.configuration.nodes import override
from fineclip.work_dir import last_checkpoint
from segmentation.data import check_class_lists
from segmentation.data.catalog import rehearsed_sets
from segmentation.data.described import register_described
from segmentation.data.label_check import check_labels
from segmentation.data.registered import registered_set
from segmentation.detectron2.config import add_cat_seg_config
from segmentation.detectron2.head import RANDOM_WEIGHTS
from segmentation.modeling.build import OPENAI_NAMES
from segmentation.modeling.reading import RELEASED_RESIDUAL

_RANGES: dict[str, Check] = {
    "MODEL.DEVICE": TEXT,
    "SOLVER.IMS_PER_BATCH": integer_from(1),
    "SOLVER.MAX_ITER": integer_from(1),
    "SOLVER.BASE_LR": real(0),
    "SOLVER.WEIGHT_DECAY": real(0),
    "SOLVER.CLIP_MULTIPLIER": real(0),
    "SOLVER.WARMUP_ITERS": integer_from(0),
    "SOLVER.CHECKPOINT_PERIOD": integer_from(1),
    "DATALOADER.NUM_WORKERS": integer_from(0),
    "TEST.EVAL_PERIOD": integer_from(0),
    "TEST.IMS_PER_BATCH": integer_from(1),
    "TEST.MEMORY_BUDGET_MB": real(0, above=True),
    "TEST.SLIDING_WINDOW_CANVAS": list_of(integer_from(1), 2),
    "TEST.SLIDING_WINDOW_SIZE": integer_from(1),
    "TEST.SLIDING_WINDOW_OVERLAP": real(0, 1),
    "INPUT.MIN_SIZE_TEST": integer_from(0),  # 0: images keep their size
    "INPUT.MAX_SIZE_TEST": integer_from(1),
    "MODEL.SEM_SEG_HEAD.NUM_LAYERS": integer_from(0),
    "MODEL.SEM_SEG_HEAD.NUM_HEADS": integer_from(1),
    "MODEL.SEM_SEG_HEAD.HIDDEN_DIMS": integer_from(1),
    "MODEL.SEM_SEG_HEAD.POOLING_SIZES": list_of(integer_from(1), 2),
    "MODEL.SEM_SEG_HEAD.FEATURE_RESOLUTION": list_of(integer_from(1), 2),
    "MODEL.SEM_SEG_HEAD.WINDOW_SIZES": integer_from(1),
    "MODEL.SEM_SEG_HEAD.PAD_LENGTH": integer_from(0),
    "MODEL.SEM_SEG_HEAD.CLASSES_PER_STEP": integer_from(0),
    "DATASETS.REHEARSE_SHARE": real(0, 1),
}
"""Types are those of the defaults; these numbers have a range as well."""


def load_config(
    file: str | Path,
    options: Sequence[str] = (),
    adapt: Callable[[CfgNode], None] = lambda cfg: None,
) -> CfgNode:
    """Reads a yaml configuration of CAT-Seg's.

    Where there is no CUDA device, ``MODEL.DEVICE: cuda`` (detectron2's default) becomes ``cpu``.

    Args:
        file: The configuration, ``_BASE_`` and all.
        options: Alternating keys and values that override it.
        adapt: Called with what the file says, to change it before the options do.

    Returns:
        The configuration, not frozen.

    Raises:
        FileNotFoundError: The file, or one it is based on, does not exist.
        ValueError: It is no yaml, or holds an unknown key or a value of the wrong type.
    """
    if not Path(file).is_file():
        raise FileNotFoundError(f"configuration {file} does not exist")
    if len(options) % 2:
        raise ValueError(
            f"options come in pairs KEY VALUE, the last one of {' '.join(options)!r} has no value"
        )
    cfg = get_cfg()
    add_cat_seg_config(cfg)
    cfg.CONFIG_NAME = Path(file).stem
    try:
        # Tags that construct Python objects are refused: a configuration is data.
        cfg.merge_from_file(str(file), allow_unsafe=False)
    except yaml.YAMLError as error:
        raise ValueError(f"{file} is not valid yaml: {_one_line(error)}") from error
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{file}: its base {error.filename} does not exist") from error
    except (KeyError, AssertionError, ValueError, TypeError, AttributeError) as error:
        raise ValueError(f"{file}: {_reason(error)}") from error
    adapt(cfg)
    for key, word in zip(options[::2], options[1::2], strict=True):
        override(cfg, key, word)
    for key, check in _RANGES.items():
        section, _, name = key.rpartition(".")
        given = f"option {key}" if key in options[::2] else f"{file}: {key}"
        check.require(_node(cfg, section)[name], given)
    if cfg.MODEL.DEVICE.startswith("cuda") and not torch.cuda.is_available():
        cfg.MODEL.DEVICE = "cpu"
    return cfg


def check_inputs(
    cfg: CfgNode, *, train: bool = True, resume: bool = False, num_processes: int = 1
) -> None:
    """Checks data sets, class lists, labels and weights, in seconds.

    Args:
        cfg: Of :func:`load_config`.
        train: Whether there will be training; otherwise evaluation alone.
        resume: Whether the last checkpoint in ``OUTPUT_DIR`` will be read in place of
            ``MODEL.WEIGHTS``.
        num_processes: Processes on all machines.

    Raises:
        FileNotFoundError: A folder, file or checkpoint does not exist.
        ValueError: Unknown data sets, class lists that do not belong to them, label maps without
            anything to learn or to score, settings that do not go together, or a pointer to the
            last checkpoint that leads nowhere.
    """
    if num_processes < 1:
        raise ValueError("--num-gpus and --num-machines must be at least 1")
    parts = ["TRAIN"] if train else []
    # Otherwise every data set is evaluated with its own classes.
    if len(cfg.DATASETS.TEST) == 1 and cfg.MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON:
        parts.append("TEST")
    if train and not cfg.DATASETS.TRAIN:
        raise ValueError("DATASETS.TRAIN is empty: name a data set to train on")
    if not train and not cfg.DATASETS.TEST:
        raise ValueError("DATASETS.TEST is empty: name the data sets to evaluate on")
    if train:
        require_backends(cfg.LOG_TO)
    register_described(cfg.DATASETS.DESCRIPTIONS)
    check_class_lists(cfg, parts)
    trained_on = (*cfg.DATASETS.TRAIN, *rehearsed_sets(cfg)) if train else ()
    for name in dict.fromkeys((*trained_on, *cfg.DATASETS.TEST)):
        found = registered_set(name)
        check_labels(
            name,
            DatasetCatalog.get(name),
            found.class_names,
            found.ignore_label,
            train=name in trained_on,
        )
    if train and cfg.SOLVER.IMS_PER_BATCH % num_processes:
        raise ValueError(
            f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH}, which {num_processes} processes "
            "cannot share evenly"
        )
    continues = resume and last_checkpoint(cfg.OUTPUT_DIR) is not None
    weights = cfg.MODEL.WEIGHTS
    if not train and not weights and not continues:
        raise ValueError(
            "nothing to evaluate: set MODEL.WEIGHTS to a trained checkpoint"
            + (f" ({cfg.OUTPUT_DIR} has no last_checkpoint)" if resume else ", or give --resume")
        )
    if weights and not continues and "://" not in weights and not Path(weights).is_file():
        raise FileNotFoundError(f"MODEL.WEIGHTS: checkpoint {weights} does not exist")


def prepare_for_checkpoint(cfg: CfgNode, checkpoint: str | Path) -> None:
    """For a model that a complete checkpoint is loaded into.

    Its CLIP need not be fetched first, unless the weights that the configuration names decide about
    the activation as well; and ``CLIP_RESIDUAL: auto`` becomes what the checkpoint was trained
    with, which the release's does not say.

    Args:
        cfg: Changed in place.
        checkpoint: A file; of an address, nothing can be told yet.

    Raises:
        CheckpointError: It cannot be read.
    """
    head = cfg.MODEL.SEM_SEG_HEAD
    if head.CLIP_RESIDUAL == "auto" and Path(checkpoint).is_file():
        head.CLIP_RESIDUAL = provenance_at(checkpoint).residual or RELEASED_RESIDUAL
    name, weights = head.CLIP_PRETRAINED, head.CLIP_WEIGHTS
    # OpenAI's names have their own activation; of others, a tag may change it.
    is_tag = name not in OPENAI_NAMES and weights in open_clip.list_pretrained_tags_by_model(name)
    if not (is_tag and open_clip.get_pretrained_cfg(name, weights).get("quick_gelu")):
        head.CLIP_WEIGHTS = RANDOM_WEIGHTS


def _node(cfg: CfgNode, path: str) -> CfgNode:
    for part in filter(None, path.split(".")):
        cfg = cfg[part]
    return cfg


def _reason(error: Exception) -> str:
    """The message of yacs in one line; the text of a KeyError comes without quotes."""
    return _one_line(error.args[0] if error.args else error)


def _one_line(error: object) -> str:
    return " ".join(str(error).split())
