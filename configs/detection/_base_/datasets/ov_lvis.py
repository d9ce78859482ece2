"""OV-LVIS v1: boxes and masks without the 337 rare classes for training, all 1203 for evaluation.

Source: F-ViT (CLIPSelf, ICLR 2024), ViT-B/16 at 1024 px. The training file, below data_root:
    python tools/prepare.py ov-lvis data/coco/annotations data/coco/annotations
Image paths are the last two parts of their addresses: data_root holds train2017/ and val2017/.
Otherwise as ov_coco.py; mmengine replaces lists as a whole, so the pipelines stand here once more.
"""

_base_ = "./ov_coco.py"

data_root = "data/coco"
train_annotations = "annotations/lvis_v1_train_base.json"
val_annotations = "annotations/lvis_v1_val.json"
vocabulary = "lvis_v1"
image_size = 1024

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=True),
    dict(
        type="RandomResize",
        scale=(image_size, image_size),
        ratio_range=(0.1, 2.0),
        keep_ratio=True,
    ),
    dict(
        type="RandomCrop",
        crop_type="absolute_range",
        crop_size=(image_size, image_size),
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
    dict(type="FilterAnnotations", min_gt_bbox_wh=(0.01, 0.01)),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(image_size, image_size), keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    ),
]

dataset = dict(
    type="OpenVocabularyLVISDataset",
    vocabulary=vocabulary,
    data_root=data_root,
    data_prefix=dict(img=""),
)
train_dataloader = dict(
    dataset=dict(ann_file=train_annotations, pipeline=train_pipeline, **dataset)
)
val_dataloader = dict(dataset=dict(ann_file=val_annotations, pipeline=test_pipeline, **dataset))
test_dataloader = val_dataloader
val_evaluator = dict(
    type="OpenVocabularyLVISMetric",
    ann_file=f"{data_root}/{val_annotations}",
    metric=["bbox", "segm"],
)
test_evaluator = val_evaluator
del dataset
