"""Transfer to COCO val2017: all 80 classes, boxes, no training; any other vocabulary fits as well.

Source: F-ViT (CLIPSelf, ICLR 2024), the OV-LVIS ViT-L/14 detector at 896 px.
"""

data_root = "data/coco"
val_annotations = "annotations/instances_val2017.json"
val_images = "val2017/"
vocabulary = "coco"
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
