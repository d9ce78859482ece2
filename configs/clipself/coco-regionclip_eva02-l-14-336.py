"""RegionCLIP as CLIPSelf compares with it: COCO, EVA02-CLIP-L/14 at 896 px.

Source: CLIPSelf (ICLR 2024) and its release (_base_/clipself.py).
Data: coco_proposals.json in data_root/annotations (docs/data.md). The release's nouns and labels
(coco_pseudo_4764.json) are not published: nouns are those of vocabulary=, and the start weights
label the boxes.
No published figure belongs to this file. Not measured here.
Command: torchrun --nproc-per-node 8 tools/train.py
    configs/clipself/coco-regionclip_eva02-l-14-336.py --launcher pytorch --amp fp16
    --cfg-options data_root=data/coco
"""

_base_ = "_base_/clipself_l.py"

method = "regionclip"
annotations = "annotations/coco_proposals.json"
