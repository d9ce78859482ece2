"""CLIPSelf: COCO, proposals as regions, EVA02-CLIP-B/16 at 1024 px.

Source: CLIPSelf (ICLR 2024) and its release (_base_/clipself.py).
Data: coco_proposals.json in data_root/annotations (docs/data.md).
Expected (CLIPSelf's release, EVA02-CLIP-B/16 at 1024 px, batch 16):
novel AP50 of F-ViT B/16 on OV-COCO 37.6.
Not measured here: no GPU, no data.
Command: torchrun --nproc-per-node 8 tools/train.py
    configs/clipself/coco-proposals_eva02-b-16.py --launcher pytorch --amp fp16
    --cfg-options data_root=data/coco
"""

_base_ = "_base_/clipself.py"

annotations = "annotations/coco_proposals.json"
