"""Transfer to Objects365 v1 val: 365 classes, boxes, no training.

Source: F-ViT (CLIPSelf, ICLR 2024), the OV-LVIS ViT-L/14 detector at 896 px. Data: the COCO-format
annotations of the release; its file lists categories out of order, classes are matched by name.
"""

_base_ = "./coco_transfer.py"

data_root = "data/objects365v1"
val_annotations = "annotations/objects365_val.json"
val_images = "val/"
vocabulary = "objects365v1"

test_dataloader = dict(
    dataset=dict(
        vocabulary=vocabulary,
        data_root=data_root,
        ann_file=val_annotations,
        data_prefix=dict(img=val_images),
    )
)
test_evaluator = dict(ann_file=f"{data_root}/{val_annotations}")
