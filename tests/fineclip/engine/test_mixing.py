"""Trained and start weights mixed in what is evaluated and saved, and nowhere else."""

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from fineclip.engine import MixedWeightsHook

ALPHA = 0.7


class Model(nn.Module):
    """A CLIP of one trained and one frozen layer, and a head that has no start."""

    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.clip = nn.ModuleDict({"trained": nn.Linear(3, 2), "frozen": nn.Linear(3, 2)})
        self.clip["frozen"].requires_grad_(False)
        self.head = nn.Linear(3, 2)


def run(hook, model, resume=False):
    runner = SimpleNamespace(model=model, _resume=resume)
    hook.before_train(runner)
    return runner


def step(model):
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.mul_(1.5).add_(0.1)


def copy_of(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def mixed(start, trained):
    """As the release does it: every tensor of the CLIP."""
    return {
        name: ALPHA * value + (1 - ALPHA) * start[name] if name.startswith("clip") else value
        for name, value in trained.items()
    }


def assert_same(actual, expected):
    assert actual.keys() == expected.keys()
    for name, value in expected.items():
        torch.testing.assert_close(actual[name], value, msg=name)


@pytest.mark.parametrize("stage", ["val", "test"])
def test_the_mix_is_evaluated_and_training_goes_on_without_it(stage):
    model, hook = Model(), MixedWeightsHook(ALPHA)
    start, runner = copy_of(model), run(hook, model)
    step(model)
    trained = copy_of(model)
    getattr(hook, f"before_{stage}")(runner)
    assert_same(copy_of(model), mixed(start, trained))
    getattr(hook, f"after_{stage}")(runner)
    assert all(torch.equal(value, trained[name]) for name, value in copy_of(model).items())


def test_the_mix_is_saved_and_a_resumed_run_has_the_trained_weights(tmp_path):
    model, hook = Model(), MixedWeightsHook(ALPHA)
    start, runner = copy_of(model), run(hook, model)
    step(model)
    trained = copy_of(model)
    checkpoint = {"state_dict": model.state_dict()}
    hook.before_save_checkpoint(runner, checkpoint)
    torch.save(checkpoint, tmp_path / "c.pth")
    assert_same(copy_of(model), trained)
    saved = torch.load(tmp_path / "c.pth", weights_only=True)
    assert_same(saved["state_dict"], mixed(start, trained))

    again, other = MixedWeightsHook(ALPHA), Model()
    again.after_load_checkpoint(SimpleNamespace(_resume=True), saved)
    other.load_state_dict(saved["state_dict"])
    assert all(torch.equal(value, trained[name]) for name, value in copy_of(other).items())
    resumed = run(again, other, resume=True)
    step(other)
    step(model)
    continued = copy_of(other)
    again.before_val(resumed)
    hook.before_val(runner)
    assert_same(copy_of(other), mixed(start, continued))
    assert_same(copy_of(other), copy_of(model))


def test_other_runs_start_from_the_mix():
    model, hook = Model(), MixedWeightsHook(ALPHA)
    runner = run(hook, model)
    step(model)
    checkpoint = {"state_dict": model.state_dict()}
    hook.before_save_checkpoint(runner, checkpoint)
    before = checkpoint["state_dict"]
    MixedWeightsHook(0.5).after_load_checkpoint(SimpleNamespace(_resume=False), checkpoint)
    assert checkpoint["state_dict"] is before


def test_what_cannot_be_resumed_is_said():
    with pytest.raises(ValueError, match=r"did not mix its weights: resume with alpha=1\.0"):
        MixedWeightsHook(0.5).after_load_checkpoint(SimpleNamespace(_resume=True), {})
    with pytest.raises(ValueError, match="alpha: expected a number from 0 to 1, got 2"):
        MixedWeightsHook(2)


def test_without_training_the_weights_are_tested_as_they_are():
    model, hook = Model(), MixedWeightsHook(ALPHA)
    before, runner = copy_of(model), SimpleNamespace(model=model)
    hook.before_test(runner)
    assert all(torch.equal(value, before[name]) for name, value in copy_of(model).items())
    hook.after_test(runner)
