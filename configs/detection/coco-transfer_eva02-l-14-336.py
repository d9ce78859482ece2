"""Evaluation of an OV-LVIS detector on COCO's 80 classes, without training: boxes.

    python tools/test.py configs/detection/coco-transfer_eva02-l-14-336.py CHECKPOINT

Any other vocabulary: --cfg-options vocabulary=F.json data_root=D val_annotations=A.json. Source:
F-ViT (CLIPSelf, ICLR 2024). Not measured here: no GPU, no COCO.
"""

_base_ = [
    "_base_/models/fvit_transfer_l-14.py",
    "_base_/datasets/coco_transfer.py",
    "_base_/runtime.py",
]

share = 0.2

model = dict(
    data_preprocessor=dict(pad_size_divisor={{_base_.image_size}}),
    roi_head=dict(bbox_head=dict(vocabulary={{_base_.vocabulary}}, alpha=share, beta=share)),
)
