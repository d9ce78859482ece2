"""F-ViT on OV-COCO with OpenAI's CLIP ViT-B/16, refined by FineCLIP.

The weights are a checkpoint of FineCLIP's in any format that tools/convert_checkpoint.py knows:
--cfg-options pretrained=FILE. Not measured here: no GPU, no COCO.
"""

_base_ = "./ov-coco_vit-b-16_original.py"

pretrained = "checkpoints/fineclip_vit-b-16.pt"

model = dict(backbone=dict(pretrained=pretrained))
