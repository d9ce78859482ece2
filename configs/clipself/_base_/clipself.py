"""CLIPSelf's own recipe, and its RegionCLIP baseline: what all of its runs share.

Source: CLIPSelf (ICLR 2024) and its release: 8 GPUs x 2, 6 epochs, the blocks of the image tower
train and nothing else does, regions at 1024 px (L/14: 896) imitate crops at 224 px (336) seen by
the start weights. Images are resized to the longest side and padded, bicubic, in training and
validation. Weights that are evaluated and saved are a mix with the start weights. The release
trains in fp16: --amp fp16 (or plain --amp, bf16).
"""

_base_ = "../../fineclip/_base_/coco.py"

method = "clipself"
model_name = "EVA02-B-16"
pretrained = "merged2b_s8b_b131k"
image_size = 1024
unlocked_groups = 12  # all blocks
alpha = 0.7
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
    box_classification=dict(dataset=dict(transform=dict(resize="pad", interpolation="bicubic"))),
    retrieval=dict(dataset=dict(transform=dict(resize="pad", interpolation="bicubic"))),
)
test_dataloader = val_dataloader
