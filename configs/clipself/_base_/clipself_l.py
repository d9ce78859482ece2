"""CLIPSelf's own recipe for L/14: what differs from B/16 (clipself.py)."""

_base_ = "clipself.py"

model_name = "EVA02-L-14-336"
pretrained = "merged2b_s6b_b61k"
image_size = 896
crop_size = 336
unlocked_groups = 24
alpha = 0.95
