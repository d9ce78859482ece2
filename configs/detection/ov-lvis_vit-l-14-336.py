"""F-ViT on OV-LVIS with OpenAI's CLIP ViT-L/14-336 at 896 px.

Source: F-ViT's settings (CLIPSelf, ICLR 2024); it has no detector on this tower.
Refined start weights, in any format that tools/convert_checkpoint.py knows: --cfg-options
pretrained=FILE. No published figure belongs to this file. Not measured here: no GPU, no LVIS.
"""

_base_ = "./ov-lvis_eva02-l-14-336.py"

model_name = "ViT-L-14-336-quickgelu"
pretrained = "openai"
text_pretrained = "openai"
