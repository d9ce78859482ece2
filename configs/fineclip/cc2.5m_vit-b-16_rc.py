"""Region contrast alone on CC2.5M-style data, OpenAI ViT-B/16 (L_RC).

No published figure on these data. Not measured here.
"""

_base_ = "_base_/cc2.5m.py"

model = dict(objectives=[dict(type="RegionContrastive")])
train_dataloader = dict(dataset=dict(fields=("boxes", "region_texts")))
