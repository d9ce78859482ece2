"""Evaluation of an OV-LVIS detector on Objects365 v1's 365 classes, without training: boxes.

    python tools/test.py configs/detection/objects365-transfer_eva02-l-14-336.py CHECKPOINT

Source: F-ViT (CLIPSelf, ICLR 2024). Not measured here: no GPU, no Objects365.
"""

_base_ = [
    "_base_/models/fvit_transfer_l-14.py",
    "_base_/datasets/objects365_transfer.py",
    "_base_/runtime.py",
]

share = 0.3

model = dict(
    data_preprocessor=dict(pad_size_divisor={{_base_.image_size}}),
    roi_head=dict(bbox_head=dict(vocabulary={{_base_.vocabulary}}, alpha=share, beta=share)),
)
