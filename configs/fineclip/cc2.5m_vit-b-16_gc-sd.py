"""Global contrast and self-distillation on CC2.5M-style data, OpenAI ViT-B/16 (L_GC + L_SD).

No published figure on these data. Not measured here.
"""

_base_ = "_base_/cc2.5m.py"

model = dict(
    objectives=[
        dict(type="GlobalContrastive"),
        dict(type="SelfDistillation"),
    ],
)
train_dataloader = dict(dataset=dict(fields=("texts", "boxes", "crops")))
