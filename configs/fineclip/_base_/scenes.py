"""The built-in scenes: a tiny CLIP that trains in minutes on two CPU cores.

Data: python tools/make_scenes.py data/scenes. Images are 64 px, crops 32 px, both towers train.
"""

_base_ = "./coco.py"

model_name = "ViT-Ti-8-scenes"
pretrained = None  # start weights, which frozen and averaged teachers then start from as well
data_root = "data/scenes"
shards = None  # folder of tools/make_shards.py to train on in place of the files below
image_size = 64
crop_size = 32
max_boxes = 4
batch_size = 32
max_epochs = 20
warmup_iters = 50
lr = 1e-3
weight_decay = 0.1
chunk_sizes = None  # a tiny model fits
num_workers = 0
prefetch = 2
backend = "pil"  # as fast as "tensor" for images this small
seed = 0
load_from = None  # start weights of the model alone
vocabulary = f"{data_root}/vocabulary.json"

randomness = dict(seed=seed)
model = dict(
    clip=dict(name=model_name, pretrained=pretrained),
    trainable=("image", "text", "logit_scale"),
    chunk_sizes=chunk_sizes,
)
train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    prefetch_factor=prefetch if num_workers > 0 else None,
    sampler=dict(seed=seed),
    dataset=dict(
        shards=shards,
        image_root=None if shards else f"{data_root}/train",
        annotations=None if shards else f"{data_root}/annotations/proposals_train.json",
        captions=None if shards else f"{data_root}/annotations/captions_train.json",
        region_captions=None if shards else f"{data_root}/annotations/region_captions_train.json",
        tokenizer=model_name,
        transform=dict(size=image_size),
        crop_transform=dict(size=crop_size),
        max_boxes=max_boxes,
        backend=backend,
        seed=seed,
    ),
)
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
optim_wrapper = dict(
    optimizer=dict(lr=lr, betas=(0.9, 0.98), weight_decay=weight_decay),
    clip_grad=dict(max_norm=1.0),
)
param_scheduler = dict(warmup_iters=warmup_iters, end=max_epochs)
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))

val_dataloader = dict(
    box_classification=dict(
        batch_size=batch_size,
        num_workers=num_workers,
        dataset=dict(data_root=data_root, split="val", transform=dict(size=image_size)),
    ),
    retrieval=dict(
        batch_size=batch_size,
        num_workers=num_workers,
        dataset=dict(
            data_root=data_root,
            split="val",
            transform=dict(size=image_size),
            tokenizer=model_name,
        ),
    ),
)
val_evaluator = dict(box_classification=dict(templates="plain"))
test_dataloader = val_dataloader
test_evaluator = val_evaluator
