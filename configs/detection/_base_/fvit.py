"""F-ViT, boxes alone, with OV-COCO's settings; sizes are those of a ViT-B/16.

Images leave the pipeline at most image_size a side; the data preprocessor makes them square after
normalising (what F-ViT calls padding to the square).

Source: F-ViT (CLIPSelf, ICLR 2024, sec. 4.2) and its release's configs.
"""

model_name = ...
pretrained = ...  # image tower: a tag of open_clip's, or any checkpoint with a CLIP image tower
text_pretrained = ...  # text tower of the class embeddings: a tag or checkpoint of the same model
vocabulary = ...
image_size = ...
with_mask = False
strides = [4, 8, 16, 32, 64]  # a quarter, a half, once, twice and four times the patch
width = 768  # of the tower's tokens
embed_dim = 512  # of the CLIP
taps = (3, 5, 7, 11)  # blocks, counted from 0
channels = 256  # of the pyramid that the FPN makes, and of the heads
num_proposals = 1000
num_rois = 512  # proposals per image that train the box head
beta = 0.8  # share of CLIP's score of novel classes
norm_cfg = dict(type="BN")
norm_eval = False  # batch norms keep their statistics while training

model = dict(
    type="FViT",
    norm_eval=norm_eval,
    data_preprocessor=dict(
        type="DetDataPreprocessor",
        # ImageNet's, not CLIP's: what the released detectors were trained with.
        mean=[123.675, 116.28, 103.53],
        std=[58.395, 57.12, 57.375],
        bgr_to_rgb=True,
        pad_mask=with_mask,
        pad_size_divisor=image_size,
    ),
    backbone=dict(
        type="FViTBackbone",
        model=model_name,
        pretrained=pretrained,
        out_indices=taps,
        norm_cfg=norm_cfg,
    ),
    neck=dict(
        type="FPN",
        in_channels=[width] * len(taps),
        out_channels=channels,
        num_outs=len(strides),
        norm_cfg=norm_cfg,
    ),
    rpn_head=dict(
        type="FViTRPNHead",
        in_channels=channels,
        feat_channels=channels,
        num_convs=2,
        anchor_generator=dict(
            type="AnchorGenerator", scales=[8], ratios=[0.5, 1.0, 2.0], strides=strides
        ),
        bbox_coder=dict(type="DeltaXYWHBBoxCoder"),
        loss_cls=dict(type="CrossEntropyLoss", use_sigmoid=True, loss_weight=1.0),
        loss_bbox=dict(type="L1Loss", loss_weight=1.0),
    ),
    roi_head=dict(
        type="FViTRoIHead",
        bbox_roi_extractor=dict(
            type="SingleRoIExtractor",
            roi_layer=dict(type="RoIAlign", output_size=7, sampling_ratio=0),
            out_channels=channels,
            featmap_strides=strides[: len(taps)],
        ),
        bbox_head=dict(
            type="FViTBBoxHead",
            in_channels=channels,
            conv_out_channels=channels,
            fc_out_channels=embed_dim,
            roi_feat_size=7,
            vocabulary=vocabulary,
            class_embeddings=dict(model=model_name, pretrained=text_pretrained),
            learned_temperature=50.0,
            vlm_temperature=75.0,
            alpha=0.1,
            beta=beta,
            norm_cfg=norm_cfg,
            bbox_coder=dict(type="DeltaXYWHBBoxCoder", target_stds=[0.1, 0.1, 0.2, 0.2]),
            loss_cls=dict(type="ClassMaskedCrossEntropy", bg_weight=0.6, class_weight=vocabulary),
            loss_bbox=dict(type="L1Loss", loss_weight=1.0),
        ),
    ),
    train_cfg=dict(
        rpn=dict(
            assigner=dict(
                type="MaxIoUAssigner",
                pos_iou_thr=0.7,
                neg_iou_thr=0.3,
                min_pos_iou=0.3,
                match_low_quality=True,
                ignore_iof_thr=-1,
            ),
            sampler=dict(
                type="ImageSeededSampler",
                num=256,
                pos_fraction=0.5,
                neg_pos_ub=-1,
                add_gt_as_proposals=False,
            ),
            allowed_border=-1,
            pos_weight=-1,
            debug=False,
        ),
        rpn_proposal=dict(
            nms_pre=2000,
            max_per_img=num_proposals,
            nms=dict(type="nms", iou_threshold=0.7),
            min_bbox_size=0,
        ),
        rcnn=dict(
            assigner=dict(
                type="MaxIoUAssigner",
                pos_iou_thr=0.5,
                neg_iou_thr=0.5,
                min_pos_iou=0.5,
                match_low_quality=False,
                ignore_iof_thr=-1,
            ),
            sampler=dict(
                type="ImageSeededSampler",
                num=num_rois,
                pos_fraction=0.25,
                neg_pos_ub=-1,
                add_gt_as_proposals=True,
            ),
            pos_weight=-1,
            debug=False,
        ),
    ),
    test_cfg=dict(
        rpn=dict(
            nms_pre=2000,
            max_per_img=num_proposals,
            nms=dict(type="nms", iou_threshold=0.7),
            min_bbox_size=0,
        ),
        rcnn=dict(score_thr=0.01, nms=dict(type="nms", iou_threshold=0.4), max_per_img=100),
    ),
)
