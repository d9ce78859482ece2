"""The whole segmenter: recorded runs, and what the reference does wrong."""

import pytest
import torch
import torch.nn.functional as F
from catseg_reference import (
    VARIANTS,
    assert_gradient,
    behind,
    make_segmenter,
    sampled,
    settings,
    tensors,
)
from recorded import assert_recorded

from segmentation.modeling import SlidingWindows, build_segmenter

NAMES = ("cat", "dog", "grass, lawn", "sky", "a traffic light")


@pytest.fixture(scope="module", params=VARIANTS)
def recorded(request):
    variant = request.param
    return variant, settings(f"catseg_{variant}_runs"), tensors(f"catseg_{variant}_runs")


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(5)
    return build_segmenter(
        "ViT-Ti-16",
        train_classes=NAMES[:3],
        test_classes=NAMES,
        grid=(4, 5),
        hidden_dim=16,
        num_heads=2,
        window_size=3,
        decoder_dims=(16, 16),
        decoder_guidance_dims=(12, 8),
        decoder_guidance_proj_dims=(8, 4),
        pad_length=8,
    ).eval()


def image(height, width, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, 256, (3, height, width), dtype=torch.uint8, generator=generator)


def test_training_step(recorded):
    variant, entry, run = recorded
    model = make_segmenter(variant).train()
    loss = model.loss(list(run["train.input.images"]), list(run["train.input.labels"]))
    assert loss.item() == pytest.approx(entry["losses"]["train"], rel=1e-5)
    loss.backward()
    trained = {n: p.grad for n, p in model.named_parameters() if p.requires_grad}
    gradients = behind(run, "train.grad.")
    assert trained.keys() == gradients.keys()
    for name, gradient in gradients.items():
        assert_gradient(name, trained[name], gradient, entry["gradients"][f"grad.{name}"])
    model.ignored_as_negatives = False
    with torch.no_grad():
        sound = model.loss(list(run["train.input.images"]), list(run["train.input.labels"]))
    assert sound.item() == pytest.approx(entry["losses"]["without_ignored"], rel=1e-5)


def test_maps_and_logits(recorded):
    variant, entry, run = recorded
    model = make_segmenter(variant)
    with torch.no_grad():
        inputs = model.prepare(list(run["train.input.images"]))
        found = model.sem_seg_head.predictor.features(inputs)
        dense = found.dense.flatten(2).transpose(1, 2)
        assert_recorded(dense, run["train.mid.clip_dense"], 3e-4)
        guidance = (model.upsample1(found.maps[0]), model.upsample2(found.maps[1]))
        for stride, ours in zip((2, 4), guidance, strict=True):
            wanted = run[f"train.mid.guidance_stride{stride}"]
            torch.testing.assert_close(sampled(ours, 4096), wanted, atol=3e-4, rtol=0)
        logits = model.logits(inputs, entry["train_classes"])
    assert_recorded(logits, run["train.mid.logits_low_resolution"], 1e-4)


def test_whole_image_inference(recorded):
    variant, entry, run = recorded
    model = make_segmenter(variant)
    picture = run["infer.input.clean.image"]
    encoder = model.sem_seg_head.predictor.text
    tokens = encoder._tokenize(
        [text for texts in encoder.prompts(entry["test_classes"]) for text in texts]
    )
    assert torch.equal(tokens, run["infer.input.test_tokens"])
    sized, default = model.predict([picture, picture], [tuple(entry["sizes"]["clean"]), None])
    assert_recorded(sized, run["infer.output.clean.sem_seg"], 1e-4)
    assert_recorded(default, run["infer.output.clean_default_size.sem_seg"], 1e-4)
    with torch.no_grad():  # the network's part of the image with padding, before the defect
        logits = model.logits(model.prepare([run["infer.input.ragged.image"]]))
    assert_recorded(logits, run["infer.mid.ragged.logits_low_resolution"], 1e-4)


def test_sliding_windows(recorded):
    variant, entry, run = recorded
    model = make_segmenter(variant, segmenter={"windows": SlidingWindows()})
    picture = run["slide.input.image"]
    for pooling in (1, 2):
        model.sem_seg_head.predictor.transformer.pooling_size = (pooling, pooling)
        sized, full = model.predict([picture, picture], [tuple(entry["sizes"]["slide"]), None])
        assert_recorded(sized, run[f"slide.output.pool{pooling}.sem_seg"], 1e-4)
        if pooling == 1:
            assert_recorded(full[:, ::16, ::16], run["slide.output.pool1.full640_every16"], 1e-4)


def test_prompt_tuning_step(recorded):
    variant, entry, run = recorded
    model = make_segmenter(variant, "prompt", **entry["prompts"]).train()
    key = "sem_seg_head.predictor.clip_model.visual.transformer.prompt_tokens"
    model.load_state_dict({key: run[f"prompt.param.{key}"]}, strict=False)
    loss = model.loss(list(run["train.input.images"]), list(run["train.input.labels"]))
    assert loss.item() == pytest.approx(entry["losses"]["prompt"], rel=1e-5)
    loss.backward()
    wanted = run[f"prompt.grad.{key}"]
    limit = 1e-3 * wanted.abs().max() + 1e-6
    assert (dict(model.named_parameters())[key].grad - wanted).abs().max() <= limit


def test_full_finetuning_step():
    entry, run = settings("catseg_b16_runs"), tensors("catseg_b16_runs")
    model = make_segmenter("b16", "full").train()
    loss = model.loss(list(run["train.input.images"]), list(run["train.input.labels"]))
    assert loss.item() == pytest.approx(entry["losses"]["full"], rel=1e-5)
    loss.backward()
    gradients = {n: p.grad for n, p in model.named_parameters() if "clip_model" in n}
    assert {n for n, g in gradients.items() if g is not None} == entry["full_gradient_norms"].keys()
    for name, norm in entry["full_gradient_norms"].items():
        assert gradients[name].norm().item() == pytest.approx(norm, rel=1e-3, abs=1e-6), name


def test_padding_does_not_reach_the_result(tiny):
    """The map is brought to the padded size, cropped, resized; not cropped at low resolution."""
    picture = image(40, 70)
    with torch.no_grad():
        logits = tiny.logits(tiny.prepare([picture]))
    scores = F.interpolate(logits.sigmoid(), size=(64, 96), mode="bilinear")[..., :40, :70]
    (found,) = tiny.predict([picture])
    torch.testing.assert_close(found, scores[0])
    (sized,) = tiny.predict([picture], [(20, 31)])
    torch.testing.assert_close(sized, F.interpolate(scores, size=(20, 31), mode="bilinear")[0])


@pytest.mark.parametrize("windows", [None, SlidingWindows((96, 80), 48, 0.25)])
@pytest.mark.parametrize("at_a_time", [1, 3, 100])
def test_every_image_is_answered_as_if_alone(tiny, monkeypatch, windows, at_a_time):
    pictures = [image(40, 70, 1), image(64, 64, 2), image(33, 20, 3)]
    sizes = [None, (10, 12), None]
    batches = []
    logits = tiny.logits

    def counted(inputs, names):
        batches.append(len(inputs))
        return logits(inputs, names)

    monkeypatch.setattr(tiny, "windows", windows)
    alone = [tiny.predict([p], [s])[0] for p, s in zip(pictures, sizes, strict=True)]
    monkeypatch.setattr(tiny, "inputs_at_a_time", lambda num_classes: at_a_time)
    monkeypatch.setattr(tiny, "logits", counted)
    together = tiny.predict(pictures, sizes)
    for one, other in zip(alone, together, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=0)
    total = sum(batches)
    assert total == 3 * (1 if windows is None else 1 + len(windows.offsets()))
    assert batches == [at_a_time] * (total // at_a_time) + [total % at_a_time] * (
        total % at_a_time > 0
    )


def test_memory_budget_sets_the_number_of_inputs(tiny, monkeypatch):
    one = tiny.memory_budget / tiny.inputs_at_a_time(5)
    monkeypatch.setattr(tiny, "memory_budget", int(6.5 * one))
    assert 6 <= tiny.inputs_at_a_time(5) <= 7
    monkeypatch.setattr(tiny, "memory_budget", 1)
    assert tiny.inputs_at_a_time(5) == 1


@pytest.mark.parametrize("windows", [None, SlidingWindows((64, 64), 48)])
def test_labels_are_the_arg_max(tiny, monkeypatch, windows):
    monkeypatch.setattr(tiny, "windows", windows)
    names = [f"thing {i}" for i in range(40)]
    pictures = [image(40, 70, 4), image(32, 32, 5)]
    scores = tiny.predict(pictures, names=names)
    for found, wanted in zip(tiny.predict_labels(pictures, names=names), scores, strict=True):
        assert torch.equal(found.labels, wanted.argmax(dim=0))
        torch.testing.assert_close(found.scores, wanted.amax(dim=0))


def test_images_of_several_sizes_train_together(tiny):
    pictures = [image(40, 70), image(64, 33)]
    labels = [torch.zeros(40, 70, dtype=torch.uint8), torch.full((64, 33), 2)]
    assert tiny.loss(pictures, labels).isfinite()
    with pytest.raises(ValueError, match="has labels of"):
        tiny.loss(pictures, labels[::-1])


def test_statistics_are_not_saved_and_names_are_the_release_s(tiny):
    starts = {key.split(".")[0] for key in tiny.state_dict()}
    assert starts == {"sem_seg_head", "upsample1", "upsample2"}
