"""F-ViT on OV-LVIS with EVA02-CLIP-L/14-336, its original weights.

Source: F-ViT (CLIPSelf, ICLR 2024). Not measured here: no GPU, no LVIS.
"""

_base_ = [
    "_base_/models/fvit_mask_l-14.py",
    "_base_/datasets/ov_lvis_896.py",
    "_base_/schedules/ov_lvis.py",
    "_base_/runtime.py",
]

model_name = "EVA02-L-14-336"
pretrained = "merged2b_s6b_b61k"
text_pretrained = "merged2b_s6b_b61k"

model = dict(
    data_preprocessor=dict(pad_mask=True, pad_size_divisor={{_base_.image_size}}),
    backbone=dict(model=model_name, pretrained=pretrained),
    roi_head=dict(
        bbox_head=dict(
            vocabulary={{_base_.vocabulary}},
            class_embeddings=dict(model=model_name, pretrained=text_pretrained),
            loss_cls=dict(class_weight={{_base_.vocabulary}}),
        )
    ),
)
