import math
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from fineclip.engine.logits import InitialLogitsHook


def runner(step, bias=True):
    clip = nn.Module()
    clip.logit_scale = nn.Parameter(torch.tensor(4.6))
    clip.logit_bias = nn.Parameter(torch.tensor(0.0)) if bias else None
    model = nn.Module()
    model.clip = nn.Module()
    model.clip.clip = clip
    return SimpleNamespace(model=model, iter=step)


def test_sets_siglips_values_in_front_of_the_first_step_only():
    first, resumed = runner(0), runner(1)
    for run in (first, resumed):
        InitialLogitsHook().before_train(run)
    clip = first.model.clip.clip
    assert (clip.logit_scale.item(), clip.logit_bias.item()) == (pytest.approx(math.log(10)), -10)
    clip = resumed.model.clip.clip
    assert (clip.logit_scale.item(), clip.logit_bias.item()) == (pytest.approx(4.6), 0)


def test_a_model_without_bias_is_explained():
    with pytest.raises(ValueError, match="create it with init_logit_bias"):
        InitialLogitsHook().before_train(runner(0, bias=False))
