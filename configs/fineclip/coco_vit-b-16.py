"""COCO, OpenAI ViT-B/16 at 224 px: FineCLIP, or any other method.

Command: torchrun --nproc-per-node 8 tools/train.py configs/fineclip/coco_vit-b-16.py
    --launcher pytorch --amp --cfg-options data_root=data/coco method=fineclip
Tiny CPU twin: the same with model_name=ViT-Ti-16 pretrained=None image_size=64 crop_size=64.
Expected figures: configs/README.md has those of EVA02-CLIP-B/16, which the paper's rows start from.
Not measured here: no GPU, no COCO.
"""

_base_ = "_base_/coco.py"

model_name = "ViT-B-16-quickgelu"
pretrained = "openai"
