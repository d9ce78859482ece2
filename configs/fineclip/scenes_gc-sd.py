"""Global contrast and self-distillation on scenes (L_GC + L_SD)."""

_base_ = "_base_/scenes.py"

model = dict(
    objectives=[
        dict(type="GlobalContrastive"),
        dict(type="SelfDistillation"),
    ],
)
train_dataloader = dict(dataset=dict(fields=("texts", "boxes", "crops")))
