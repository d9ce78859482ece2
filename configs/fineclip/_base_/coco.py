"""Pretraining on COCO train2017, evaluated on val2017: the settings that all runs share.

Source: FineCLIP (NeurIPS 2024) and its release, B/16: 10 epochs, global batch 256 (8 GPUs x
32), 224 px, up to 20 boxes, AdamW 1e-5, text tower frozen, three losses of weight 1. The release
trains in fp16; here add --amp (bf16).

Recommended, and what all published figures belong to: the release's boxes and region captions of
COCO, linked from its repository (docs/data.md). In data_root/annotations they are taken with
annotations=annotations/coco_proposals.json region_captions=annotations/coco_captions.json.
By default the annotated boxes stand in, with captions made from category names.
"""

_base_ = ["./runtime.py", "./methods.py"]

model_name = ...
pretrained = ...  # a tag of open_clip's or a file; frozen and averaged teachers start from it, too
image_size = 224
crop_size = 224
crop_patch = None  # the model's patch: crops keep their aspect ratio; None: they are squares
crop_scale = 1.5  # factor on width and height of a box for its crop
regions = "boxes"  # of the annotations; or "grid": image patches, without captions
max_boxes = 20  # regions drawn per image
draw_by = "uniform"  # all boxes alike; "sqrt_area", "area": large ones rather
batch_size = 32  # per process
max_epochs = 10
val_interval = 1
warmup_iters = 1000
lr = 1e-5
# AdamW by the name of the model, as in open_clip and in the release: EVA02's is none with "vit".
betas = (0.9, 0.98) if "vit" in f"{model_name}".lower() else (0.9, 0.999)
eps = 1e-6 if "vit" in f"{model_name}".lower() else 1e-8
weight_decay = 0.1
accumulate = 1  # steps whose gradients are added up before an update
chunk_sizes = "auto"  # rows encoded at a time: all that fit into memory_budget; or a dict
memory_budget = None  # bytes of activations; None: half of the memory that is free
grad_checkpointing = False
compile_blocks = False
num_workers = 4
prefetch = 2  # batches that each worker loads ahead
backend = "tensor"  # what resizes images; "pil": as the release does, at half the speed
num_images = None  # train on this many images only
seed = 0

data_root = "data/coco"
val_root = data_root
flickr_root = None  # folder with images/ and flickr30k_test.json, on which is tested as well
shards = None  # folder of tools/make_shards.py to train on in place of the files below
annotations = "annotations/instances_train2017.json"  # boxes; below data_root
captions = "annotations/captions_train2017.json"
region_captions = None  # JSON by annotation id, or with keys NAME_x_y_w_h.jpg
train_split = "train2017"
val_split = "val2017"
vocabulary = "lvis_v1"
templates = "vild"  # prompts of the categories of val_split

randomness = dict(seed=seed)

model = dict(
    type="FineCLIPPretrainer",
    clip=dict(type="DenseCLIP", name=model_name, pretrained=pretrained),
    chunk_sizes=chunk_sizes,
    memory_budget=memory_budget,
    grad_checkpointing=grad_checkpointing,
    compile_blocks=compile_blocks,
)

train_dataloader = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    prefetch_factor=prefetch if num_workers > 0 else None,
    pin_memory=True,
    drop_last=True,
    sampler=dict(type="EpochSampler", shuffle=True, seed=seed),
    collate_fn=dict(type="fineclip.collate_region_text"),
    dataset=dict(
        type="RegionTextDataset",
        source=dict(type="Shards", folder=shards)
        if shards
        else dict(
            type="AnnotationFiles",
            image_root=f"{data_root}/{train_split}",
            annotations=f"{data_root}/{annotations}",
            captions=f"{data_root}/{captions}",
            region_captions=f"{data_root}/{region_captions}" if region_captions else None,
        ),
        images=dict(
            transform=dict(size=image_size, resize="squash", interpolation="bilinear"),
            crop_transform=dict(size=crop_size, resize="squash", interpolation="bilinear"),
            crop_patch=crop_patch,
            backend=backend,
        ),
        regions=dict(
            boxes=dict(
                type="BoxRegions",
                max_boxes=max_boxes,
                min_area=8 * 8,
                max_area=1024 * 1024,
                crop_scale=crop_scale,
                draw_by=draw_by,
            ),
            grid=dict(type="GridRegions", max_regions=max_boxes),
        )[regions],
        tokenizer=model_name,
        num_images=num_images,
        seed=seed,
    ),
)
train_cfg = dict(type="ResumableEpochLoop", max_epochs=max_epochs, val_interval=val_interval)
optim_wrapper = dict(
    type="OptimWrapper",
    constructor="CLIPOptimWrapperConstructor",
    optimizer=dict(type="AdamW", lr=lr, betas=betas, eps=eps, weight_decay=weight_decay),
    accumulative_counts=accumulate,
)
param_scheduler = dict(
    type="WarmupCosineLR",
    warmup_iters=warmup_iters,
    end=max_epochs,
    by_epoch=True,
    convert_to_iter_based=True,
)

val_dataloader = dict(
    box_classification=dict(
        batch_size=batch_size,
        num_workers=num_workers,
        sampler=dict(type="DefaultSampler", shuffle=False),
        collate_fn=dict(type="fineclip.collate_evaluation"),
        dataset=dict(
            type="box_regions",
            data_root=val_root,
            split=val_split,
            transform=dict(size=image_size),
        ),
    ),
    retrieval=dict(
        batch_size=batch_size,
        num_workers=num_workers,
        sampler=dict(type="DefaultSampler", shuffle=False),
        collate_fn=dict(type="fineclip.collate_evaluation"),
        dataset=dict(
            type="image_captions",
            data_root=val_root,
            split=val_split,
            transform=dict(size=image_size),
            tokenizer=model_name,
        ),
    ),
)
val_evaluator = dict(
    box_classification=dict(type="BoxClassificationMetric", templates=templates),
    retrieval=dict(type="RetrievalMetric"),
)
val_cfg = dict(type="MultiTaskValLoop")
flickr30k = dict(
    batch_size=batch_size,
    num_workers=num_workers,
    sampler=dict(type="DefaultSampler", shuffle=False),
    collate_fn=dict(type="fineclip.collate_evaluation"),
    dataset=dict(
        type="RetrievalDataset",
        captions=f"{flickr_root}/flickr30k_test.json",
        image_root=f"{flickr_root}/images",
        transform=dict(size=image_size),
        tokenizer=model_name,
    ),
)
test_dataloader = dict(**val_dataloader, **(dict(flickr30k=flickr30k) if flickr_root else {}))
test_evaluator = dict(
    **val_evaluator, **(dict(flickr30k=dict(type="RetrievalMetric")) if flickr_root else {})
)
del flickr30k
test_cfg = dict(type="MultiTaskTestLoop")
