"""F-ViT on data of one's own, 10 images or 100 000: boxes of the classes of a data.yaml.

    python tools/train.py configs/detection/own.py --data my/data.yaml
    python tools/train.py configs/detection/own.py --data my/data.yaml \
        --cfg-options start=work_dirs/ov-coco_vit-b-16

start is a detector of ours or a CLIP: a work dir, a checkpoint in any known format, or a tag of
open_clip's. Of a work dir, model and sizes are known; else model_name= says which CLIP it is.
Epochs, batch, rate and warmup follow from the number of images
(fineclip/configuration/recipes.py) and are said before training; any can be set.
Detectron2's, mmdet's and ultralytics' tutorials are the sources of that. Not measured on data
other than the scenes.
"""

_base_ = "_base_/ov_coco.py"

recipe = "detection"
start = "openai"
model_name = "ViT-B-16-quickgelu"
pretrained = start
text_pretrained = start
load_from = None  # a detector, from which everything starts
# Set by --data; these are what tools/import_data.py writes, and the schedule of 1 000 images.
data_root = "data/my"
train_annotations = "annotations/instances_train.json"
val_annotations = "annotations/instances_val.json"
train_prefix = "train/"
val_prefix = "val/"
vocabulary = f"{data_root}/data.yaml"
batch_size = 8
max_epochs = 10
val_interval = 3
warmup_iters = 125
lr = 5e-4
num_workers = 2
log_interval = 10

# Of few images, none is shrunk to a tenth.
train_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="LoadAnnotations", with_bbox=True, with_mask=_base_.with_mask),
    dict(
        type="RandomResize",
        scale=(_base_.image_size, _base_.image_size),
        ratio_range=(0.5, 1.5),
        keep_ratio=True,
    ),
    dict(
        type="RandomCrop",
        crop_type="absolute_range",
        crop_size=(_base_.image_size, _base_.image_size),
        recompute_bbox=True,
        allow_negative_crop=True,
    ),
    dict(type="FilterAnnotations", min_gt_bbox_wh=(1, 1)),
    dict(type="RandomFlip", prob=0.5),
    dict(type="PackDetInputs"),
]
train_dataloader = dict(
    dataset=dict(filter_cfg=dict(filter_empty_gt=True, min_size=8), pipeline=train_pipeline)
)
default_hooks = dict(checkpoint=dict(interval=val_interval, max_keep_ckpts=1))
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
auto_scale_lr = dict(enable=False)  # the rate is what is said
