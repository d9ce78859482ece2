"""COCO, EVA02-CLIP-L/14 at 336 px.

Source: FineCLIP's release, 8 GPUs x 10 with up to 5 boxes an image, 10 epochs. Not measured here.
"""

_base_ = "_base_/coco.py"

model_name = "EVA02-L-14-336"
pretrained = "merged2b_s6b_b61k"
image_size = 336
crop_size = 336
max_boxes = 5
batch_size = 10
