"""Region contrast alone on scenes (L_RC)."""

_base_ = "_base_/scenes.py"

model = dict(objectives=[dict(type="RegionContrastive")])
train_dataloader = dict(dataset=dict(fields=("boxes", "region_texts")))
