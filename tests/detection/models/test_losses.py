"""The class-masked cross entropy: 13 recorded settings, labels, weights, federations."""

import json

import pytest
import torch
import torch.nn.functional as F
from fvit_reference import settings, tensors

from detection.models import ClassMaskedCrossEntropy, class_weights
from fineclip.text import load_vocabulary

RECORDED = settings("loss")
CASES = RECORDED["cases"]


def run(case, loss):
    stored = tensors("loss")
    chosen = CASES[case]
    logits = stored["input.logits"].clone().requires_grad_()
    weight = stored["input.label_weights"] if chosen["uses_label_weights"] else None
    label = stored[f"input.{chosen['labels']}"]
    value = loss(logits, label, weight, avg_factor=chosen["average_factor"])
    value.sum().backward()
    return value.detach(), logits


def build(case, tmp_path):
    chosen = dict(CASES[case]["settings"])
    if chosen.get("class_weight") == "from the frequency table":
        path = tmp_path / "frequency.json"
        # in whatever order: ids decide
        path.write_text(json.dumps(RECORDED["frequency_table"][::-1]))
        chosen["class_weight"] = str(path)
    return ClassMaskedCrossEntropy(**chosen)


@pytest.mark.parametrize("case", CASES)
def test_recorded_losses_and_gradients(case, tmp_path):
    stored = tensors("loss")
    loss = build(case, tmp_path)
    if CASES[case]["effective_class_weight"] is None:
        assert loss.class_weight is None
    else:
        expected = torch.tensor(CASES[case]["effective_class_weight"])
        assert torch.equal(loss.class_weight, expected)
    value, logits = run(case, loss)
    torch.testing.assert_close(value, stored[f"output.{case}.loss"], atol=1e-6, rtol=1e-5)
    gradient = stored[f"output.{case}.grad_logits"]
    torch.testing.assert_close(logits.grad, gradient, atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize("case", ["softmax_class_weight", "sigmoid_class_weight"])
def test_the_callers_logits_stay(case, tmp_path):
    _, logits = run(case, build(case, tmp_path))
    assert torch.equal(logits.detach(), tensors("loss")["input.logits"])


def test_all_settings_were_recorded():
    assert len(CASES) == 13


def test_a_label_of_a_class_without_weight():
    weights = RECORDED["class_weight"]
    out = RECORDED["zero_weight_classes"][0]
    logits = torch.randn(3, len(weights), requires_grad=True)
    label = torch.tensor([0, out, 6])
    loss = ClassMaskedCrossEntropy(class_weight=weights)
    with pytest.raises(ValueError, match=rf"labels \[{out}\] belong to classes with weight 0"):
        loss(logits, label)
    # a sample that does not count may carry it, and the sigmoid form has no use for a check
    value = loss(logits, label, torch.tensor([1.0, 0.0, 1.0]), avg_factor=3)
    value.backward()
    assert value.isfinite()
    assert logits.grad.isfinite().all()
    assert not logits.grad[1].any()
    assert ClassMaskedCrossEntropy(True, class_weight=weights)(logits, label).isfinite()


def test_masked_classes_are_absent_not_negatives():
    """Against the plain loss on the columns that are left."""
    logits = torch.randn(5, 4)
    label = torch.tensor([0, 2, 3, 2, 0])
    weights = [1.0, 0.0, 1.0, 0.5]
    found = ClassMaskedCrossEntropy(class_weight=weights, reduction="none")(logits, label)
    kept = logits[:, [0, 2, 3]]
    plain = F.cross_entropy(kept, torch.tensor([0, 1, 2, 1, 0]), reduction="none")
    torch.testing.assert_close(found, plain * torch.tensor(weights)[label])


@pytest.mark.parametrize("use_sigmoid", [False, True])
def test_federation_holds_the_labels_and_so_many_others(use_sigmoid):
    classes = 10
    weights = [1.0] * (classes - 1) + [0.0, 0.7]  # one novel class, background last
    loss = ClassMaskedCrossEntropy(use_sigmoid, class_weight=weights, federated_classes=4)
    drawn = set()
    for repeated in range(1, 31):  # the labels decide the draw
        label = torch.tensor([2] * repeated + [5, classes])
        logits = torch.zeros(len(label), classes + 1, requires_grad=True)
        loss(logits, label).backward()
        touched = logits.grad.abs().sum(dim=0).nonzero().flatten().tolist()
        assert len(touched) == 5
        assert {2, 5, classes} <= set(touched)
        drawn |= set(touched)
    assert drawn == set(range(classes + 1)) - {classes - 1}


def test_class_weights_of_a_vocabulary():
    vocabulary = load_vocabulary("ov_coco")
    weights = class_weights("ov_coco", background=0.6)
    assert len(weights) == len(vocabulary) + 1
    assert weights[-1] == 0.6
    assert {i for i, w in enumerate(weights) if not w} == set(vocabulary.indices("novel"))


def test_class_weights_of_a_vocabulary_in_any_form(tmp_path):
    """Of one's own data: the annotations, a text file, a list of names, a split of one's own."""
    names = [{"id": 3, "name": "cat"}, {"id": 7, "name": "dog"}]
    content = {"images": [], "annotations": [], "categories": names}
    (tmp_path / "boxes.json").write_text(json.dumps(content))
    (tmp_path / "names.txt").write_text("cat\ndog\n")
    for source in (tmp_path / "boxes.json", str(tmp_path / "names.txt"), ["cat", "dog"]):
        assert class_weights(source, background=0.6) == (1, 1, 0.6)
    split = [{**names[0], "split": "novel"}, {**names[1], "split": "base", "image_count": 0}]
    (tmp_path / "split.json").write_text(json.dumps({"categories": split}))
    assert class_weights(tmp_path / "split.json") == (0, 1, 1)
    (tmp_path / "counts.json").write_text(
        '[{"id": 7, "image_count": 4}, {"id": 3, "image_count": 0}]'
    )
    assert class_weights(tmp_path / "counts.json") == (0, 1, 1)


def test_class_weights_that_cannot_be(tmp_path):
    path = tmp_path / "table.json"
    path.write_text('[{"id": 1, "image_count": 2}, {"id": 2}]')
    with pytest.raises(ValueError, match=r"lacks \['image_count'\]"):
        class_weights(path)
    path.write_text('[{"id": 1}]')
    with pytest.raises(ValueError, match=r"table\.json: categories\[0\]: 'name' must be"):
        class_weights(path)
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"table\.json"):
        class_weights(path)
    with pytest.raises(ValueError, match="unknown vocabulary 'ov_cocoo'"):
        class_weights("ov_cocoo")
    with pytest.raises(FileNotFoundError, match=r"none\.json': expected .* an existing file"):
        class_weights(tmp_path / "none.json")
    with pytest.raises(ValueError, match="not negative"):
        class_weights([1.0, -1.0, 1.0])
    with pytest.raises(ValueError, match="has 3 entries, the logits have 4 columns"):
        ClassMaskedCrossEntropy(class_weight=[1, 0, 1])(torch.zeros(1, 4), torch.tensor([0]))
    with pytest.raises(ValueError, match="reduction must be"):
        ClassMaskedCrossEntropy(reduction="median")
