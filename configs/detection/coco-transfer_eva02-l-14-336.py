"""Evaluation of an OV-LVIS detector on COCO's 80 classes, without training: boxes.

    python tools/test.py configs/detection/coco-transfer_eva02-l-14-336.py CHECKPOINT

Any other vocabulary: --cfg-options vocabulary=F.json data_root=D val_annotations=A.json. Source:
F-ViT's transfer evaluation (CLIPSelf, ICLR 2024). Not measured here: no GPU, no COCO.
"""

_base_ = "./ov-lvis_eva02-l-14-336.py"

data_root = "data/coco"
val_annotations = "annotations/instances_val2017.json"
val_prefix = "val2017/"
vocabulary = "coco"
dataset_type = "OpenVocabularyCocoDataset"
metric_type = "OpenVocabularyCocoMetric"
metric = "bbox"
with_mask = False
pretrained = None  # the detector's checkpoint has the tower
share = 0.2

model = dict(
    roi_head=dict(
        bbox_head=dict(
            keep_vocabulary=True,
            fixed_temperature=50.0,
            vlm_temperature=120.0,
            alpha=share,
            beta=share,
            loss_cls=dict(class_weight=None),  # a vocabulary need not tell base from novel
        ),
        mask_roi_extractor=None,
        mask_head=None,
    ),
)
train_dataloader = None
train_cfg = None
optim_wrapper = None
param_scheduler = None
auto_scale_lr = None
val_dataloader = None
val_cfg = None
val_evaluator = None
