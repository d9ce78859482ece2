"""F-ViT on the built-in scenes, from any CLIP trained on them."""

from __future__ import annotations

from pathlib import Path

from fineclip.engine import build_runner, load_config, prepare_training
from fineclip.engine.launch import Precision
from fineclip.experiments.engine import Outcome

CONFIG = Path(__file__).parents[2] / "configs" / "detection" / "scenes_fvit.py"
METRICS = ("novel_ap50", "base_ap50", "all_ap50")


def train_detector(
    work_dir: str | Path,
    *,
    data: str | Path,
    init_checkpoint: str | Path,
    seed: int = 0,
    epochs: int | None = None,
    batch_size: int | None = None,
    amp: Precision | None = None,
) -> Outcome:
    """Trains on base classes and evaluates on base and novel ones.

    An interrupted call is continued from its last epoch.

    Args:
        work_dir: Folder of logs and checkpoints.
        data: Folder that ``tools/make_scenes.py`` made.
        init_checkpoint: CLIP of ``configs/fineclip/scenes.py``: image tower and class embeddings.
        seed: Seed of training.
        epochs: None: as the config says.
        batch_size: Likewise.
        amp: Precision of the training; None: float32.

    Returns:
        The metrics: AP50 in percent, by the names of :data:`METRICS`.

    Raises:
        FileNotFoundError: Data or checkpoint are missing.
        ValueError: They do not fit.
    """
    options = {"max_epochs": epochs, "batch_size": batch_size}
    config = load_config(
        CONFIG,
        {
            "data_root": str(data),
            "pretrained": str(init_checkpoint),
            "seed": seed,
            **{key: value for key, value in options.items() if value is not None},
        },
    )
    config.custom_hooks.append({"type": "fineclip.ProgressBarHook", "description": "detector"})
    config.val_cfg = config.val_dataloader = config.val_evaluator = None
    runner = build_runner(config, work_dir=work_dir, amp=amp, resume=True, used="refuse")
    prepare_training(runner)
    runner.train()
    metrics = runner.test()
    return {"metrics": {name: float(metrics[f"coco/{name}"]) for name in METRICS}}
