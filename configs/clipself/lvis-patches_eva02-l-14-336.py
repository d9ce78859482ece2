"""CLIPSelf: LVIS, image patches as regions, EVA02-CLIP-L/14 at 896 px.

Source: CLIPSelf (ICLR 2024) and its release (_base_/clipself.py).
Data: lvis_v1_train.json, of which images alone are read; evaluated on COCO val2017.
Expected (CLIPSelf's release, EVA02-CLIP-L/14 at 896 px, batch 16):
mask AP_r of F-ViT L/14 on OV-LVIS 34.9.
Not measured here: no GPU, no data.
Command: torchrun --nproc-per-node 8 tools/train.py
    configs/clipself/lvis-patches_eva02-l-14-336.py --launcher pytorch --amp fp16
    --cfg-options data_root=data/coco
"""

_base_ = "_base_/clipself_l.py"

regions = "grid"
annotations = "annotations/lvis_v1_train.json"
train_split = "."  # its images lie in train2017 and val2017
