import pytest

from segmentation.experiments.cost_benchmark import aggregation_cost, segmenter_cost


@pytest.mark.parametrize("training", [True, False])
def test_a_segmenter_in_mixed_precision(training):
    found = segmenter_cost(
        "ViT-Ti-16",
        training=training,
        batch=1,
        image_size=(64, 48),
        grid=2,
        train_vocabulary="voc20",
        vocabulary="voc20",
        network="tiny",
        steps=1,
        amp="bf16",
    )
    assert found["seconds_per_step"] > 0 and found["peak_bytes"] > found["activation_bytes"]
    assert found["model_flops"] > 1e8


def test_aggregation_of_more_classes_than_its_budget():
    found = aggregation_cost(300, grid=2, width=8, pad_length=4, network="tiny", steps=1)
    assert found["seconds_per_step"] > 0
