"""CLIPSelf on scenes: regions imitate crops seen by the start weights."""

_base_ = "_base_/scenes.py"

model = dict(
    objectives=[dict(type="CLIPSelfDistillation")],
    trainable=("image",),
)
train_dataloader = dict(dataset=dict(fields=("boxes", "crops")))
