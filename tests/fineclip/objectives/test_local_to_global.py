import math

import pytest
import torch
from slow_loops import assert_equals_slow, draw

from fineclip.embeddings import Embeddings
from fineclip.objectives import LocalToGlobalDistillation
from fineclip.objectives.local_to_global import warmed_up_temperature


def make(student_views=3, teacher_views=2, images=4, prototypes=5):
    return Embeddings(
        student_prototypes=draw(student_views, images, prototypes, seed=0),
        teacher_prototypes=draw(teacher_views, images, prototypes, seed=1),
    )


def softmax(logits):
    powers = [logit.exp() for logit in logits]
    return [power / sum(powers) for power in powers]


def slow_with(center, student_temperature, teacher_temperature, shared_views=0):
    def slow(e):
        total, pairs = 0.0, 0
        for t, teacher in enumerate(e.teacher_prototypes.detach()):
            for s, student in enumerate(e.student_prototypes):
                if t == s and s < shared_views:
                    continue
                pairs += 1
                for a, b in zip(teacher, student, strict=True):
                    target = softmax(
                        [(x - c) / teacher_temperature for x, c in zip(a, center, strict=True)]
                    )
                    prediction = softmax([x / student_temperature for x in b])
                    total -= sum(p * q.log() for p, q in zip(target, prediction, strict=True))
        return {"loss_local_to_global": total / (pairs * e.student_prototypes.shape[1])}

    return slow


@pytest.mark.parametrize("shared_views", [0, 1, 2])
def test_equals_slow_loops(shared_views):
    objective = LocalToGlobalDistillation(
        num_prototypes=5,
        student_temperature=0.5,
        teacher_temperature=0.25,
        warmup_teacher_temperature=0.9,
        shared_views=shared_views,
    )
    center = draw(5, seed=2)
    objective.center.copy_(center)
    slow = slow_with(center.double(), 0.5, 0.25, shared_views)
    assert_equals_slow(objective, make(), slow, gradient={"student_prototypes"})


def test_by_hand():
    """An undecided student pays log P, whatever the teacher says."""
    embeddings = make(prototypes=8)
    embeddings.student_prototypes = torch.full((3, 4, 8), 0.7)
    loss = LocalToGlobalDistillation(num_prototypes=8)(embeddings)["loss_local_to_global"]
    assert loss.item() == pytest.approx(math.log(8))


def test_center_follows_the_teacher_in_training_only():
    objective = LocalToGlobalDistillation(num_prototypes=5, center_momentum=0.75)
    expected = torch.zeros(5)
    for step in range(3):
        embeddings = make()
        embeddings.teacher_prototypes = embeddings.teacher_prototypes + step
        mean = torch.stack([row for view in embeddings.teacher_prototypes for row in view]).mean(0)
        objective(embeddings)
        expected = 0.75 * expected + 0.25 * mean
        torch.testing.assert_close(objective.center, expected)
    objective.eval()
    objective(make())
    torch.testing.assert_close(objective.center, expected)
    assert objective.step.item() == 3


def test_loss_uses_the_center_before_the_update():
    objective, embeddings = LocalToGlobalDistillation(num_prototypes=5), make()
    frozen = objective.eval()(embeddings)["loss_local_to_global"]
    first, second = (objective.train()(embeddings)["loss_local_to_global"] for _ in range(2))
    assert first.item() == frozen.item()
    assert second.item() != frozen.item()


def test_the_center_survives_a_checkpoint():
    objective = LocalToGlobalDistillation(num_prototypes=5)
    objective(make())
    resumed = LocalToGlobalDistillation(num_prototypes=5)
    resumed.load_state_dict(objective.state_dict())
    assert objective(make()) == resumed(make())


def test_temperature_warm_up():
    at = [warmed_up_temperature(n, start=0.04, end=0.08, warmup_steps=4) for n in range(6)]
    assert at == pytest.approx([0.04, 0.05, 0.06, 0.07, 0.08, 0.08])
    assert warmed_up_temperature(0, start=0.04, end=0.08, warmup_steps=0) == 0.08


def test_temperature_warms_up_with_the_training_steps():
    settings = {"num_prototypes": 5, "center_momentum": 1.0}  # the center stays at zero
    objective = LocalToGlobalDistillation(
        warmup_teacher_temperature=0.1, teacher_temperature=0.5, warmup_steps=2, **settings
    )
    embeddings = make()
    for temperature in (0.1, 0.3, 0.5, 0.5):
        fixed = LocalToGlobalDistillation(teacher_temperature=temperature, **settings)
        assert objective(embeddings)["loss_local_to_global"].item() == pytest.approx(
            fixed(embeddings)["loss_local_to_global"].item()
        )


@pytest.mark.parametrize(
    ("sizes", "shared_views"),
    [({"images": 0}, 0), ({"student_views": 0}, 0), ({"student_views": 1, "teacher_views": 1}, 1)],
)
def test_nothing_to_compare_gives_a_connected_zero(sizes, shared_views):
    objective = LocalToGlobalDistillation(num_prototypes=5, shared_views=shared_views)
    embeddings = make(**sizes)
    embeddings.student_prototypes.requires_grad_()
    loss = objective(embeddings)["loss_local_to_global"]
    assert loss.item() == 0
    loss.backward()
    assert embeddings.student_prototypes.grad is not None
    assert objective.center.isfinite().all()


@pytest.mark.parametrize(
    ("sizes", "settings", "message"),
    [
        ({"prototypes": 6}, {}, "num_prototypes=5"),
        ({"teacher_views": 1}, {"shared_views": 2}, "fewer views than shared_views=2"),
    ],
)
def test_wrong_shapes_are_named(sizes, settings, message):
    with pytest.raises(ValueError, match=message):
        LocalToGlobalDistillation(num_prototypes=5, **settings)(make(**sizes))


def test_different_batches_are_refused():
    embeddings = make()
    embeddings.teacher_prototypes = embeddings.teacher_prototypes[:, :3]
    with pytest.raises(ValueError, match=r"\(3, 4, 5\), teacher \(2, 3, 5\)"):
        LocalToGlobalDistillation(num_prototypes=5)(embeddings)


@pytest.mark.parametrize(
    "settings",
    [
        {"student_temperature": 0.0},
        {"teacher_temperature": -1.0},
        {"center_momentum": 1.5},
        {"warmup_steps": -1},
        {"num_prototypes": 0},
    ],
)
def test_settings_out_of_range_are_refused(settings):
    with pytest.raises(ValueError, match=next(iter(settings))):
        LocalToGlobalDistillation(**{"num_prototypes": 5, **settings})
