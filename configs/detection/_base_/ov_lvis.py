"""F-ViT on OV-LVIS v1: boxes and masks, without the 337 rare classes for training, then all 1203.

48 epochs, a tenth of the rate after 32 and 44; 1024 px; otherwise as ov_coco.py.
Source: F-ViT (CLIPSelf, ICLR 2024) and its release. The training file, below data_root:
    python tools/prepare.py ov-lvis data/coco/annotations data/coco/annotations
Image paths are the last two parts of their addresses: data_root holds train2017/ and val2017/.
"""

_base_ = "./ov_coco.py"

data_root = "data/coco"
train_annotations = "annotations/lvis_v1_train_base.json"
val_annotations = "annotations/lvis_v1_val.json"
train_prefix = ""
val_prefix = ""
vocabulary = "lvis_v1"
dataset_type = "OpenVocabularyLVISDataset"
metric_type = "OpenVocabularyLVISMetric"
metric = ["bbox", "segm"]
with_mask = True
image_size = 1024
beta = 0.6
max_epochs = 48
val_interval = 12
warmup_iters = 250
steps = [32, 44]

model = dict(
    rpn_head=dict(norm_cfg=_base_.norm_cfg),
    roi_head=dict(
        bbox_head=dict(vlm_temperature=50.0, loss_cls=dict(bg_weight=0.9)),
        mask_roi_extractor=dict(
            type="SingleRoIExtractor",
            roi_layer=dict(type="RoIAlign", output_size=14, sampling_ratio=0),
            out_channels=_base_.channels,
            featmap_strides=_base_.strides[: len(_base_.taps)],
        ),
        mask_head=dict(
            type="FCNMaskHead",
            num_convs=4,
            in_channels=_base_.channels,
            conv_out_channels=_base_.channels,
            num_classes=1203,
            class_agnostic=True,
            norm_cfg=_base_.norm_cfg,
            loss_mask=dict(type="CrossEntropyLoss", use_mask=True, loss_weight=1.0),
        ),
    ),
    train_cfg=dict(rcnn=dict(assigner=dict(match_low_quality=True), mask_size=28)),
    test_cfg=dict(
        rcnn=dict(
            score_thr=1e-4,
            nms=dict(type="nms", iou_threshold=0.5),
            max_per_img=300,
            mask_thr_binary=0.5,
        )
    ),
)
param_scheduler = [
    *_base_.warmup,
    dict(type="MultiStepLR", by_epoch=True, begin=0, end=max_epochs, milestones=steps, gamma=0.1),
]
