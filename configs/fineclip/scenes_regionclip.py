"""RegionCLIP on scenes: regions against a vocabulary of nouns.

The vocabulary holds the things and surfaces that captions speak of. Proposals carry no labels, so
each is labelled with the name nearest to its crop.
"""

_base_ = "_base_/scenes.py"

model = dict(
    objectives=[dict(type="RegionCLIPLoss")],
    trainable=("image",),
    vocabulary={{_base_.vocabulary}},
    templates="plain",
)
train_dataloader = dict(dataset=dict(fields=("boxes", "crops")))
