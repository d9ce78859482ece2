"""CLIPSelf's own recipe on COCO, EVA02-CLIP-B/16 at 1024 px, image patches as regions.

Source: CLIPSelf (ICLR 2024) and its release: 8 GPUs x 2, 6 epochs. Its figure is for F-ViT on
OV-COCO: novel AP50 33.6. Not measured here: no GPU, no COCO.
Proposals instead of patches: --cfg-options regions=boxes annotations=annotations/proposals.json
(novel AP50 37.6).

Departures: the release trains the transformer blocks alone, where here the whole image tower
trains, and it evaluates 0.7 x trained + 0.3 x start weights.
"""

_base_ = "_base_/coco.py"

method = "clipself"
model_name = "EVA02-B-16"
pretrained = "merged2b_s8b_b131k"
image_size = 1024
regions = "grid"
batch_size = 2
max_epochs = 6

train_dataloader = dict(
    dataset=dict(
        images=dict(
            transform=dict(resize="pad", interpolation="bicubic"),
            crop_transform=dict(resize="pad_center", interpolation="bicubic"),
        )
    )
)
val_dataloader = dict(
    box_classification=dict(dataset=dict(transform=dict(resize="pad"))),
    retrieval=dict(dataset=dict(transform=dict(resize="pad"))),
)
test_dataloader = val_dataloader
