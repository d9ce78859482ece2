"""F-ViT on OV-COCO with OpenAI's CLIP ViT-L/14-336, its original weights.

Source: F-ViT's settings (CLIPSelf, ICLR 2024); it has no detector on this tower.
Not measured here: no GPU, no COCO.
"""

_base_ = [
    "_base_/models/fvit_l-14.py",
    "_base_/datasets/ov_coco_896.py",
    "_base_/schedules/ov_coco.py",
    "_base_/runtime.py",
]

model_name = "ViT-L-14-336-quickgelu"
pretrained = "openai"
text_pretrained = "openai"

model = dict(
    data_preprocessor=dict(pad_size_divisor={{_base_.image_size}}),
    backbone=dict(model=model_name, pretrained=pretrained),
    roi_head=dict(
        bbox_head=dict(
            vocabulary={{_base_.vocabulary}},
            class_embeddings=dict(model=model_name, pretrained=text_pretrained),
            loss_cls=dict(class_weight={{_base_.vocabulary}}),
        )
    ),
)
