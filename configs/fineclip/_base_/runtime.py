"""Logging, checkpoints and hooks that every pretraining run shares."""

default_scope = "fineclip"
log_interval = 50

default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="LoggerHook", interval=log_interval),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(type="CheckpointHook", interval=1, max_keep_ckpts=3),
    sampler_seed=dict(type="DistSamplerSeedHook"),
)
custom_hooks = [dict(type="ClampLogitScaleHook"), dict(type="SkippedSamplesHook")]
visualizer = dict(
    type="Visualizer",
    vis_backends=[dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")],
)
log_processor = dict(window_size=log_interval, by_epoch=True)
# An objective may leave a parameter without gradient: a region loss alone never uses the
# attention of the last block.
model_wrapper_cfg = dict(
    type="MMDistributedDataParallel", broadcast_buffers=False, find_unused_parameters=True
)
