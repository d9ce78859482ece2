"""CLIPSelf: COCO, image patches as regions, EVA02-CLIP-L/14 at 896 px.

Source: CLIPSelf (ICLR 2024) and its release (_base_/clipself.py).
Data: instances_train2017.json, of which images alone are read.
Expected (CLIPSelf's release, EVA02-CLIP-L/14 at 896 px, batch 16):
novel AP50 of F-ViT L/14 on OV-COCO 38.4.
Not measured here: no GPU, no data.
Command: torchrun --nproc-per-node 8 tools/train.py
    configs/clipself/coco-patches_eva02-l-14-336.py --launcher pytorch --amp fp16
    --cfg-options data_root=data/coco
"""

_base_ = "_base_/clipself_l.py"

regions = "grid"
