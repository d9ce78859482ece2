"""3 epochs at a constant rate; lr is for 8 GPUs x 8 images and scales with the true batch.

Source: F-ViT's release.
"""

max_epochs = 3
lr = 1e-4
warmup_iters = 250
loss_scale = 512.0  # with --amp fp16

train_cfg = dict(type="EpochBasedTrainLoop", max_epochs=max_epochs, val_interval=1)
val_cfg = dict(type="ValLoop")
test_cfg = dict(type="TestLoop")
optim_wrapper = dict(
    type="OptimWrapper",
    optimizer=dict(type="AdamW", lr=lr, betas=(0.9, 0.999), weight_decay=0.1),
    clip_grad=dict(max_norm=1.0, norm_type=2),
)
param_scheduler = [
    dict(type="LinearLR", start_factor=0.001, by_epoch=False, begin=0, end=warmup_iters),
]
auto_scale_lr = dict(enable=True, base_batch_size=64)
