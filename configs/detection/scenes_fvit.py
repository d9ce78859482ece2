"""F-ViT on the built-in scenes: a tiny detector that trains in minutes on two CPU cores.

Data: python tools/make_scenes.py data/scenes. Weights: a CLIP trained on them by
configs/fineclip/scenes_*.py, both towers of which are read from pretrained=CHECKPOINT.
"""

_base_ = [
    "_base_/models/fvit_b-16.py",
    "_base_/datasets/scenes.py",
    "_base_/schedules/ov_coco.py",
    "_base_/runtime.py",
]

model_name = "ViT-Ti-8-scenes"
pretrained = "work_dirs/scenes_fineclip/epoch_20.pth"
strides = [4, 8, 16, 32]  # no object is so small that it would need a quarter of the patch
width = 128
embed_dim = 128
channels = 64
num_rois = 32
batch_size = 16
max_epochs = 2
warmup_iters = 50
lr = 1e-3
beta = 0.8
norm_cfg = dict(type="BN")

model = dict(
    data_preprocessor=dict(
        # CLIP's, as these towers were trained.
        mean=[122.771, 116.746, 104.094],
        std=[68.501, 66.632, 70.323],
        pad_size_divisor={{_base_.image_size}},
    ),
    backbone=dict(model=model_name, pretrained=pretrained, first_level=1, out_indices=(1, 2, 3)),
    neck=dict(in_channels=[width] * 3, out_channels=channels, num_outs=len(strides)),
    rpn_head=dict(
        in_channels=channels,
        feat_channels=channels,
        num_convs=1,
        anchor_generator=dict(scales=[6, 9, 13], ratios=[1.0], strides=strides),
    ),
    roi_head=dict(
        bbox_roi_extractor=dict(
            roi_layer=dict(sampling_ratio=1), out_channels=channels, featmap_strides=strides[:3]
        ),
        bbox_head=dict(
            in_channels=channels,
            conv_out_channels=channels,
            fc_out_channels=embed_dim,
            num_shared_convs=1,
            num_shared_fcs=1,
            vocabulary={{_base_.vocabulary}},
            class_embeddings=dict(model=model_name, pretrained=pretrained, templates="plain"),
            beta=beta,
            loss_cls=dict(class_weight={{_base_.vocabulary}}),
        ),
    ),
    train_cfg=dict(
        rpn=dict(sampler=dict(num=64)),
        rpn_proposal=dict(nms_pre=200, max_per_img=100),
        rcnn=dict(sampler=dict(num=num_rois)),
    ),
    test_cfg=dict(rpn=dict(nms_pre=200, max_per_img=50)),
)
train_dataloader = dict(batch_size=batch_size)
train_cfg = dict(max_epochs=max_epochs, val_interval=max_epochs)
optim_wrapper = dict(optimizer=dict(lr=lr))
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=warmup_iters),
    dict(
        type="CosineAnnealingLR",
        by_epoch=True,
        begin=0,
        end=max_epochs,
        T_max=max_epochs,
        convert_to_iter_based=True,
    ),
]
auto_scale_lr = dict(enable=False)
