"""CLIPSelf on CC2.5M-style data, OpenAI ViT-B/16: regions imitate crops seen by the start weights.

Source: FineCLIP (NeurIPS 2024), 1 000 samples: box Top1 37.9, I2T 35.2.
Not measured here.

As in the paper's table, data and schedule are those of all rows and regions are proposals;
CLIPSelf's own recipe is coco_eva02-b-16_clipself.py.
"""

_base_ = "_base_/cc2.5m.py"

model = dict(
    objectives=[dict(type="CLIPSelfDistillation")],
    trainable=("image",),
)
train_dataloader = dict(dataset=dict(fields=("boxes", "crops")))
