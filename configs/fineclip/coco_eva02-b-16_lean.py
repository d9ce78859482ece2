"""COCO, EVA02-CLIP-B/16 at 224 px: FineCLIP at less than half the time of a step.

Crops are smaller than the images, and fewer boxes are drawn, large ones rather
(docs/performance.md). All else is coco_eva02-b-16.py, the release's.
Command: torchrun --nproc-per-node 8 tools/train.py configs/fineclip/coco_eva02-b-16_lean.py
    --launcher pytorch --amp --cfg-options data_root=data/coco
No published figure belongs to this file. configs/ablation/lean.py compares such settings on scenes.
Not measured here: no GPU, no COCO.
"""

_base_ = "coco_eva02-b-16.py"

crop_size = 160
max_boxes = 10
draw_by = "sqrt_area"
