"""CC2.5M-style data, EVA02-CLIP-L/14 at 336 px.

Source: FineCLIP (NeurIPS 2024); its settings for CC2.5M are not published, batch and boxes are
those of its run on COCO. Expected (EVA02-CLIP-L/14 on its CC2.5M, batch not published) with F-ViT
L/14 on OV-COCO: novel AP50 40.0.
Not measured here: no GPU, no such data.
"""

_base_ = "_base_/cc2.5m.py"

model_name = "EVA02-L-14-336"
pretrained = "merged2b_s6b_b61k"
image_size = 336
crop_size = 336
max_boxes = 5
batch_size = 10
