"""Schedules from the amount of data."""

import pytest

from fineclip.configuration.recipes import recipe_for


@pytest.mark.parametrize(
    ("images", "epochs", "batch", "steps"),
    [
        (1, 100, 1, 100),
        (10, 98, 2, 490),
        (60, 40, 8, 320),  # detectron2's balloons: 61 images, 300 steps
        (1_000, 10, 8, 1_250),
        (100_000, 3, 8, 37_500),  # F-ViT's epochs
    ],
)
def test_many_passes_over_few_images(images, epochs, batch, steps):
    found = recipe_for(images, "detection")
    assert (found.epochs, found.batch_size, found.steps) == (epochs, batch, steps)
    assert 0 < found.warmup_steps <= max(0.1 * steps, 1) and found.warmup_steps <= 250
    assert 1 <= found.val_interval <= epochs


def test_every_size_has_a_schedule_that_grows_with_it():
    found = [recipe_for(images, "detection") for images in (2**n for n in range(20))]
    seen = [recipe.epochs * recipe.num_images for recipe in found]
    assert seen == sorted(seen)
    assert all(recipe.num_images >= recipe.batch_size >= 1 for recipe in found)


def test_heads_that_start_from_nothing_learn_faster_and_a_start_keeps_its_rate():
    assert recipe_for(60, "detection").lr == 5 * recipe_for(60, "detection", trained=True).lr
    assert recipe_for(60, "segmentation", trained=True, lr=0.5).lr == 0.5
    assert recipe_for(60, "pretraining").lr == 1e-5


def test_processes_share_a_batch_where_steps_would_become_few():
    few, many = (recipe_for(n, "detection", processes=8) for n in (60, 100_000))
    assert (few.batch_size, few.batch, few.steps) == (1, 8, 320)
    assert (many.batch_size, many.batch) == (8, 64)
    # As many images as processes at least, or the batch could not be shared.
    assert recipe_for(10, "segmentation", processes=4).solver()["SOLVER.IMS_PER_BATCH"] == 4


def test_what_is_said():
    found = recipe_for(60, "detection")
    assert found.said().startswith("60 images: 40 epochs of 8 steps of 8, learning rate 0.0005")
    assert found.said({"lr": 1}).endswith("; but for lr of the command line")
    assert recipe_for(1, "pretraining").said().startswith("1 image: 100 epochs of 1 step of 1")


def test_no_images():
    with pytest.raises(ValueError, match="no image"):
        recipe_for(0, "detection")
