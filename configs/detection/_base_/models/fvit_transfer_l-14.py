"""An OV-LVIS detector with EVA02-CLIP-L/14-336, boxes alone, on another vocabulary.

A config that joins this with a data set sets the vocabulary, pad_size_divisor, and one value for
alpha and beta. Source: F-ViT's transfer evaluation (CLIPSelf, ICLR 2024).
"""

_base_ = "./fvit_mask_l-14.py"

model_name = "EVA02-L-14-336"
text_pretrained = "merged2b_s6b_b61k"

model = dict(
    backbone=dict(model=model_name, pretrained=None),  # the detector's checkpoint has the tower
    roi_head=dict(
        bbox_head=dict(
            class_embeddings=dict(model=model_name, pretrained=text_pretrained),
            keep_vocabulary=True,
            fixed_temperature=50.0,
            vlm_temperature=120.0,
        ),
        mask_roi_extractor=None,
        mask_head=None,
    ),
)
test_cfg = dict(type="TestLoop")
