"""F-ViT on OV-LVIS with OpenAI's CLIP ViT-L/14-336, refined by CLIPSelf.

The weights are a checkpoint of CLIPSelf's in any format that tools/convert_checkpoint.py knows:
--cfg-options pretrained=FILE. Not measured here: no GPU, no LVIS.
"""

_base_ = "./ov-lvis_vit-l-14-336_original.py"

pretrained = "checkpoints/clipself_vit-l-14-336.pt"

model = dict(backbone=dict(pretrained=pretrained))
