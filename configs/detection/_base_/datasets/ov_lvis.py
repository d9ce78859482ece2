"""OV-LVIS v1: boxes and masks without the 337 rare classes for training, all 1203 for evaluation.

Source: F-ViT (CLIPSelf, ICLR 2024), ViT-B/16 at 1024 px. The training file, below data_root:
    python tools/prepare_ov_lvis.py data/coco/annotations data/coco/annotations
Image paths are the last two parts of their addresses: data_root holds train2017/ and val2017/.
Images leave the pipeline at most image_size a side; the model's data preprocessor makes them square
after normalising, with pad_size_divisor=image_size (what F-ViT calls padding to the square).
"""

data_root = "data/coco"
train_annotations = "annotations/lvis_v1_train_base.json"
val_annotations = "annotations/lvis_v1_val.json"
vocabulary = "lvis_v1"
image_size = 1024
batch_size = 8  # per process
num_workers = 4

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

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    sampler=dict(type="DefaultSampler", shuffle=True),
    batch_sampler=None,
    dataset=dict(
        type="OpenVocabularyLVISDataset",
        vocabulary=vocabulary,
        data_root=data_root,
        ann_file=train_annotations,
        data_prefix=dict(img=""),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=train_pipeline,
    ),
)
val_dataloader = dict(
    batch_size=1,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="OpenVocabularyLVISDataset",
        vocabulary=vocabulary,
        data_root=data_root,
        ann_file=val_annotations,
        data_prefix=dict(img=""),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type="OpenVocabularyLVISMetric",
    ann_file=f"{data_root}/{val_annotations}",
    metric=["bbox", "segm"],
)
test_evaluator = val_evaluator
