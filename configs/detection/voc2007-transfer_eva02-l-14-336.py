"""Evaluation of an OV-LVIS detector on PASCAL VOC 2007's 20 classes, without training: boxes.

    python tools/test.py configs/detection/voc2007-transfer_eva02-l-14-336.py CHECKPOINT

Data: the test part of VOC 2007 as published, XML files and all, below data_root/VOC2007. Metric:
AP at 11 points of recall, at IoU 0.5 and 0.75. Source: F-ViT's transfer evaluation (CLIPSelf, ICLR
2024). Not measured here: no GPU, no VOC.
"""

_base_ = "./coco-transfer_eva02-l-14-336.py"

data_root = "data/VOCdevkit"
val_annotations = "VOC2007/ImageSets/Main/test.txt"
vocabulary = "voc2007"
share = 0.3

test_dataloader = dict(
    dataset=dict(
        _delete_=True,
        type="VOCDataset",
        data_root=data_root,
        ann_file=val_annotations,
        data_prefix=dict(sub_data_root="VOC2007/"),
        test_mode=True,
        pipeline=_base_.test_pipeline,
    )
)
test_evaluator = dict(_delete_=True, type="VOCMetric", metric="mAP", iou_thrs=[0.5, 0.75])
