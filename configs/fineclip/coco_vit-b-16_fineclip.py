"""FineCLIP on COCO, OpenAI ViT-B/16 at 224 px.

Source: FineCLIP (NeurIPS 2024), ablation table: box Top1 48.4, Top5 75.6, I2T 62.2, T2I 47.6 with
the authors' region captions, 8 GPUs x 32. Not measured here: no GPU, no COCO.
Command: torchrun --nproc-per-node 8 tools/train.py configs/fineclip/coco_vit-b-16_fineclip.py
    --launcher pytorch --amp --cfg-options data_root=data/coco
Tiny CPU twin: the same with model_name=ViT-Ti-16 pretrained=None image_size=64 crop_size=64.
"""

_base_ = "_base_/coco.py"
