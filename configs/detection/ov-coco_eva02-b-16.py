"""F-ViT on OV-COCO with EVA02-CLIP-B/16.

Source: F-ViT (CLIPSelf, ICLR 2024).
Refined start weights, in any format that tools/convert_checkpoint.py knows: --cfg-options
pretrained=FILE. Figures: configs/README.md; not measured here: no GPU, no COCO.
"""

_base_ = "_base_/ov_coco.py"

model_name = "EVA02-B-16"
pretrained = "merged2b_s8b_b131k"
text_pretrained = "merged2b_s8b_b131k"
