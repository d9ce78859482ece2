"""Evaluation of an OV-LVIS detector on COCO's 80 classes, without training: boxes.

    python tools/test.py configs/detection/coco-transfer_eva02-l-14-336.py CHECKPOINT

Any other vocabulary: --cfg-options vocabulary=F.json data_root=D val_annotations=A.json. Source:
F-ViT (CLIPSelf, ICLR 2024). Not measured here: no GPU, no COCO.
"""

_base_ = [
    "_base_/models/fvit_mask_l-14.py",
    "_base_/datasets/coco_transfer.py",
    "_base_/runtime.py",
]

model_name = "EVA02-L-14-336"
text_pretrained = "merged2b_s6b_b61k"
share = 0.2  # CLIP's exponent, of every class

model = dict(
    data_preprocessor=dict(pad_size_divisor={{_base_.image_size}}),
    backbone=dict(model=model_name, pretrained=None),  # the detector's checkpoint has the tower
    roi_head=dict(
        bbox_head=dict(
            vocabulary={{_base_.vocabulary}},
            class_embeddings=dict(model=model_name, pretrained=text_pretrained),
            keep_vocabulary=True,
            fixed_temperature=50.0,
            vlm_temperature=120.0,
            alpha=share,
            beta=share,
        ),
        mask_roi_extractor=None,
        mask_head=None,
    ),
)
test_cfg = dict(type="TestLoop")
