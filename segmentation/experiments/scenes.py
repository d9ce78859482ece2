"""CAT-Seg on the built-in scenes, from any CLIP trained on them."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from fineclip.experiments.engine import Outcome
from fineclip.work_dir import claim
from segmentation.data import register_datasets
from segmentation.engine import ProgressBar, SegmentationTrainer, check_inputs, load_config
from segmentation.engine.launch import pin_config

CONFIG = Path(__file__).parents[2] / "configs" / "segmentation" / "scenes_vit-ti-8.yaml"
METRICS = ("miou", "macc", "novel_miou")
DATASET = "scenes_val_sem_seg"

_NAMES = {"miou": "mIoU", "macc": "mAcc", "novel_miou": "mIoU-unseen"}


def train_segmenter(
    work_dir: str | Path,
    *,
    data: str | Path,
    init_checkpoint: str | Path,
    seed: int = 0,
    steps: int | None = None,
    amp: Literal["bf16"] | None = None,
) -> Outcome:
    """Trains on the base classes of scenes and evaluates on base and novel ones.

    An interrupted call is continued from its last checkpoint.

    Args:
        work_dir: Folder of logs and checkpoints.
        data: Folder that ``tools/make_scenes.py`` made; it must be called ``scenes``.
        init_checkpoint: CLIP of ``configs/fineclip/scenes.py``, both towers.
        seed: Seed of training.
        steps: None: as the configuration says.
        amp: Precision of training and evaluation; None: float32.

    Returns:
        The metrics: percent by the names of :data:`METRICS`; ``novel_miou`` is over the classes
        that training knows nothing of.

    Raises:
        FileNotFoundError: Data or checkpoint are missing.
        ValueError: They do not fit.
    """
    data, checkpoint = Path(data).resolve(), Path(init_checkpoint).resolve()
    if data.name != "scenes":
        raise ValueError(f"the folder of scenes must be called 'scenes', got {data}")
    if not checkpoint.is_file():
        raise FileNotFoundError(f"checkpoint {checkpoint} does not exist")
    options = {
        "OUTPUT_DIR": str(Path(work_dir).resolve()),
        "MODEL.SEM_SEG_HEAD.CLIP_WEIGHTS": str(checkpoint),
        "SEED": str(seed),
        "SOLVER.AMP.ENABLED": str(amp is not None),
        "TEST.AMP": str(amp is not None),
        **({} if steps is None else {"SOLVER.MAX_ITER": str(steps)}),
    }
    config = load_config(CONFIG, [word for pair in options.items() for word in pair])
    register_datasets(data.parent)
    try:
        check_inputs(config, resume=True)
        claim(config.OUTPUT_DIR, resume=True)
        trainer = SegmentationTrainer(config, [ProgressBar("segmenter")])
        trainer.resume_or_load()
        pin_config(config, trainer.residual)
        trainer.train()
    finally:
        register_datasets()
    found = trainer.last_results[DATASET]
    return {"metrics": {metric: float(found[_NAMES[metric]]) for metric in METRICS}}
