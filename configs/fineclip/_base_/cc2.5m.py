"""Pretraining on CC2.5M-style data (web images, machine-made regions), evaluated on COCO val2017.

Source: FineCLIP (NeurIPS 2024): 2.5 M images of CC3M, 10.4 M boxes proposed by YOLOv9 and captioned
by BLIP-2. The data were not published; any data in these files will do, below `data_root`:
    images/                       the images
    proposals.json                COCO format: images, annotations with bbox
    captions.json                 COCO captions format, one or more per image
    region_captions.json          {annotation id: caption}
COCO val2017 for the evaluation is looked for in `val_root`. Schedule as on COCO (the paper's own
for CC2.5M is not public). num_images=1000, 100_000 and 500_000 are the paper's subsets.
"""

_base_ = "./coco.py"

data_root = "data/cc2.5m"
train_split = "images"
annotations = "proposals.json"
captions = "captions.json"
region_captions = "region_captions.json"
val_root = "data/coco"
