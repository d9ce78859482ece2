"""One table says what the fields are made of; what reads it needs no second one."""

from dataclasses import fields

import pytest
import torch

from fineclip.embeddings import FIELDS, Embeddings, SharedEmbeddings
from fineclip.models import DenseCLIP
from fineclip.objectives import Objective, needed_fields
from fineclip.pretraining import FineCLIPPretrainer
from fineclip.pretraining.encodings import BATCH_FIELDS

ROWS = {"image": 2, "region": 3}


class Everything(Objective):
    needs = frozenset(FIELDS)

    def compute(self, embeddings):
        return {}


class Typo(Objective):
    needs = frozenset({"image", "pixels"})

    def compute(self, embeddings):
        return {}


class TypoInLocalForm(Typo):
    needs = frozenset({"image"})
    compared = frozenset({"imaeg"})


def make_batch():
    return {
        "images": torch.randn(2, 3, 32, 32),
        "texts": torch.randint(1, 900, (2, 77)),
        "boxes": torch.tensor([[0.1, 0.1, 0.7, 0.6]]).repeat(3, 1),
        "region_image": torch.tensor([0, 1, 1]),
        "crops": torch.randn(3, 3, 32, 32),
        "region_texts": torch.randint(1, 900, (3, 77)),
        "region_labels": torch.tensor([1, -1, 0]),
        "global_views": torch.randn(2, 4, 3, 32, 32),
        "local_views": torch.randn(2, 5, 3, 32, 32),
    }


def make_model(objectives):
    return FineCLIPPretrainer(
        DenseCLIP.create("ViT-Ti-16", init_logit_bias=-10),
        objectives,
        vocabulary=["cat", "dog"],
        templates="plain",
        prototype_head={"num_prototypes": 7, "hidden_dim": 8, "bottleneck_dim": 4},
    )


def test_every_field_is_declared():
    assert list(FIELDS) == [field.name for field in fields(Embeddings)]
    assert fields(SharedEmbeddings)[: len(FIELDS)] == fields(Embeddings)
    assert make_batch().keys() == BATCH_FIELDS


def test_every_field_is_made_and_has_the_rows_it_is_declared_with():
    embeddings = make_model([Everything()]).embed(**make_batch())
    for name, spec in FIELDS.items():
        value = getattr(embeddings, name)
        assert value is not None, f"nothing makes {name}"
        if spec.rows is not None:
            assert value.shape[spec.row_dim] == ROWS[spec.rows], name


@pytest.mark.parametrize("name", sorted(make_batch()))
def test_what_a_field_is_made_of_is_asked_for(name):
    """Each input by itself; labels can be made from the crops."""
    model, batch = make_model([Everything()]), make_batch()
    del batch[name]
    if name == "region_labels":
        assert model.embed(**batch).region_label is not None
        return
    with pytest.raises(ValueError, match=rf"\(Everything\) need {name}, which the batch does not"):
        model.embed(**batch)


def test_a_batch_with_something_unknown_is_refused():
    with pytest.raises(TypeError, match="the batch holds masks, which no embedding is made of"):
        make_model([Everything()]).embed(**make_batch(), masks=torch.zeros(2))


@pytest.mark.parametrize(("objective", "name"), [(Typo, "pixels"), (TypoInLocalForm, "imaeg")])
def test_an_objective_that_needs_an_unknown_field_is_refused(objective, name):
    message = f"{objective.__name__} needs {name}, which is no field of Embeddings; known: image, "
    with pytest.raises(ValueError, match=message):
        needed_fields([objective()])
    with pytest.raises(ValueError, match=message):
        make_model([objective()])
