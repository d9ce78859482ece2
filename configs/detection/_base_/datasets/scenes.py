"""The built-in scenes: boxes of 24 base things for training, 24 + 12 novel ones for evaluation.

Data: python tools/make_scenes.py data/scenes. Scenes have one size, so there is no scale jitter.
"""

data_root = "data/scenes"
train_annotations = "annotations/instances_train_base.json"
val_annotations = "annotations/instances_val.json"
train_images = "train/"
val_images = "val/"
vocabulary = "scenes_things"
image_size = 128
batch_size = 16  # per process
num_workers = 0

train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="Resize", scale=(image_size, image_size), keep_ratio=True),
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
    batch_size=batch_size,
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
