"""CLIPSelf on COCO, OpenAI ViT-B/16: regions imitate crops seen by the start weights.

Source: FineCLIP (NeurIPS 2024), competitor row: box Top1 43.7, Top5 72.3, I2T 33.3, T2I 21.2.
Not measured here.

As in the paper's table, data and schedule are those of all rows and regions are proposals;
CLIPSelf's own recipe is coco_eva02-b-16_clipself.py.
"""

_base_ = "_base_/coco.py"

model = dict(
    objectives=[dict(type="CLIPSelfDistillation")],
    trainable=("image",),
)
train_dataloader = dict(dataset=dict(fields=("boxes", "crops")))
