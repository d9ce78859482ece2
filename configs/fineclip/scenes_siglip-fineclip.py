"""FineCLIP on scenes with SigLIP's sigmoid in place of both softmaxes.

Not in the paper. The scale continues from the start weights; load them with load_from, as they hold
no bias.
"""

_base_ = "_base_/scenes.py"

model = dict(
    objectives=[
        dict(type="SigmoidGlobalContrastive"),
        dict(type="SigmoidRegionContrastive"),
        dict(type="SelfDistillation"),
    ],
    clip=dict(init_logit_bias=-10.0),
)
