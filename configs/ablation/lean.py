"""FineCLIP and cheaper settings of it on the built-in scenes: what a step costs, what it loses.

Every row continues the same weights as in scenes.py. As in the release, FineCLIP's crops are as
large as its images, and all boxes of an image are drawn (scenes have 3 to 7).
Command: python tools/ablate.py --config configs/ablation/lean.py --seeds 0 1 2
    --work-dir work_dirs/lean
Tiny twin: the same with --cfg-options images=64 val_images=16 pretrain_epochs=1 epochs=1.
"""

_base_ = "scenes.py"


def row(**options):
    """FineCLIP with these settings in place of the release's."""
    release = dict(method="fineclip", crop_size=64, max_boxes=8)
    return dict(config="../fineclip/scenes.py", options={**release, **options})


rows = {
    "_delete_": True,
    "FineCLIP": row(),
    "crops-32": row(crop_size=32),
    "crops-32-aspect": row(crop_size=32, crop_patch=8),
    "crops-24": row(crop_size=24),
    "3-boxes": row(max_boxes=3),
    "3-boxes-sqrt-area": row(max_boxes=3, draw_by="sqrt_area"),
    "crops-32-3-boxes-sqrt-area": row(crop_size=32, max_boxes=3, draw_by="sqrt_area"),
}
