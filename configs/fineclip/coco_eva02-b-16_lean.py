"""COCO, EVA02-CLIP-B/16 at 224 px: FineCLIP at a third of the operations of a step.

Crops have half the side of the images: of the cheaper settings that were compared on scenes, the
cheapest that loses nothing beyond noise (docs/performance.md, configs/ablation/lean.py). All else
is coco_eva02-b-16.py, the release's.
Command: torchrun --nproc-per-node 8 tools/train.py configs/fineclip/coco_eva02-b-16_lean.py
    --launcher pytorch --amp --cfg-options data_root=data/coco
No published figure belongs to this file. Not measured here: no GPU, no COCO.
"""

_base_ = "coco_eva02-b-16.py"

crop_size = 112
