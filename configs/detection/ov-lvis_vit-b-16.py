"""F-ViT on OV-LVIS with OpenAI's CLIP ViT-B/16.

Source: F-ViT's settings (CLIPSelf, ICLR 2024); it has no detector on this tower.
Refined start weights, in any format that tools/convert_checkpoint.py knows: --cfg-options
pretrained=FILE. No published figure belongs to this file. Not measured here: no GPU, no LVIS.
"""

_base_ = "_base_/ov_lvis.py"

model_name = "ViT-B-16-quickgelu"
pretrained = "openai"
text_pretrained = "openai"
