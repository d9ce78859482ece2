"""CC2.5M-style data, OpenAI ViT-B/16 at 224 px.

Expected figures: configs/README.md has those of EVA02-CLIP-B/16, which the paper's rows start from.
Not measured here: no GPU, no such data.
"""

_base_ = "_base_/cc2.5m.py"

model_name = "ViT-B-16-quickgelu"
pretrained = "openai"
