"""Region contrast alone on COCO, OpenAI ViT-B/16 (L_RC).

Source: FineCLIP (NeurIPS 2024), ablation row L_RC: box Top1 45.5, Top5 72.0, I2T 39.5, T2I 30.4.
Not measured here.
"""

_base_ = "_base_/coco.py"

model = dict(objectives=[dict(type="RegionContrastive")])
train_dataloader = dict(dataset=dict(fields=("boxes", "region_texts")))
