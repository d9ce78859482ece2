"""FineCLIP on CC2.5M-style data, OpenAI ViT-B/16 with SigLIP's sigmoid in place of both softmaxes.

Not in the paper; not measured here. Published softmax weights come with a scale of 100 and no bias,
so both start at SigLIP's values.
"""

_base_ = "_base_/cc2.5m.py"

model = dict(
    objectives=[
        dict(type="SigmoidGlobalContrastive"),
        dict(type="SigmoidRegionContrastive"),
        dict(type="SelfDistillation"),
    ],
    clip=dict(init_logit_bias=-10.0),
)
custom_hooks = [
    dict(type="InitialLogitsHook"),
    dict(type="ClampLogitScaleHook"),
    dict(type="SkippedSamplesHook"),
]
