"""The frozen teacher and the EMA teacher in the pretrainer."""

import copy

import pytest
import torch
import torch.nn.functional as F

from fineclip.datasets import ShapedCrops
from fineclip.models import DenseCLIP, build_class_embeddings
from fineclip.objectives import (
    CLIPSelfDistillation,
    GlobalContrastive,
    LocalToGlobalDistillation,
    RegionCLIPLoss,
    SelfDistillation,
)
from fineclip.pretraining import FineCLIPPretrainer

NAMES = ["cat", "dog", "lamp"]
HEAD = {"num_prototypes": 7, "hidden_dim": 8, "bottleneck_dim": 4}


def make_clip(name="ViT-Ti-16"):
    torch.manual_seed(0)
    return DenseCLIP.create(name)


def make_batch():
    generator = torch.Generator().manual_seed(1)
    return {
        "images": torch.randn(2, 3, 32, 32, generator=generator),
        "texts": torch.randint(1, 900, (2, 77), generator=generator),
        "boxes": torch.tensor([[0.1, 0.1, 0.7, 0.6], [0.3, 0.2, 0.9, 0.9], [0.0, 0.5, 0.5, 1.0]]),
        "region_image": torch.tensor([0, 1, 1]),
        "crops": torch.randn(3, 3, 32, 32, generator=generator),
        "global_views": torch.randn(2, 2, 3, 32, 32, generator=generator),
        "local_views": torch.randn(2, 3, 3, 16, 16, generator=generator),
    }


def train(model, optimizer, batch, steps=1):
    for _ in range(steps):
        optimizer.zero_grad()
        losses = model(**batch, mode="loss")
        sum(value for name, value in losses.items() if name.startswith("loss_")).backward()
        optimizer.step()


def test_frozen_teacher_is_the_initial_model_and_never_changes():
    model = FineCLIPPretrainer(make_clip(), [CLIPSelfDistillation()]).train()
    batch = make_batch()
    expected = make_clip().eval().encode_image(batch["crops"])
    train(model, torch.optim.SGD(model.parameters(), lr=1.0), batch, steps=2)
    embeddings = model(**batch, mode="tensor")
    torch.testing.assert_close(embeddings.teacher_crop, expected)
    assert not embeddings.teacher_crop.requires_grad
    assert not torch.allclose(model.clip.encode_image(batch["crops"]), expected, atol=1e-3)
    # Copied with its adapter: the trunk runs the copy's own tower.
    assert model.teacher.clip.trunk.visual is model.teacher.clip.clip.visual
    assert not model.teacher.clip.training


def test_frozen_teacher_is_no_part_of_the_model_but_moves_with_it():
    model = FineCLIPPretrainer(make_clip(), [RegionCLIPLoss()], vocabulary=NAMES)
    plain = FineCLIPPretrainer(make_clip(), [GlobalContrastive()])
    extra = model.state_dict().keys() - plain.state_dict().keys()
    assert extra == {"objectives.0.step"}
    assert len(list(model.parameters())) == len(list(plain.parameters()))
    model.teacher.category_embeddings()
    model.double()
    assert model.teacher.clip.logit_scale.dtype == torch.float64
    assert model.teacher.category_embeddings().dtype == torch.float64


def test_the_model_as_its_own_teacher_is_copied():
    clip = make_clip()
    FineCLIPPretrainer(clip, [CLIPSelfDistillation()], teacher=clip)
    assert clip.clip.visual.proj.requires_grad


def test_teacher_and_crop_branch_read_the_same_crops():
    other = {"type": "DenseCLIP", "name": "ViT-Ti-16"}
    model = FineCLIPPretrainer(
        make_clip(), [SelfDistillation(), CLIPSelfDistillation()], teacher=other
    )
    batch = make_batch()
    embeddings = model(**batch, mode="tensor")
    torch.testing.assert_close(
        embeddings.teacher_crop, model.teacher.clip.encode_image(batch["crops"])
    )
    torch.testing.assert_close(embeddings.crop, model.clip.encode_image(batch["crops"]))
    assert not torch.allclose(embeddings.crop, embeddings.teacher_crop, atol=1e-3)


def test_categories_are_embedded_once_by_the_teacher(monkeypatch):
    model = FineCLIPPretrainer(
        make_clip(),
        [RegionCLIPLoss()],
        trainable=("image", "text"),
        vocabulary=NAMES,
        templates="plain",
    ).train()
    expected = build_class_embeddings(make_clip().eval(), NAMES, "plain")
    batch = make_batch()
    train(model, torch.optim.SGD(model.parameters(), lr=1.0), batch)
    monkeypatch.setattr(model.teacher.clip, "encode_text", None)
    torch.testing.assert_close(model(**batch, mode="tensor").vocabulary, expected)


@pytest.mark.parametrize("precision", [None, torch.bfloat16])
def test_regions_without_label_get_the_nearest_category(precision):
    model = FineCLIPPretrainer(make_clip(), [RegionCLIPLoss()], vocabulary=NAMES)
    batch = make_batch()
    crop = model.teacher.clip.encode_image(batch["crops"])
    nearest = (F.normalize(crop, dim=1) @ model.teacher.category_embeddings().T).argmax(dim=1)
    with torch.autocast("cpu", dtype=precision, enabled=precision is not None):
        none = model(**batch, mode="tensor")
        labels = torch.tensor([2, -1, -1])
        some = model(**batch, region_labels=labels, mode="tensor")
    if precision is None:
        assert torch.equal(none.region_label, nearest)
        assert some.region_label.tolist() == [2, *nearest[1:].tolist()]
    assert none.vocabulary.dtype == torch.float32
    assert labels.tolist() == [2, -1, -1]
    # Without crops there is nothing to label by: -1 stays, and is left out of the loss.
    del batch["crops"]
    kept = model(**batch, region_labels=labels, mode="tensor")
    assert kept.region_label.tolist() == [2, -1, -1]
    with pytest.raises(ValueError, match=r"\(RegionCLIPLoss\) need crops, which the batch does"):
        model(**batch, mode="tensor")


def test_crops_of_several_shapes_are_labelled_each_by_its_own():
    model = FineCLIPPretrainer(make_clip(), [RegionCLIPLoss()], vocabulary=NAMES)
    shapes, generator = [(32, 32), (16, 48)], torch.Generator().manual_seed(3)
    crops = [torch.randn(3, *shapes[i], generator=generator) for i in (1, 0, 1)]
    batch = make_batch() | {"crops": ShapedCrops.of(crops, shapes)}
    embedded = torch.cat([model.teacher.encode_crops(crop[None]) for crop in crops])
    nearest = (embedded @ model.teacher.category_embeddings().T).argmax(dim=1).tolist()
    assert model(**batch, mode="tensor").region_label.tolist() == nearest
    labels = torch.tensor([-1, 2, -1])
    some = model(**batch, region_labels=labels, mode="tensor").region_label
    assert some.tolist() == [nearest[0], 2, nearest[2]]


def test_pseudo_labels_share_the_teachers_crops_with_clipself(monkeypatch):
    model = FineCLIPPretrainer(
        make_clip(), [RegionCLIPLoss(), CLIPSelfDistillation()], vocabulary=NAMES
    )
    calls = []
    encode = model.teacher.clip.encode_image
    monkeypatch.setattr(
        model.teacher.clip, "encode_image", lambda x: calls.append(len(x)) or encode(x)
    )
    assert (model(**make_batch(), mode="tensor").region_label >= 0).all()
    assert calls == [3]


def silc(**options):
    objectives = [GlobalContrastive(), LocalToGlobalDistillation(num_prototypes=7)]
    torch.manual_seed(0)
    return FineCLIPPretrainer(make_clip(), objectives, prototype_head=HEAD, **options).train()


def towers(model):
    return {
        **{f"visual.{n}": p for n, p in model.clip.clip.visual.named_parameters()},
        **{f"head.{n}": p for n, p in model.prototype_head.named_parameters()},
    }


def test_ema_teacher_by_hand():
    model, batch = silc(), make_batch()
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    model.start_ema_teacher()
    expected = {name: p.detach().clone() for name, p in towers(model).items()}
    for momentum in (0.9, 0.5):
        train(model, optimizer, batch)
        model.update_ema_teacher(momentum)
        for name, parameter in towers(model).items():
            expected[name] = momentum * expected[name] + (1 - momentum) * parameter.detach()
    found = dict(model.ema_teacher.module.named_parameters())
    assert found.keys() == expected.keys()
    for name, parameter in found.items():
        torch.testing.assert_close(parameter, expected[name], atol=1e-7, rtol=1e-6)
        assert parameter.grad is None
        assert not parameter.requires_grad
    assert not torch.allclose(found["head.prototypes"], model.prototype_head.prototypes)
    assert not model.ema_teacher.training


def test_student_sees_local_and_teacher_global_views():
    model, batch = silc(), make_batch()
    model.start_ema_teacher()
    embeddings = model(**batch, mode="tensor")
    assert embeddings.student_prototypes.shape == (3, 2, 7)
    assert embeddings.teacher_prototypes.shape == (2, 2, 7)
    assert not embeddings.teacher_prototypes.requires_grad
    # Image 1, view 2 of the student; image 0, view 1 of the teacher, equal to the student's head.
    local = model.clip.encode_image(batch["local_views"][1, 2:], normalize=False)
    expected = model.prototype_head(local)[0]
    torch.testing.assert_close(embeddings.student_prototypes[2, 1], expected, atol=1e-5, rtol=0)
    wide = model.clip.encode_image(batch["global_views"][0, 1:], normalize=False)
    expected = model.prototype_head(wide)[0]
    torch.testing.assert_close(embeddings.teacher_prototypes[1, 0], expected, atol=1e-5, rtol=0)
    # The image-text loss is that of the plain image.
    torch.testing.assert_close(embeddings.image, model.clip.encode_image(batch["images"]))
    none = {name: value[:0] for name, value in batch.items()}
    assert model(**none, mode="tensor").teacher_prototypes.shape == (2, 0, 7)


def test_a_teacher_nobody_updates_is_an_error():
    model = silc()
    with pytest.raises(ValueError, match=r'add dict\(type="EMATeacherHook"\) to custom_hooks'):
        model(**make_batch(), mode="loss")
    with pytest.raises(ValueError, match="there is no EMA teacher"):
        FineCLIPPretrainer(make_clip(), [GlobalContrastive()]).start_ema_teacher()


def test_teacher_starts_from_weights_loaded_later():
    """A runner loads weights after construction; a resumed run keeps its teacher."""
    model, batch = silc(), make_batch()
    with torch.no_grad():
        model.clip.clip.visual.proj.mul_(2)
    model.start_ema_teacher()
    torch.testing.assert_close(model.ema_teacher.module["visual"].proj, model.clip.clip.visual.proj)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    train(model, optimizer, batch)
    model.update_ema_teacher(0.9)
    before = copy.deepcopy(model.ema_teacher.state_dict())
    model.start_ema_teacher()
    for name, value in model.ema_teacher.state_dict().items():
        torch.testing.assert_close(value, before[name], atol=0, rtol=0)


def test_resume_is_exact(tmp_path):
    """Four steps equal two steps, a checkpoint, and two steps of a model made anew."""

    def start():
        model = silc()
        parameters = [p for p in model.parameters() if p.requires_grad]
        return model, torch.optim.AdamW(parameters, lr=1e-2)

    def step(model, optimizer, number):
        generator = torch.Generator().manual_seed(number)
        batch = make_batch()
        batch["local_views"] = torch.randn(2, 3, 3, 16, 16, generator=generator)
        model.start_ema_teacher()
        train(model, optimizer, batch)
        model.update_ema_teacher(0.8)

    whole, optimizer = start()
    for number in range(4):
        if number == 2:
            state = {"model": whole.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(state, tmp_path / "c.pth")
        step(whole, optimizer, number)
    resumed, optimizer = start()
    state = torch.load(tmp_path / "c.pth", weights_only=True)
    resumed.load_state_dict(state["model"])
    optimizer.load_state_dict(state["optimizer"])
    for number in (2, 3):
        step(resumed, optimizer, number)
    for name, value in whole.state_dict().items():
        torch.testing.assert_close(resumed.state_dict()[name], value, atol=0, rtol=0)


@pytest.mark.parametrize(
    ("objectives", "options", "message"),
    [
        ([RegionCLIPLoss], {}, "RegionCLIPLoss: set vocabulary="),
        ([RegionCLIPLoss], {"vocabulary": "no such"}, "unknown vocabulary 'no such'"),
        ([RegionCLIPLoss], {"vocabulary": ["cat", ""]}, "'name' must be a non-empty string"),
        ([RegionCLIPLoss], {"vocabulary": NAMES, "templates": "nope"}, "unknown templates 'nope'"),
        (
            [CLIPSelfDistillation],
            {"teacher": {"type": "DenseCLIP", "name": "ViT-Ti-8-scenes"}},
            "its embeddings have size 128, the trained model's 64",
        ),
    ],
    ids=["no vocabulary", "unknown", "empty name", "templates", "teacher"],
)
def test_bad_settings_are_refused_at_once(objectives, options, message):
    with pytest.raises(ValueError, match=message):
        FineCLIPPretrainer(make_clip(), [o() for o in objectives], **options)


def test_silc_needs_a_head():
    with pytest.raises(ValueError, match=r"LocalToGlobalDistillation: set prototype_head=dict"):
        FineCLIPPretrainer(make_clip(), [LocalToGlobalDistillation(num_prototypes=7)])


def test_settings_nobody_needs_are_ignored(caplog):
    model = FineCLIPPretrainer(
        make_clip(), [GlobalContrastive()], vocabulary=NAMES, prototype_head=HEAD
    )
    assert model.teacher is model.prototype_head is model.ema_teacher is None
