"""F-ViT on OV-COCO with OpenAI's CLIP ViT-L/14-336, refined by RegionCLIP.

The weights are a checkpoint of RegionCLIP's in any format that tools/convert_checkpoint.py knows:
--cfg-options pretrained=FILE. Not measured here: no GPU, no COCO.
"""

_base_ = "./ov-coco_vit-l-14-336_original.py"

pretrained = "checkpoints/regionclip_vit-l-14-336.pt"

model = dict(backbone=dict(pretrained=pretrained))
