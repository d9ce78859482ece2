"""The stages of :mod:`fineclip.experiments.finetuning` for segmenters."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from detectron2.config import CfgNode
from detectron2.data import DatasetCatalog

from fineclip.datasets.description import read_description
from fineclip.experiments.engine import Outcome
from fineclip.experiments.examining import PARTS, Part, examination
from fineclip.weights import CONFIG_FILE, config_beside, weights_file
from fineclip.work_dir import claim
from segmentation.data.described import register_described, set_name
from segmentation.engine import ProgressBar, SegmentationTrainer, check_inputs, load_config
from segmentation.engine.config import prepare_for_checkpoint
from segmentation.engine.described import described_config
from segmentation.engine.launch import pin_config
from segmentation.finetuning.examiner import SegmenterExaminer, sets_of

CONFIG = Path(__file__).parents[2] / "configs" / "segmentation" / "own.yaml"

FROZEN = ("sem_seg_head.predictor.transformer.decoder", "sem_seg_head.predictor.transformer.head")
"""What trains where all else is frozen: what makes maps of classes fine, not which they are."""


def finetune_segmenter(
    folder: str | Path,
    *,
    start: str,
    data: str,
    seed: int = 0,
    amp: str | None = None,
    frozen: bool = False,
    rehearse: Mapping[str, Any] | None = None,
    recipe: Mapping[str, Any] | None = None,
) -> Outcome:
    """Continues a trained segmenter on one's own label maps; an interrupted call is continued.

    Args:
        folder: Work dir of the training.
        start: Work dir or checkpoint of the start.
        data: Description of one's own data.
        seed: Of the training.
        amp: Precision; None: float32.
        frozen: :data:`FROZEN` alone trains.
        rehearse: ``share`` of the steps and ``data``, a description; None there: the start's
            training data.
        recipe: Overrides of the schedule that follows from the number of images.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: Data or start do not fit.
    """
    given = recipe or {}
    options = {
        "OUTPUT_DIR": str(folder),
        "SEED": str(seed),
        "SOLVER.AMP.ENABLED": str(amp is not None),
        "SOLVER.IMS_PER_BATCH": given.get("batch_size"),
        "SOLVER.BASE_LR": given.get("lr"),
        "TEST.EVAL_PERIOD": 0,
    }
    cfg = _continued(start, data, options)
    steps = cfg.SOLVER.MAX_ITER
    if "epochs" in given:
        images = len(DatasetCatalog.get(cfg.DATASETS.TRAIN[0]))
        steps = given["epochs"] * math.ceil(images / cfg.SOLVER.IMS_PER_BATCH)
    if frozen:
        cfg.MODEL.TRAINED_PARTS = list(FROZEN)
    if rehearse is not None:
        cfg.DATASETS.REHEARSE = [_rehearsed_set(start, rehearse["data"], cfg)]
        cfg.DATASETS.REHEARSE_SHARE = rehearse["share"]
        steps = math.ceil(steps / (1 - rehearse["share"]))  # as many on one's own as without
    cfg.SOLVER.MAX_ITER = steps
    cfg.SOLVER.WARMUP_ITERS = min(cfg.SOLVER.WARMUP_ITERS, steps // 10)
    cfg.DATASETS.TEST = ()
    check_inputs(cfg, resume=True)
    claim(cfg.OUTPUT_DIR, resume=True)
    trainer = SegmentationTrainer(cfg, [ProgressBar("segmenter")])
    trainer.resume_or_load()
    pin_config(cfg, trainer.residual)
    trainer.train()
    said = f"{steps} steps of {cfg.SOLVER.IMS_PER_BATCH}, learning rate {cfg.SOLVER.BASE_LR:g}"
    return {"metrics": {}, "checkpoint": "model_final.pth", "said": said}


def _continued(start: str, data: str, options: Mapping[str, Any] | None = None) -> CfgNode:
    """The configuration that continues a start on described data."""
    weights, trained = weights_file(start), _configuration_of(start)
    words = {
        "MODEL.WEIGHTS": str(weights),
        # What of CLIP trains, and how fast, is the start's, as all of its network.
        "MODEL.SEM_SEG_HEAD.CLIP_FINETUNE": trained.MODEL.SEM_SEG_HEAD.CLIP_FINETUNE,
        "SOLVER.CLIP_MULTIPLIER": trained.SOLVER.CLIP_MULTIPLIER,
        **(options or {}),
    }
    given = [
        str(word) for key, value in words.items() if value is not None for word in (key, value)
    ]
    cfg, _ = described_config(CONFIG, data, given)
    prepare_for_checkpoint(cfg, weights)
    return cfg


def _rehearsed_set(start: str, data: str | None, cfg: CfgNode) -> str:
    """The registered name of the data that are gone through again."""
    if data is not None:
        (description,) = register_described([data])
        description.require("train", "masks")
        cfg.DATASETS.DESCRIPTIONS = [*cfg.DATASETS.DESCRIPTIONS, str(description.file)]
        return set_name(description, "train")
    trained = _configuration_of(start)
    register_described(trained.DATASETS.DESCRIPTIONS)
    cfg.DATASETS.DESCRIPTIONS = [*cfg.DATASETS.DESCRIPTIONS, *trained.DATASETS.DESCRIPTIONS]
    return trained.DATASETS.TRAIN[0]


def _configuration_of(start: str) -> CfgNode:
    beside = config_beside(weights_file(start))
    if beside is None:
        raise ValueError(
            f"{start}: there is no {CONFIG_FILE} beside it; name the work dir of a training"
        )
    return load_config(beside)


def examine_segmenter(
    folder: str | Path,
    *,
    start: str,
    data: str,
    reference: str | None,
    seed: int = 0,
    trained: str | None = None,
    alphas: Sequence[float] = (),
    offsets: Sequence[float] = (0.0,),
    before: str | None = None,
) -> Outcome:
    """Examines a start alone, or what was trained from it and its mixes with the start.

    Args:
        folder: Where answers are kept; ``finetuned.pth``, the chosen mix, is written here.
        start: Work dir or checkpoint of the start.
        data: Description of one's own data.
        reference: Description of the data that tell what is kept; None: what the start's
            configuration is evaluated on.
        seed: Of the division of validation images.
        trained: Checkpoint of what was trained from it; None: the start alone.
        alphas: Shares of its weights.
        offsets: See :func:`fineclip.experiments.examining.examine_trained`.
        before: Folder of the start's own examination.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: Data or start do not fit.
    """
    folder = Path(folder)
    examiner = SegmenterExaminer(
        _continued(start, data),
        weights_file(start),
        trained,
        own=sets_of(read_description(data)),
        reference=_reference_sets(start, reference),
        seed=seed,
    )
    return examination(folder, examiner, before=before, alphas=alphas, offsets=offsets)


def _reference_sets(start: str, reference: str | None) -> dict[Part, str]:
    if reference is not None:
        return sets_of(read_description(reference))
    trained = _configuration_of(start)
    register_described(trained.DATASETS.DESCRIPTIONS)
    return dict.fromkeys(PARTS, trained.DATASETS.TEST[0])
