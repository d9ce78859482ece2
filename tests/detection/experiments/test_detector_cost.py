import pytest

pytest.importorskip("mmdet")

from detection.experiments.cost_benchmark import detector_cost, score_cost


@pytest.mark.parametrize("training", [True, False])
def test_a_detector_in_mixed_precision(training):
    found = detector_cost(
        "configs/detection/scenes_fvit.py",
        training=training,
        batch=1,
        image_size=64,
        steps=1,
        amp="bf16",
    )
    assert found["seconds_per_step"] > 0 and found["peak_bytes"] > found["activation_bytes"]
    assert found["model_flops"] > 1e9


def test_scores_of_many_classes():
    assert score_cost(30, boxes=4, width=8, steps=1)["seconds_per_step"] > 0
