"""F-ViT on OV-LVIS with EVA02-CLIP-B/16, refined by RegionCLIP.

The weights are a checkpoint of RegionCLIP's in any format that tools/convert_checkpoint.py knows:
--cfg-options pretrained=FILE. Not measured here: no GPU, no LVIS.
"""

_base_ = "./ov-lvis_eva02-b-16_original.py"

pretrained = "checkpoints/regionclip_eva02-b-16.pt"

model = dict(backbone=dict(pretrained=pretrained))
