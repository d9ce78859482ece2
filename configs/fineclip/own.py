"""FineCLIP, or any other method, on data of one's own: images, boxes and captions of a data.yaml.

    python tools/train.py configs/fineclip/own.py --data my/data.yaml --amp
    python tools/train.py configs/fineclip/own.py --data my/data.yaml \
        --cfg-options start=work_dirs/coco_vit-b-16_fineclip

start is a CLIP: the work dir of a training, a checkpoint in any known format, or a tag of
open_clip's. Of a work dir, model and sizes are known; else model_name= says which CLIP it is.
Epochs, batch, rate and warmup follow from the number of images
(fineclip/configuration/recipes.py) and are said before training; any can be set. Weights are
mixed with those of the start, as CLIPSelf (ICLR 2024) does it, which a small data set needs more
than a large one. Without region captions, names of classes stand in. Not measured on data other
than the scenes.
"""

_base_ = "_base_/coco.py"

recipe = "pretraining"
start = "openai"
model_name = "ViT-B-16-quickgelu"
pretrained = start
# Set by --data; these are what tools/import_data.py writes, and the schedule of 1 000 images.
data_root = "data/my"
annotations = "annotations/instances_train.json"
captions = "annotations/captions_train.json"
train_split = "train"
val_split = "val"
vocabulary = f"{data_root}/data.yaml"
max_epochs = 10
val_interval = 3
warmup_iters = 32
alpha = 0.7
num_workers = 2
log_interval = 10
default_hooks = dict(checkpoint=dict(interval=val_interval, max_keep_ckpts=1))
