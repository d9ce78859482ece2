"""SILC on COCO, OpenAI ViT-B/16.

Global contrast, and local views that predict an averaged teacher's global views.

Source: SILC (ECCV 2024), trained there from scratch on web data; effects it reports: COCO I2T 61.7
to 62.5, T2I 43.9 to 44.9, zero-shot segmentation ADE-150 15.0 to 17.2.
Not measured here; head and momentum are DINO's.
"""

_base_ = "_base_/coco.py"

num_prototypes = 65536
num_local = 6

model = dict(
    objectives=[
        dict(type="GlobalContrastive"),
        dict(type="LocalToGlobalDistillation", num_prototypes=num_prototypes),
    ],
    prototype_head=dict(num_prototypes=num_prototypes, hidden_dim=2048, bottleneck_dim=256),
)
train_dataloader = dict(
    dataset=dict(
        fields=("texts",),
        views=dict(
            num_global=2,
            num_local=num_local,
            global_size={{_base_.image_size}},
            local_size=96,
        ),
    )
)
custom_hooks = [
    dict(type="ClampLogitScaleHook"),
    dict(type="SkippedSamplesHook"),
    dict(type="EMATeacherHook", momentum=0.996, final_momentum=1.0),
]
