"""F-ViT on OV-LVIS with EVA02-CLIP-L/14-336 at 896 px.

Source: F-ViT (CLIPSelf, ICLR 2024).
Refined start weights, in any format that tools/convert_checkpoint.py knows: --cfg-options
pretrained=FILE. Figures: configs/README.md; not measured here: no GPU, no LVIS.
"""

_base_ = "_base_/ov_lvis.py"

model_name = "EVA02-L-14-336"
pretrained = "merged2b_s6b_b61k"
text_pretrained = "merged2b_s6b_b61k"
strides = [3.5, 7, 14, 28, 56]
width = 1024
embed_dim = 768
taps = (6, 10, 14, 23)
image_size = 896
beta = 0.4  # 0.6 and 0.8 raise the rare classes' AP, says the release
