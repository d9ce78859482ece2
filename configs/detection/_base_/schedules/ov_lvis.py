"""48 epochs, a tenth of the rate after 32 and 44; otherwise as ov_coco.py.

Source: F-ViT's release.
"""

_base_ = "./ov_coco.py"

max_epochs = 48
warmup_iters = 250
steps = [32, 44]

train_cfg = dict(max_epochs=max_epochs, val_interval=12)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=warmup_iters),
    dict(type="MultiStepLR", by_epoch=True, begin=0, end=max_epochs, milestones=steps, gamma=0.1),
]
