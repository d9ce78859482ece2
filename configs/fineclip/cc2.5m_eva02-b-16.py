"""CC2.5M-style data, EVA02-CLIP-B/16 at 224 px.

Expected (FineCLIP, NeurIPS 2024; EVA02-CLIP-B/16 trained on its CC2.5M, whose batch is not
published, evaluated on COCO val2017): box Top1 50.7, I2T 54.5, T2I 40.2 after 2.5 M images; other
methods: configs/README.md. Not measured here: no GPU, no such data.
"""

_base_ = "_base_/cc2.5m.py"

model_name = "EVA02-B-16"
pretrained = "merged2b_s8b_b131k"
