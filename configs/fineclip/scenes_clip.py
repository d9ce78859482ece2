"""A tiny CLIP from scratch on scenes, with the global contrastive loss alone."""

_base_ = "_base_/scenes.py"

model = dict(objectives=[dict(type="GlobalContrastive")])
train_dataloader = dict(dataset=dict(fields=("texts",)))
