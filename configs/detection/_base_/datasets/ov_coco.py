"""OV-COCO: boxes of 48 base classes for training, 48 + 17 novel ones for evaluation; 640 px.

Source: F-ViT (CLIPSelf, ICLR 2024). Annotation files, below data_root, from COCO 2017's:
    python tools/prepare.py ov-coco data/coco/annotations data/coco/annotations
Images leave the pipeline at most image_size a side; the model's data preprocessor makes them square
after normalising, with pad_size_divisor=image_size (what F-ViT calls padding to the square).
"""

data_root = "data/coco"
train_annotations = "annotations/instances_train2017_base.json"
val_annotations = "annotations/instances_val2017_ov.json"
train_images = "train2017/"
val_images = "val2017/"
vocabulary = "ov_coco"
image_size = 640
batch_size = 8  # per process
num_workers = 4

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
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
        type="OpenVocabularyCocoDataset",
        vocabulary=vocabulary,
        data_root=data_root,
        ann_file=train_annotations,
        data_prefix=dict(img=train_images),
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
        type="OpenVocabularyCocoDataset",
        vocabulary=vocabulary,
        data_root=data_root,
        ann_file=val_annotations,
        data_prefix=dict(img=val_images),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_dataloader = val_dataloader
val_evaluator = dict(
    type="OpenVocabularyCocoMetric", ann_file=f"{data_root}/{val_annotations}", metric="bbox"
)
test_evaluator = val_evaluator
