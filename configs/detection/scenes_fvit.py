"""F-ViT on the built-in scenes: a tiny detector that trains in minutes on two CPU cores.

24 base things for training, 24 + 12 novel ones for evaluation. Data: python tools/make_scenes.py
data/scenes. Weights: a CLIP trained on them by configs/fineclip/scenes.py, both towers of which are
read from pretrained=CHECKPOINT.
"""

_base_ = "_base_/ov_coco.py"

data_root = "data/scenes"
train_annotations = "annotations/instances_train_base.json"
val_annotations = "annotations/instances_val.json"
train_prefix = "train/"
val_prefix = "val/"
vocabulary = "scenes_things"
image_size = 128
batch_size = 16
val_batch_size = batch_size
num_workers = 0
model_name = "ViT-Ti-8-scenes"
pretrained = "work_dirs/scenes_fineclip/epoch_20.pth"
text_pretrained = pretrained
strides = [4, 8, 16, 32]  # no object is so small that it would need a quarter of the patch
width = 128
embed_dim = 128
taps = (1, 2, 3)
channels = 64
num_rois = 32
max_epochs = 2
val_interval = max_epochs
warmup_iters = 50
lr = 1e-3

# Scenes have one size, so there is no scale jitter.
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(type="Resize", scale=(image_size, image_size), keep_ratio=True),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]

model = dict(
    data_preprocessor=dict(
        # CLIP's, as these towers were trained.
        mean=[122.771, 116.746, 104.094],
        std=[68.501, 66.632, 70.323],
    ),
    backbone=dict(first_level=1),
    rpn_head=dict(num_convs=1, anchor_generator=dict(scales=[6, 9, 13], ratios=[1.0])),
    roi_head=dict(
        bbox_roi_extractor=dict(roi_layer=dict(sampling_ratio=1)),
        bbox_head=dict(
            num_shared_convs=1, num_shared_fcs=1, class_embeddings=dict(templates="plain")
        ),
    ),
    train_cfg=dict(rpn=dict(sampler=dict(num=64)), rpn_proposal=dict(nms_pre=200, max_per_img=100)),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=50)),
)
train_dataloader = dict(dataset=dict(pipeline=train_pipeline))
param_scheduler = [
    *_base_.warmup,
    dict(
        type="CosineAnnealingLR",
        by_epoch=True,
        begin=0,
        end=max_epochs,
        T_max=max_epochs,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(enable=False)
