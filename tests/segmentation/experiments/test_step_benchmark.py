"""The split of a training step accounts for all of its time, forward and backward."""

import json

import pytest
from tool_runs import load_tool

from segmentation.experiments.inference_benchmark import InferenceSettings
from segmentation.experiments.networks import NETWORKS
from segmentation.experiments.step_benchmark import STAGES, benchmark_step, step_split


def test_stages_of_a_step():
    settings = InferenceSettings(
        *["lean", "ViT-Ti-16", "voc20", 4, 32, 40, 2],
        sliding_window=False,
        network=NETWORKS["tiny"],
    )
    result = benchmark_step(settings, repeats=1)
    seconds = result["seconds"]
    assert list(seconds) == list(STAGES)
    assert sum(sum(ways.values()) for ways in seconds.values()) == pytest.approx(result["total"])
    for stage, ways in seconds.items():
        assert ways["forward"] > 0, stage
        if stage not in ("optimizer", "other"):
            assert ways["backward"] > 0, stage
    assert step_split(result).count("\n") == len(STAGES) + 2
    json.dumps(result)


def test_a_step_is_measured_as_the_recipe_trains():
    args = load_tool("benchmark_segmentation.py").parse_args(["--training-step"])
    assert (args.vocabulary, args.image_size) == ("coco_stuff171", (384, 384))
