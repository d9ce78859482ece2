"""CC2.5M-style data, OpenAI ViT-B/16 at 224 px.

No published figure belongs to this file: the paper's rows start from EVA02-CLIP-B/16
(cc2.5m_eva02-b-16.py).
"""

_base_ = "_base_/cc2.5m.py"

model_name = "ViT-B-16-quickgelu"
pretrained = "openai"
