"""Logging, checkpoints and imports that every detection run shares."""

default_scope = "mmdet"
custom_imports = dict(imports=["detection"])
log_interval = 50
seed = ...
checkpoint_steps = None  # save every so many steps, resumable within an epoch; None: every epoch

default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="fineclip.CurvesHook", interval=log_interval),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(
        type="CheckpointHook",
        interval=checkpoint_steps or 1,
        by_epoch=checkpoint_steps is None,
        max_keep_ckpts=3,
    ),
    sampler_seed=dict(type="DistSamplerSeedHook"),
    visualization=dict(type="DetVisualizationHook"),
)
custom_hooks = [dict(type="fineclip.SkippedSamplesHook")]
visualizer = dict(
    type="DetLocalVisualizer",
    name="visualizer",
    vis_backends=[dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")],
)
log_processor = dict(type="LogProcessor", window_size=log_interval, by_epoch=True)
randomness = dict(seed=seed)
env_cfg = dict(mp_cfg=dict(mp_start_method="fork", opencv_num_threads=0))
sync_bn = (
    None  # "torch": batch norms of all GPUs use the statistics of all; CPUs have no such kernel
)
