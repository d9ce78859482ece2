"""COCO, EVA02-CLIP-B/16 at 224 px: the model of FineCLIP's paper and release, and their tables.

Source: FineCLIP (NeurIPS 2024) and its release, 8 GPUs x 32, 10 epochs.
Command: torchrun --nproc-per-node 8 tools/train.py configs/fineclip/coco_eva02-b-16.py
    --launcher pytorch --amp --cfg-options data_root=data/coco method=fineclip
Expected (EVA02-CLIP-B/16 trained on COCO train2017 at batch 256 with the release's boxes and
region captions, evaluated on val2017): box Top1 48.4, Top5 75.6, I2T 62.2, T2I 47.6; other methods:
configs/README.md. They take annotations=annotations/coco_proposals.json and
region_captions=annotations/coco_captions.json (docs/data.md). Not measured here: no GPU, no COCO.
"""

_base_ = "_base_/coco.py"

model_name = "EVA02-B-16"
pretrained = "merged2b_s8b_b131k"
