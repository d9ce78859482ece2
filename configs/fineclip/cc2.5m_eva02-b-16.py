"""CC2.5M-style data, EVA02-CLIP-B/16 at 224 px. Not measured here."""

_base_ = "_base_/cc2.5m.py"

model_name = "EVA02-B-16"
pretrained = "merged2b_s8b_b131k"
