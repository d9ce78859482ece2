"""COCO, OpenAI ViT-B/16 at 224 px: FineCLIP, or any other method.

Command: torchrun --nproc-per-node 8 tools/train.py configs/fineclip/coco_vit-b-16.py
    --launcher pytorch --amp --cfg-options data_root=data/coco method=fineclip
Tiny CPU twin: the same with model_name=ViT-Ti-16 pretrained=None image_size=64 crop_size=64.
AdamW is what the release picks for a name with "vit": betas 0.9 and 0.98, eps 1e-6. No published
figure belongs to this file: the paper's rows start from EVA02-CLIP-B/16 (coco_eva02-b-16.py).
"""

_base_ = "_base_/coco.py"

model_name = "ViT-B-16-quickgelu"
pretrained = "openai"
