"""F-ViT with masks on a ViT-B/16-sized tower, with OV-LVIS's settings.

Source: F-ViT's release. Beyond fvit_b-16.py: norm in the RPN, a mask head, other temperatures,
weights and thresholds.
"""

_base_ = "./fvit_b-16.py"

strides = [4, 8, 16, 32]
num_classes = 1203
channels = 256
beta = 0.6
norm_cfg = dict(type="BN")

model = dict(
    rpn_head=dict(norm_cfg=norm_cfg),
    roi_head=dict(
        bbox_head=dict(
            vlm_temperature=50.0,
            beta=beta,
            loss_cls=dict(bg_weight=0.9),
        ),
        mask_roi_extractor=dict(
            type="SingleRoIExtractor",
            roi_layer=dict(type="RoIAlign", output_size=14, sampling_ratio=0),
            out_channels=channels,
            featmap_strides=strides,
        ),
        mask_head=dict(
            type="FCNMaskHead",
            num_convs=4,
            in_channels=channels,
            conv_out_channels=channels,
            num_classes=num_classes,
            class_agnostic=True,
            norm_cfg=norm_cfg,
            loss_mask=dict(type="CrossEntropyLoss", use_mask=True, loss_weight=1.0),
        ),
    ),
    train_cfg=dict(rcnn=dict(assigner=dict(match_low_quality=True), mask_size=28)),
    test_cfg=dict(
        rcnn=dict(
            score_thr=1e-4,
            nms=dict(type="nms", iou_threshold=0.5),
            max_per_img=300,
            mask_thr_binary=0.5,
        )
    ),
)
