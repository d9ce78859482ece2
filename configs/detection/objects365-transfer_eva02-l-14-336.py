"""Evaluation of an OV-LVIS detector on Objects365 v1's 365 classes, without training: boxes.

    python tools/test.py configs/detection/objects365-transfer_eva02-l-14-336.py CHECKPOINT

Data: the COCO-format annotations of the release; its file lists categories out of order, classes
are matched by name. Source: F-ViT's transfer evaluation (CLIPSelf, ICLR 2024). Not measured here:
no GPU, no Objects365.
"""

_base_ = "./coco-transfer_eva02-l-14-336.py"

data_root = "data/objects365v1"
val_annotations = "annotations/objects365_val.json"
val_prefix = "val/"
vocabulary = "objects365v1"
share = 0.3
