"""The built-in scenes: a tiny CLIP that trains in minutes on two CPU cores.

Data: python tools/make_scenes.py data/scenes. Images are 64 px, crops 32 px, both towers train.
Command: python tools/train.py configs/fineclip/scenes.py --cfg-options method=clip, and from its
checkpoint any other method, with pretrained=CHECKPOINT; siglip-fineclip, whose bias softmax
weights lack, with load_from=CHECKPOINT. Figures: the table of tools/ablate.py.
"""

_base_ = "_base_/coco.py"

model_name = "ViT-Ti-8-scenes"
pretrained = None
image_size = 64
crop_size = 32
max_boxes = 4
max_epochs = 20
val_interval = max_epochs
warmup_iters = 50
lr = 1e-3
betas = (0.9, 0.98)
chunk_sizes = None  # a tiny model fits
num_workers = 0
backend = "pil"  # as fast as "tensor" for images this small
trainable = ("image", "text", "logit_scale")
restart_logits = False  # the scale continues from the start weights
num_prototypes = 1024
prototype_hidden = 256
prototype_width = 64
local_size = 32

data_root = "data/scenes"
train_split = "train"
annotations = "annotations/proposals_train.json"
captions = "annotations/captions_train.json"
region_captions = "annotations/region_captions_train.json"
val_split = "val"
vocabulary = f"{data_root}/vocabulary.json"  # things and surfaces that captions speak of
templates = "plain"

optim_wrapper = dict(clip_grad=dict(max_norm=1.0))
default_hooks = dict(checkpoint=dict(max_keep_ckpts=1))
