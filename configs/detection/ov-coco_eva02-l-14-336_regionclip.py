"""F-ViT on OV-COCO with EVA02-CLIP-L/14-336, refined by RegionCLIP.

The weights are a checkpoint of RegionCLIP's in any format that tools/convert_checkpoint.py knows:
--cfg-options pretrained=FILE. Not measured here: no GPU, no COCO.
"""

_base_ = "./ov-coco_eva02-l-14-336_original.py"

pretrained = "checkpoints/regionclip_eva02-l-14-336.pt"

model = dict(backbone=dict(pretrained=pretrained))
