"""CC2.5M-style data, OpenAI ViT-B/16 at 224 px.

Expected (FineCLIP, NeurIPS 2024, on COCO val2017); not measured here: no GPU, no such data.
    fineclip    2.5 M images: box Top1 50.7, I2T 54.5, T2I 40.2
    clip        1 000 images: box Top1 30.2, I2T 51.5
    clipself    1 000 images: box Top1 37.9, I2T 35.2
    regionclip  1 000 images: box Top1 35.0, I2T 19.4
"""

_base_ = "_base_/cc2.5m.py"

model_name = "ViT-B-16-quickgelu"
pretrained = "openai"
