"""FineCLIP on CC2.5M-style data, OpenAI ViT-B/16 at 224 px.

Source: FineCLIP (NeurIPS 2024), scaling figure: box Top1 50.7, I2T 54.5, T2I 40.2 on COCO val2017
after 2.5 M images. Not measured here: no GPU, the data are not public.
"""

_base_ = "_base_/cc2.5m.py"
