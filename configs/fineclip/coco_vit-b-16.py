"""COCO, OpenAI ViT-B/16 at 224 px: FineCLIP, and the rows of its tables by method=NAME.

Command: torchrun --nproc-per-node 8 tools/train.py configs/fineclip/coco_vit-b-16.py
    --launcher pytorch --amp --cfg-options data_root=data/coco method=fineclip
Tiny CPU twin: the same with model_name=ViT-Ti-16 pretrained=None image_size=64 crop_size=64.
Expected, published with the authors' region captions on 8 GPUs x 32 (FineCLIP, NeurIPS 2024,
ablation and competitor tables), box Top1, Top5, I2T, T2I; not measured here: no GPU, no COCO.
    fineclip    48.4  75.6  62.2  47.6
    clip        42.3        62.4
    rc          45.5  72.0  39.5  30.4
    sd           0.0   0.0   0.0   0.1
    gc-sd       43.7  72.9  60.0  47.1
    clipself    43.7  72.3  33.3  21.2
    regionclip  40.0  65.3  25.1  31.2
SILC (ECCV 2024) reports from scratch on web data: I2T 61.7 to 62.5, T2I 43.9 to 44.9, zero-shot
segmentation of ADE-150 15.0 to 17.2.
"""

_base_ = "_base_/coco.py"

model_name = "ViT-B-16-quickgelu"
pretrained = "openai"
