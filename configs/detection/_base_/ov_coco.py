"""F-ViT on OV-COCO: boxes of 48 base classes for training, 48 + 17 novel ones for evaluation.

3 epochs at a constant rate, 640 px; lr is for 8 GPUs x 8 images and scales with the true batch.
Source: F-ViT (CLIPSelf, ICLR 2024) and its release. Annotation files, below data_root, from COCO
2017's:
    python tools/prepare.py ov-coco data/coco/annotations data/coco/annotations
"""

_base_ = ["./fvit.py", "./runtime.py"]

data_root = "data/coco"
train_annotations = "annotations/instances_train2017_base.json"
val_annotations = "annotations/instances_val2017_ov.json"
train_prefix = "train2017/"
val_prefix = "val2017/"
vocabulary = "ov_coco"
dataset_type = "OpenVocabularyCocoDataset"
metric_type = "OpenVocabularyCocoMetric"
metric = "bbox"
with_mask = False
image_size = 640
batch_size = 8  # per process
val_batch_size = 1
num_workers = 4
max_epochs = 3
val_interval = 1
lr = 1e-4
warmup_iters = 250  # steps until the full rate is reached, from a thousandth of it
seed = 0  # of everything that is drawn
loss_scale = 512.0  # with --amp fp16

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=with_mask),
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
    sampler=dict(type="fineclip.EpochSampler", shuffle=True, seed=seed),
    batch_sampler=None,
    dataset=dict(
        type=dataset_type,
        seed=seed,
        vocabulary=vocabulary,
        data_root=data_root,
        ann_file=train_annotations,
        data_prefix=dict(img=train_prefix),
        filter_cfg=dict(filter_empty_gt=True, min_size=32),
        pipeline=train_pipeline,
    ),
)
test_dataloader = dict(
    batch_size=val_batch_size,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type=dataset_type,
        vocabulary=vocabulary,
        data_root=data_root,
        ann_file=val_annotations,
        data_prefix=dict(img=val_prefix),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
val_dataloader = test_dataloader
test_evaluator = dict(type=metric_type, ann_file=f"{data_root}/{val_annotations}", metric=metric)
val_evaluator = test_evaluator

train_cfg = dict(
    type="fineclip.ResumableEpochLoop", max_epochs=max_epochs, val_interval=val_interval
)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    constructor="fineclip.FusedOptimWrapperConstructor",
    optimizer=dict(type="AdamW", lr=lr, betas=(0.9, 0.999), weight_decay=0.1),
    clip_grad=dict(max_norm=1.0, norm_type=2),
)
warmup = [dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=warmup_iters)]
warmup = warmup if warmup_iters > 1 else []  # the first of one step has the full rate already
param_scheduler = warmup
auto_scale_lr = dict(enable=True, base_batch_size=64)
