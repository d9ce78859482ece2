"""F-ViT on OV-LVIS with OpenAI's CLIP ViT-B/16, refined by CLIPSelf.

The weights are a checkpoint of CLIPSelf's in any format that tools/convert_checkpoint.py knows:
--cfg-options pretrained=FILE. Not measured here: no GPU, no LVIS.
"""

_base_ = "./ov-lvis_vit-b-16_original.py"

pretrained = "checkpoints/clipself_vit-b-16.pt"

model = dict(backbone=dict(pretrained=pretrained))
