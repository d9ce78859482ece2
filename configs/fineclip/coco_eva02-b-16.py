"""COCO, EVA02-CLIP-B/16 at 224 px: the model of FineCLIP's public release.

Source: FineCLIP's release, 8 GPUs x 32, 10 epochs. Not measured here: no GPU, no COCO.
"""

_base_ = "_base_/coco.py"

model_name = "EVA02-B-16"
pretrained = "merged2b_s8b_b131k"
