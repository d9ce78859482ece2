"""Self-distillation alone on COCO, OpenAI ViT-B/16 (L_SD): it collapses.

Source: FineCLIP (NeurIPS 2024), ablation row L_SD: box Top1 0.0, Top5 0.0, I2T 0.0, T2I 0.1.
Not measured here.
"""

_base_ = "_base_/coco.py"

model = dict(objectives=[dict(type="SelfDistillation")])
train_dataloader = dict(dataset=dict(fields=("boxes", "crops")))
