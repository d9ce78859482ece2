"""FineCLIP on CC2.5M-style data (web images, machine-made regions), evaluated on COCO val2017.

Source: FineCLIP (NeurIPS 2024): 2.5 M images of CC3M, 10.4 M boxes proposed by YOLOv9 and captioned
by BLIP-2. The data were not published; any data in these files will do, below `data_root`:
    images/                       the images
    proposals.json                COCO format: images, annotations with bbox
    captions.json                 COCO captions format, one or more per image
    region_captions.json          {annotation id: caption}
COCO val2017 for the evaluation is looked for in `val_root`. Schedule as on COCO (the paper's own
for CC2.5M is not public).
"""

_base_ = "./coco.py"

data_root = "data/cc2.5m"
shards = None  # folder of tools/make_shards.py to train on in place of the files above
val_root = "data/coco"
max_epochs = 10
num_images = None  # 1000, 100_000, 500_000 for the paper's subsets

train_dataloader = dict(
    dataset=dict(
        shards=shards,
        image_root=None if shards else f"{data_root}/images",
        annotations=None if shards else f"{data_root}/proposals.json",
        captions=None if shards else f"{data_root}/captions.json",
        region_captions=None if shards else f"{data_root}/region_captions.json",
        num_images=num_images,
    )
)
train_cfg = dict(max_epochs=max_epochs)
param_scheduler = dict(end=max_epochs)
val_dataloader = dict(
    box_classification=dict(dataset=dict(data_root=val_root)),
    retrieval=dict(dataset=dict(data_root=val_root)),
)
test_dataloader = val_dataloader
