import numpy as np
import pytest
import torch

from fineclip.experiments import explanations
from fineclip.experiments.explanations import (
    area_under,
    mean_measures,
    measure_batch,
    patches_in_boxes,
    perturbation_curves,
    points_inside,
)
from fineclip.models import DenseCLIP


def test_a_patch_is_in_a_box_where_its_centre_is():
    boxes = torch.tensor([[0.0, 0.0, 0.3, 0.5], [0.7, 0.6, 1.0, 1.0]])
    inside = patches_in_boxes(boxes, (2, 4))
    assert inside.tolist() == [[True, False, False, False], [False, False, False, True]]
    assert not patches_in_boxes(torch.zeros(0, 4), (2, 4)).any()


def test_the_most_relevant_patch_points():
    inside = torch.tensor([[[True, False]], [[True, False]], [[True, False]]])
    maps = torch.tensor([[[0.2, 0.1]], [[0.1, 0.2]], [[0.0, 0.0]]])
    assert points_inside(maps, inside).tolist() == [True, False, False]


def test_area_under_a_straight_line_is_a_half():
    curves = torch.stack([torch.linspace(0, 1, 5), torch.ones(5)])
    assert area_under(curves).tolist() == [0.5, 1]


class Brightness:
    """Says how bright the left and the right half of two patches are."""

    patch_size, logit_scale = (2, 2), torch.tensor(0.0)

    def encode_image(self, images):
        return torch.stack([images[..., :2].mean((1, 2, 3)), images[..., 2:].mean((1, 2, 3))], 1)


def test_patches_are_shown_and_hidden_in_order_of_relevance():
    images, maps = torch.ones(2, 3, 2, 4), torch.tensor([[[0.9, 0.1]], [[0.1, 0.9]]])
    label = torch.tensor([0, 0])
    found = perturbation_curves(Brightness(), images, maps, torch.eye(2), label, steps=2)
    high = torch.sigmoid(torch.tensor(1.0)).item()
    insertion, deletion = (curves.tolist() for curves in found)
    assert insertion[0] == pytest.approx([0.5, high, 0.5])  # the left patch alone is shown
    assert insertion[1] == pytest.approx([0.5, 1 - high, 0.5])
    assert deletion[0] == pytest.approx([0.5, 1 - high, 0.5])
    assert deletion[1] == pytest.approx([0.5, high, 0.5])


@pytest.mark.parametrize("against", [False, True])
def test_each_category_of_each_image_is_measured_once(against):
    torch.manual_seed(0)
    clip = DenseCLIP.create("ViT-Ti-16").eval()
    classes = torch.nn.functional.normalize(torch.randn(3, clip.embed_dim), dim=1)
    batch = {
        "images": torch.randn(2, 3, 32, 32),
        "boxes": torch.tensor(
            [[0.0, 0, 1, 1], [0, 0, 0.5, 0.5], [0.5, 0.5, 1, 1], [0, 0, 0.1, 0.1]]
        ),
        "region_image": torch.tensor([0, 1, 1, 1]),
        "data_samples": [{"labels": np.array([2])}, {"labels": np.array([1, 1, 0])}],
    }
    rows = list(measure_batch(clip, batch, classes, against=against, steps=2))
    assert [(category, values["chance"]) for category, values in rows] == [
        (2, 1.0),
        (0, 0.0),
        (1, 0.5),
    ]
    assert rows[0][1]["pointing"] == 1 and rows[1][1]["pointing"] == 0
    assert all(0 < values["insertion"] < 1 for _, values in rows)


def test_means_leave_out_boxes_that_no_patch_hits():
    def row(pointing, chance, insertion):
        values = (pointing, chance, insertion, 0.5)
        return dict(zip(explanations.MEASURES, values, strict=True))

    rows = [(0, row(1, 0.5, 0.2)), (1, row(0, 0.25, 0.4)), (1, row(0, 0, 0.9))]
    groups = {"base": np.array([True, False, False]), "novel": np.array([False, True, False])}
    found = mean_measures(rows, groups)
    assert (found["pairs"], found["too_small"]) == (3, 1)
    assert found["pointing"] == 50 and found["pointing_novel"] == 0 and found["chance"] == 37.5
    assert found["insertion"] == pytest.approx(50) and found["insertion_base"] == 20
    other = mean_measures(rows, {"stuff": np.array([False, False, True])})
    assert "pointing_stuff" not in other
