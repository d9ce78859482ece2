"""Transfer to Objects365 v1 val: 365 classes, boxes, no training.

Source: F-ViT (CLIPSelf, ICLR 2024), the OV-LVIS ViT-L/14 detector at 896 px. Data: the COCO-format
annotations of the release; its file lists categories out of order, classes are matched by name.
"""

data_root = "data/objects365v1"
val_annotations = "annotations/objects365_val.json"
val_images = "val/"
vocabulary = "objects365v1"
image_size = 896
num_workers = 4

test_pipeline = [
    dict(type="LoadImageFromFile"),
    dict(type="Resize", scale=(image_size, image_size), keep_ratio=True),
    dict(type="LoadAnnotations", with_bbox=True),
    dict(
        type="PackDetInputs",
        meta_keys=("img_id", "img_path", "ori_shape", "img_shape", "scale_factor"),
    ),
]

test_dataloader = dict(
    batch_size=1,
    num_workers=num_workers,
    persistent_workers=num_workers > 0,
    drop_last=False,
    sampler=dict(type="DefaultSampler", shuffle=False),
    dataset=dict(
        type="OpenVocabularyCocoDataset",
        vocabulary=vocabulary,
        data_root=data_root,
        ann_file=val_annotations,
        data_prefix=dict(img=val_images),
        test_mode=True,
        pipeline=test_pipeline,
    ),
)
test_evaluator = dict(
    type="OpenVocabularyCocoMetric", ann_file=f"{data_root}/{val_annotations}", metric="bbox"
)
