"""F-ViT with masks on a ViT-L/14-sized tower; otherwise as fvit_mask_b-16.py."""

_base_ = "./fvit_mask_b-16.py"

model_name = "EVA02-L-14-336"
pretrained = None
text_pretrained = None
strides = [3.5, 7, 14, 28, 56]
width = 1024
embed_dim = 768
taps = (6, 10, 14, 23)
beta = 0.4  # 0.6 and 0.8 raise the rare classes' AP, says the release

model = dict(
    backbone=dict(model=model_name, pretrained=pretrained, out_indices=taps),
    neck=dict(in_channels=[width] * 4),
    rpn_head=dict(anchor_generator=dict(strides=strides)),
    roi_head=dict(
        bbox_roi_extractor=dict(featmap_strides=strides[:4]),
        mask_roi_extractor=dict(featmap_strides=strides[:4]),
        bbox_head=dict(
            beta=beta,
            fc_out_channels=embed_dim,
            class_embeddings=dict(model=model_name, pretrained=text_pretrained),
        ),
    ),
)
