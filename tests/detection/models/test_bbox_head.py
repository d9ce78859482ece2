"""The text classifier: recorded cases, fusion, vocabularies, features without direction."""

import pytest
import torch
import torch.nn.functional as F
from fvit_reference import TINY, behind, settings, tensors
from mmengine.config import ConfigDict

from detection.models import ClassMaskedCrossEntropy, FViTBBoxHead
from fineclip.models import (
    ClassEmbeddings,
    DenseCLIP,
    build_class_embeddings,
    write_class_embeddings,
)
from fineclip.text import load_vocabulary

RECORDED = settings("bbox_head")
CASES = RECORDED["cases"]
NUMBERS = RECORDED["config"]
SHAPE = {"img_shape": tuple(RECORDED["post_processing"]["image_shape"])}


def make(norm="BN", **changes):
    options = {
        "class_embeddings": tensors("bbox_head")["learned_temperature.input.class_embeddings_raw"],
        "vocabulary": RECORDED["all_classes"],
        "novel_classes": RECORDED["novel_classes"],
        "in_channels": NUMBERS["in_ch"],
        "conv_out_channels": NUMBERS["conv"],
        "fc_out_channels": NUMBERS["emb"],
        "roi_feat_size": NUMBERS["roi"],
        "learned_temperature": NUMBERS["temp"],
        "vlm_temperature": NUMBERS["vlm"],
        "alpha": NUMBERS["alpha"],
        "beta": NUMBERS["beta"],
        "norm_cfg": {"type": norm} if norm else None,
        "loss_bbox": {"type": "L1Loss"},
        **changes,
    }
    return FViTBBoxHead(NUMBERS["num_classes"], **options)


def load(head, weights="learned_temperature", **extra):
    stored = behind(tensors("bbox_head"), f"weights.{weights}.param.", f"weights.{weights}.buffer.")
    kept = {key: value for key, value in stored.items() if not key.startswith("fc_cls.")}
    head.load_state_dict(kept | extra)  # strict: the released names, less the unused classifier
    return head.eval()


def of_case(case):
    chosen = CASES[case]["overrides"]
    stored = behind(tensors("bbox_head"), f"{case}.")
    head = make(
        chosen["norm"],
        learn_background=chosen.get("learn_bg", False),
        fixed_temperature=chosen.get("fixed_temperature"),
    )
    return load(
        head,
        "learned_temperature" if chosen["norm"] else "no_norm",
        **({"bg_embedding": stored["param.bg_embedding"]} if "learn_bg" in chosen else {}),
    ), stored


@pytest.mark.parametrize("case", CASES)
@torch.no_grad()
def test_recorded_outputs(case):
    head, stored = of_case(case)
    assert float(head.temperature) == pytest.approx(CASES[case]["temperature"])
    assert not any(key.startswith("fc_cls") for key in head.state_dict())
    torch.testing.assert_close(head.text_embeddings, stored["mid.all_embed"], atol=1e-6, rtol=0)
    features = stored["input.roi_features"]
    logits, deltas = head(features)
    expected = stored["output.eval_without_vlm.cls_score"]
    torch.testing.assert_close(logits, expected, atol=5e-4, rtol=0)
    expected = stored["output.eval_without_vlm.bbox_pred"]
    torch.testing.assert_close(deltas, expected, atol=1e-5, rtol=0)
    alone = head.class_probabilities(logits)
    torch.testing.assert_close(alone, stored["mid.detector_probability"], atol=2e-5, rtol=0)
    fused = head.class_probabilities(logits, stored["input.vlm_box_features"])
    torch.testing.assert_close(fused, stored["output.eval.fused_score"], atol=2e-5, rtol=0)
    logits, deltas = head.train()(features)
    torch.testing.assert_close(logits, stored["output.train.cls_score"], atol=5e-4, rtol=0)
    torch.testing.assert_close(deltas, stored["output.train.bbox_pred"], atol=1e-5, rtol=0)


@torch.no_grad()
def test_recorded_transfer():
    """One exponent for all classes, fixed temperature; the learned one in the file is dropped."""
    numbers = RECORDED["transfer"]
    head = load(
        make(
            fixed_temperature=numbers["fixed_temperature"],
            vlm_temperature=numbers["vlm_temperature"],
            alpha=numbers["alpha"],
            novel_classes=(),
        )
    )
    stored = behind(tensors("bbox_head"), "learned_temperature.input.")
    logits, deltas = head(stored["roi_features"])
    fused = head.class_probabilities(logits, stored["vlm_box_features"])
    expected = behind(tensors("bbox_head"), "transfer.output.eval.")
    torch.testing.assert_close(fused, expected["fused_score"], atol=2e-5, rtol=0)
    torch.testing.assert_close(deltas, expected["bbox_pred"], atol=1e-5, rtol=0)


@torch.no_grad()
def test_recorded_post_processing():
    head, stored = of_case("learned_temperature")
    logits, deltas = head(stored["input.roi_features"])
    scores = head.class_probabilities(logits, stored["input.vlm_box_features"])
    rois = stored["input.rois"]
    (plain,) = head.predict_by_feat((rois,), (scores,), (deltas,), [SHAPE])
    torch.testing.assert_close(plain.bboxes, stored["output.plain.boxes"], atol=0.02, rtol=0)
    torch.testing.assert_close(plain.scores, stored["output.plain.scores"], atol=1e-4, rtol=0)
    numbers = RECORDED["post_processing"]["nms"]
    config = ConfigDict(
        score_thr=numbers["score_threshold"],
        nms={"type": "nms", "iou_threshold": numbers["nms_iou"]},
        max_per_img=numbers["max_per_image"],
    )
    meta = {**SHAPE, "scale_factor": numbers["scale_factor"][:2]}
    (found,) = head.predict_by_feat((rois,), (scores,), (deltas,), [meta], config, rescale=True)
    expected = stored["output.nms.boxes"]
    torch.testing.assert_close(found.bboxes, expected[:, :4], atol=0.02, rtol=0)
    torch.testing.assert_close(found.scores, expected[:, 4], atol=1e-4, rtol=0)
    assert torch.equal(found.labels, stored["output.nms.labels"])


def test_recorded_training_step():
    stored = tensors("bbox_head")
    training = behind(stored, "training.")
    head = load(make()).train()
    head.loss_cls = ClassMaskedCrossEntropy(class_weight=RECORDED["training"]["class_weight"])
    features = stored["learned_temperature.input.roi_features"].clone().requires_grad_()
    logits, deltas = head(features)
    kept = logits.detach().clone()
    losses = head.loss(
        logits,
        deltas,
        stored["learned_temperature.input.rois"],
        *(
            training[f"input.{name}"]
            for name in ("labels", "label_weights", "bbox_targets", "bbox_weights")
        ),
    )
    for name in ("loss_cls", "loss_bbox"):
        torch.testing.assert_close(losses[name], training[f"output.{name}"], rtol=1e-4, atol=0)
    assert torch.equal(logits.detach(), kept)
    (losses["loss_cls"] + losses["loss_bbox"]).backward()
    gradients = behind(training, "grad.")
    parameters = dict(head.named_parameters())
    assert parameters.keys() == gradients.keys()
    for name, expected in gradients.items():
        scale = expected.abs().max().item()
        torch.testing.assert_close(
            parameters[name].grad, expected, atol=1e-4 * scale + 1e-7, rtol=1e-3, msg=name
        )
    expected = training["grad_input.roi_features"]
    scale = expected.abs().max().item()
    torch.testing.assert_close(features.grad, expected, atol=1e-4 * scale, rtol=1e-3)
    state = head.state_dict()
    for name, expected in behind(training, "updated_buffer.").items():
        torch.testing.assert_close(state[name], expected, atol=1e-5, rtol=1e-5)


def test_a_class_feature_of_zeros():
    head = make()
    with torch.no_grad():
        head.cls_fcs[0].weight.zero_()
        head.cls_fcs[0].bias.fill_(-1)
    features = torch.rand(3, NUMBERS["in_ch"], NUMBERS["roi"], NUMBERS["roi"], requires_grad=True)
    logits, deltas = head(features)
    assert not logits.any()
    (logits.square().sum() + logits.sum() + deltas.sum()).backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in head.parameters())
    assert features.grad.isfinite().all()
    of_clip = torch.zeros(3, NUMBERS["emb"])
    assert head.class_probabilities(logits, of_clip).isfinite().all()


def test_scores_without_clip_are_probabilities():
    head, stored = of_case("learned_temperature")
    logits, _ = head(stored["input.roi_features"])
    scores = head.class_probabilities(logits)
    torch.testing.assert_close(scores.sum(dim=1), torch.ones(len(scores)))
    assert torch.equal(scores, logits.softmax(dim=1))


def test_fusion_worked_by_hand():
    """Two classes, the second novel, on axes of the embedding space."""
    head = make(class_embeddings=None, vocabulary=None, novel_classes=[1], alpha=0.25, beta=0.5)
    head.set_vocabulary(
        torch.eye(2, NUMBERS["emb"]), novel_classes=[1], background=torch.eye(24)[2]
    )
    head.vlm_temperature = 2.0
    logits = torch.tensor([[1.0, 2.0, 0.0]])
    clip = torch.zeros(1, 24)
    clip[0, 1] = 3.0  # of any length
    p = logits.softmax(dim=1)[0]
    q = torch.tensor([0.0, 2.0, 0.0]).softmax(dim=0)
    expected = torch.stack([p[0] ** 0.75 * q[0] ** 0.25, (p[1] * q[1]).sqrt()])
    found = head.class_probabilities(logits, clip)[0]
    torch.testing.assert_close(found[:2], expected)
    torch.testing.assert_close(found[2], p[2] ** 0.75 * q[2] ** 0.25)  # background counts as base


def test_another_vocabulary_without_training():
    head, stored = of_case("learned_temperature")
    logits, deltas = head(stored["input.roi_features"])
    names = ["kite", "zebra", "lamp", "person", "cup", "car", "sofa", "hat", "bus"]
    raw = stored["input.class_embeddings_raw"]
    of_name = dict(zip(RECORDED["all_classes"], raw, strict=False))
    new = torch.stack([3 * of_name.get(name, torch.randn(24)) for name in names])
    head.set_vocabulary(new, names)
    assert head.num_classes == 9
    # base classes are known by name, everything else is novel
    assert [names[i] for i in range(9) if i not in head.novel_indices] == ["kite", "person"]
    fresh, same = head(stored["input.roi_features"])
    assert torch.equal(same, deltas)
    old = [RECORDED["all_classes"].index("kite"), RECORDED["all_classes"].index("person"), 7]
    torch.testing.assert_close(fresh[:, [0, 3, 9]], logits[:, old], atol=1e-4, rtol=0)
    scores = head.class_probabilities(fresh, stored["input.vlm_box_features"])
    assert scores.shape == (11, 10)
    (found,) = head.predict_by_feat((stored["input.rois"],), (scores,), (same,), [SHAPE])
    assert found.scores.shape == (11, 10)


def test_a_box_per_class_ties_the_vocabulary():
    head = make(reg_class_agnostic=False)
    with pytest.raises(ValueError, match="regresses a box per class"):
        head.set_vocabulary(torch.eye(2, 24))


def test_learned_background_starts_as_the_word_and_trains():
    head = make(learn_background=True)
    assert torch.equal(head.bg_embedding.detach(), head.all_embeddings[:, -1:])
    features = torch.rand(2, NUMBERS["in_ch"], NUMBERS["roi"], NUMBERS["roi"])
    head(features)[0][:, -1].sum().backward()
    assert head.bg_embedding.grad.any()
    head.set_vocabulary(torch.eye(2, 24))
    assert not head.all_embeddings.requires_grad
    torch.testing.assert_close(
        head.text_embeddings[:, -1], F.normalize(head.bg_embedding[:, 0], dim=0)
    )


def test_embeddings_from_files(tmp_path):
    raw = tensors("bbox_head")["learned_temperature.input.class_embeddings_raw"]
    expected = F.normalize(raw, dim=1).T
    names = [*RECORDED["all_classes"], "background"]
    order = torch.randperm(len(names)).tolist()
    by_name = {names[i]: raw[i].clone() for i in order} | {"unicorn": torch.ones(24)}
    torch.save(by_name, tmp_path / "release.pt")
    rows = torch.stack([by_name[name] for name in [*by_name][:-1] if name != "background"])
    write_class_embeddings(
        tmp_path / "tool.safetensors",
        ClassEmbeddings(
            tuple(name for name in [*by_name][:-1] if name != "background"),
            torch.cat([rows, raw[-1:]]),
            "background",
        ),
    )
    for source in (raw.tolist(), *tmp_path.iterdir(), str(tmp_path / "release.pt")):
        torch.testing.assert_close(make(class_embeddings=source).all_embeddings, expected)
    del by_name["sofa"]
    torch.save(by_name, tmp_path / "release.pt")
    with pytest.raises(ValueError, match="no embedding of 1 classes: sofa"):
        make(class_embeddings=tmp_path / "release.pt")
    with pytest.raises(ValueError, match="need the vocabulary"):
        make(class_embeddings=tmp_path / "release.pt", vocabulary=None, novel_classes=())
    with pytest.raises(FileNotFoundError, match=r"none\.pt does not exist"):
        make(class_embeddings=tmp_path / "none.pt")


def test_embeddings_made_on_the_spot():
    clip = DenseCLIP.create(TINY).eval()
    width = {"fc_out_channels": clip.embed_dim}
    with torch.no_grad():
        head = make(class_embeddings={"clip": clip, "templates": "simple"}, **width)
        expected = build_class_embeddings(clip, [*RECORDED["all_classes"], "background"], "simple")
    torch.testing.assert_close(head.all_embeddings, expected.T)
    with pytest.raises(ValueError, match=f"width {clip.embed_dim}"):
        make(class_embeddings={"clip": clip})


def test_a_vocabulary_brings_number_and_split():
    vocabulary = load_vocabulary("ov_coco")
    head = FViTBBoxHead(vocabulary="ov_coco")
    assert head.num_classes == len(vocabulary) == 65
    assert head.novel_indices == vocabulary.indices("novel")
    assert len(head.novel_indices) == 17
    with pytest.raises(ValueError, match="num_classes is 80, but the vocabulary 'ov_coco' has 65"):
        FViTBBoxHead(80, vocabulary="ov_coco")
    with pytest.raises(ValueError, match="needs num_classes or a vocabulary"):
        FViTBBoxHead()


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"class_embeddings": torch.ones(8, 25)}, r"expected \(7 \+ 1, 24\)"),
        ({"class_embeddings": torch.ones(7, 24)}, r"expected \(7 \+ 1, 24\)"),
        ({"class_embeddings": torch.zeros(8, 24)}, "all zeros"),
        ({"class_embeddings": torch.full((8, 24), torch.nan)}, "finite"),
        ({"novel_classes": ["lamp"]}, r"unknown classes \['lamp'\]"),
        ({"novel_classes": [7]}, r"unknown classes \[7\]"),
        ({"alpha": 1.5}, r"must lie in \[0, 1\]"),
    ],
)
def test_settings_that_do_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        make(**changes)


def test_a_head_without_embeddings_says_so():
    head = make(class_embeddings=None)
    features = torch.rand(1, NUMBERS["in_ch"], NUMBERS["roi"], NUMBERS["roi"])
    with pytest.raises(RuntimeError, match="no class embeddings yet"):
        head(features)
    load(head)
    assert head(features)[0].any()


def test_a_checkpoint_of_another_vocabulary():
    state = load(make()).state_dict()
    options = {"class_embeddings": torch.eye(4, 24), "novel_classes": ()}
    sizes = {"in_channels": 16, "conv_out_channels": 16, "fc_out_channels": 24, "roi_feat_size": 5}
    head = FViTBBoxHead(3, **options, **sizes, norm_cfg={"type": "BN"})
    with pytest.raises(ValueError, match="set keep_vocabulary=True"):
        head.load_state_dict(state)
    head = FViTBBoxHead(3, **options, **sizes, norm_cfg={"type": "BN"}, keep_vocabulary=True)
    head.load_state_dict(state)
    assert torch.equal(head.all_embeddings, torch.eye(4, 24).T)
    assert torch.equal(head.fc_reg.weight, state["fc_reg.weight"])


def test_initialisation_leaves_the_text_alone():
    head = make()
    before = head.all_embeddings.clone()
    head.init_weights()
    assert torch.equal(head.all_embeddings, before)
    assert head.temperature.item() == NUMBERS["temp"]
    assert head.fc_reg.weight.std() < 0.002


def test_learned_classes_stand_in_for_their_words():
    names = tuple(RECORDED["all_classes"])
    head = make(learned_classes=names[:2])
    start = head.learned_embeddings.detach().clone()
    torch.testing.assert_close(F.normalize(start, dim=0), head.text_embeddings[:, :2])
    plain = head.classifier
    torch.testing.assert_close(plain, head.text_embeddings)
    with torch.no_grad():
        head.learned_embeddings[:, 1] += 1
    moved = head.classifier
    assert (moved[:, 1] != plain[:, 1]).any()
    torch.testing.assert_close(
        moved[:, [0, *range(2, plain.shape[1])]], plain[:, [0, *range(2, plain.shape[1])]]
    )
    # Asked for other words, those that are known keep what was learned.
    words = torch.randn(3, head.embed_dim)
    head.set_vocabulary(words, ("new", names[1], "newer"))
    torch.testing.assert_close(head.classifier[:, 1], moved[:, 1])
    torch.testing.assert_close(head.classifier[:, 0], F.normalize(words[0], dim=0))
    # A checkpoint of before starts them as they are.
    fresh = make(learned_classes=names[:2])
    load(fresh)
    torch.testing.assert_close(fresh.learned_embeddings, start)


def test_offsets_move_classes_by_name():
    names = tuple(RECORDED["all_classes"])
    head = make()
    logits = torch.randn(4, len(names) + 1)
    head.logit_offsets = {names[0]: 2.0, "not asked for": 5.0}
    expected = logits.clone()
    expected[:, 0] += 2
    torch.testing.assert_close(head.class_probabilities(logits), expected.softmax(dim=1))
    assert torch.equal(head.logit_offsets and logits, logits)  # the caller's stay as they are


def test_unlabelled_classes_are_no_negatives():
    head = make(novel_classes=(), loss_cls={"type": "ClassMaskedCrossEntropy"})
    count = head.num_classes
    logits = torch.randn(4, count + 1, requires_grad=True)
    rois = torch.tensor([[0.0, 0, 0, 9, 9]] * 2 + [[1.0, 0, 0, 9, 9]] * 2)
    labels = torch.tensor([0, count, 0, count])  # a class and background in each image
    rest = (rois, labels, torch.ones(4), torch.zeros(4, 4), torch.zeros(4, 4))

    def loss():
        return head.loss(logits, torch.zeros(4, 4), *rest)["loss_cls"]

    plain = loss()
    with head.labelled_in_images([None, (0, 1)]):
        held = loss()
    (gradient,) = torch.autograd.grad(held, logits)
    assert held < plain and torch.equal(loss(), plain)  # only within the block
    assert gradient[:2].abs().gt(0).all()  # of an image where all were labelled
    assert not gradient[2:, 2:count].any() and gradient[2:, [0, 1, count]].abs().gt(0).all()
