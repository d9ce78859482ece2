"""Logging, checkpoints and hooks that every pretraining run shares."""

default_scope = "fineclip"
log_interval = 50  # steps; lines hold the time of a step, and as data_time its wait for data
load_from = None  # weights that a run starts from; frozen and averaged teachers do not see them
checkpoint_steps = None  # save every so many steps, resumable within an epoch; None: every epoch

default_hooks = dict(
    timer=dict(type="IterTimerHook"),
    logger=dict(type="CurvesHook", interval=log_interval),
    param_scheduler=dict(type="ParamSchedulerHook"),
    checkpoint=dict(
        type="CheckpointHook",
        interval=checkpoint_steps or 1,
        by_epoch=checkpoint_steps is None,
        max_keep_ckpts=3,
    ),
    sampler_seed=dict(type="DistSamplerSeedHook"),
)
visualizer = dict(
    type="Visualizer",
    vis_backends=[dict(type="LocalVisBackend"), dict(type="TensorboardVisBackend")],
)
log_processor = dict(window_size=log_interval, by_epoch=True)
fully_sharded = False  # several processes: divide the model between them (FSDP), not copy it
# An objective may leave a parameter without gradient: a region loss alone never uses the
# attention of the last block.
model_wrapper_cfg = dict(
    type="MMDistributedDataParallel", broadcast_buffers=False, find_unused_parameters=True
)
