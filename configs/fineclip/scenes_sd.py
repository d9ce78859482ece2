"""Self-distillation alone on scenes (L_SD): it collapses."""

_base_ = "_base_/scenes.py"

model = dict(objectives=[dict(type="SelfDistillation")])
train_dataloader = dict(dataset=dict(fields=("boxes", "crops")))
