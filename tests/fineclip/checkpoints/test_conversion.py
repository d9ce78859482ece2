import copy
import functools
import json
import pickle
import zipfile

import numpy
import open_clip
import pytest
import torch
from PIL import Image
from recorded import behind, tensors
from safetensors import safe_open
from safetensors.torch import load_file

from fineclip.checkpoints import CheckpointError, convert, identify, load
from fineclip.checkpoints.conversion import convert_source
from fineclip.checkpoints.eva_clip import rotary_tables
from fineclip.checkpoints.source import source_from
from fineclip.models import DenseCLIP

LISTINGS = {
    "fineclip_EVA02-CLIP-B-16": "EVA02-B-16",
    "fineclip_EVA02-CLIP-L-14-336": "EVA02-L-14-336",
    "fineclip_ViT-B-16": "ViT-B-16",
    "fineclip_ViT-L-14-336": "ViT-L-14-336",
    "catseg_vitb_384": "ViT-B-16",
    "catseg_vitl_336": "ViT-L-14-336",
    "fvit_vitb16_ovcoco": "EVA02-B-16",
    "fvit_vitb16_ovlvis": "EVA02-B-16",
    "fvit_vitl14_ovcoco": "EVA02-L-14-336",
    "fvit_vitl14_ovlvis": "EVA02-L-14-336",
}


def assert_same(left, right):
    assert left.keys() == right.keys()
    for key, value in left.items():
        assert value.dtype == right[key].dtype, key
        assert torch.equal(value, right[key]), key


def read(path):
    return load_file(path) if path.suffix == ".safetensors" else torch.load(path, weights_only=True)


@functools.cache
def full_size(model):
    """An open_clip model's state dict, without memory."""
    with torch.device("meta"):
        return open_clip.create_model(model, device="meta").state_dict()


@pytest.mark.parametrize(("name", "model"), LISTINGS.items())
def test_full_size_listings_fit_the_models(listing, name, model):
    tensors = {k: torch.empty(shape, device="meta") for k, shape in listing(name).items()}
    source = source_from(tensors, name)
    expected = full_size(model)
    if name.startswith("fvit"):
        expected = {f"backbone.{k}": v for k, v in expected.items() if k.startswith("visual.")}
        converted = convert_source(source, to="fvit").tensors
        rest = {k: v.shape for k, v in converted.items() if k not in expected}
        # Everything else keeps its name, but for the classifier that nothing reads.
        own = {k: v.shape for k, v in tensors.items() if not k.startswith("backbone.visual.")}
        assert rest == {k: v for k, v in own.items() if ".fc_cls." not in k}
        converted = {k: v for k, v in converted.items() if k in expected}
    else:
        converted = convert_source(source, to="open_clip").tensors
    assert {k: v.shape for k, v in converted.items()} == {k: v.shape for k, v in expected.items()}


@pytest.mark.parametrize(("name", "model"), LISTINGS.items())
def test_models_convert_to_the_full_size_listings(listing, name, model):
    """The way out: an open_clip model under a release's names."""
    source = source_from(full_size(model), model)
    wanted = {k: tuple(shape) for k, shape in listing(name).items()}
    if name.startswith("catseg"):
        made = convert_source(source, to="catseg").tensors
        wanted = {k: v for k, v in wanted.items() if ".clip_model." in k}
    elif name.startswith("fvit"):
        made = convert_source(source, to="fvit", published=True).tensors
        wanted = {k: v for k, v in wanted.items() if k.startswith("backbone.visual.")}
    else:
        made = convert_source(source, to="eva_clip" if "EVA" in name else "open_clip").tensors
    assert {k: tuple(v.shape) for k, v in made.items()} == wanted


@pytest.mark.parametrize(
    "model",
    [
        *("ViT-H-14", "ViT-B-32-quickgelu", "EVA02-L-14", "RN50", "RN101", "RN50x4"),
        *("ViT-B-16-SigLIP", "ViT-SO400M-14-SigLIP2", "RN-Ti", "Sigmoid-Ti-16"),
    ],
)
def test_layouts_of_other_architectures(model):
    state = full_size(model)
    report = convert_source(source_from(state, model), to="open_clip").report
    assert sorted(report.matched) == sorted(state)
    assert not report.dropped


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize(
    ("model", "through", "middle"),
    [
        ("tiny_eva", "eva_clip", "m.pt"),
        ("tiny_eva", "catseg", "m.pth"),
        ("tiny_vit", "huggingface", "hf"),
        ("tiny_vit", "catseg", "m.safetensors"),
    ],
)
def test_round_trips_are_exact(request, save, tmp_path, model, through, middle, dtype):
    state = {k: v.to(dtype) for k, v in request.getfixturevalue(model).state_dict().items()}
    start = save(state, tmp_path / "start.safetensors")
    convert(start, tmp_path / middle, to=through)
    assert identify(tmp_path / middle) == through
    report = convert(tmp_path / middle, tmp_path / "back.safetensors", to="open_clip")
    assert_same(read(tmp_path / "back.safetensors"), state)
    assert_same(load(tmp_path / middle), state)
    accounted = len(report.matched) + len(report.renamed)
    assert accounted == len(state)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
@pytest.mark.parametrize("suffix", [".pth", ".safetensors"])
@pytest.mark.parametrize("name", ["fvit_vitb16_ovcoco", "fvit_vitl14_ovlvis"])
def test_published_detector_to_ours_and_back(small_release, save, tmp_path, name, suffix, dtype):
    published = small_release(name, dtype)
    checkpoint = {"state_dict": published, "meta": {"CLASSES": ("cat", "dog"), "epoch": 3}}
    start = save(checkpoint, tmp_path / "release.pth")
    ours, back = tmp_path / f"ours{suffix}", tmp_path / f"back{suffix}"
    report = convert(start, ours, to="fvit")
    assert identify(start) == identify(ours) == "fvit"
    assert any("rotary tables differ" in note for note in report.notes)  # they are random here
    tensors = read(ours) if suffix == ".safetensors" else read(ours)["state_dict"]
    live = [key for key in tensors if not key.startswith("published_only.")]
    assert not any("rope" in key or "fc_cls" in key for key in live)
    assert len(report.matched) + len(report.renamed) == len(live)
    assert len(live) + len(report.dropped) == len(published)
    convert(ours, back, to="fvit", published=True)
    assert_same(read(back) if suffix == ".safetensors" else read(back)["state_dict"], published)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16])
def test_published_segmenter_to_ours_and_back(small_release, save, tmp_path, dtype):
    published = small_release("catseg_vitb_384", dtype)
    start = save({"model": published, "iteration": 7}, tmp_path / "model_final.pth")
    report = convert(start, tmp_path / "ours.pth", to="catseg")
    assert len(report.matched) == len(published)
    assert_same(read(tmp_path / "ours.pth")["model"], published)
    clip = load(start)
    merged = clip["visual.transformer.resblocks.3.attn.in_proj_weight"]
    stem = "sem_seg_head.predictor.clip_model.visual.transformer.resblocks.3.attn."
    parts = [published[f"{stem}{part}_proj_weight"] for part in "qkv"]
    assert torch.equal(merged, torch.cat(parts))


def test_detector_trained_here_gets_what_the_release_saves(small_release, tmp_path):
    """Without a release's file to come from, its redundant tensors are made."""
    published = small_release("fvit_vitb16_ovcoco")
    ours = convert_source(source_from(published, "release"), to="fvit").tensors
    back = convert_source(source_from(ours, "ours"), to="fvit", published=True).tensors
    made = {key for key in published if "rope" in key or "fc_cls" in key}
    assert back.keys() == published.keys()
    assert_same(*({k: d[k] for k in d if k not in made} for d in (back, published)))


def test_stored_rotary_tables_are_the_recorded_ones():
    state = behind(tensors("eva02_tiny"), "param.")
    source = source_from(dict(state), "reference")
    assert not source.notes
    assert any(key.startswith("visual.rope.") for key, _ in source.dropped)
    stored = state["visual.rope.freqs_cos"]
    cos, sin = rotary_tables(round(len(stored) ** 0.5), stored.shape[1])
    assert torch.equal(cos, stored)
    assert torch.equal(sin, state["visual.rope.freqs_sin"])


def test_our_training_checkpoint(tiny_eva, save, tmp_path):
    state = {f"clip.clip.{k}": v for k, v in tiny_eva.state_dict().items()}
    state["objectives.0.center"] = torch.zeros(3)
    start = save({"state_dict": state, "meta": {"epoch": 1}}, tmp_path / "epoch_1.pth")
    report = convert(start, tmp_path / "clip.safetensors", to="open_clip")
    assert report.dropped == [("objectives.0.center", "of the training, not of the model")]
    assert_same(read(tmp_path / "clip.safetensors"), tiny_eva.state_dict())


def test_clip_becomes_a_backbone(tiny_vit, save, tmp_path):
    state = tiny_vit.state_dict()
    start = save(state, tmp_path / "clip.pt")
    report = convert(start, tmp_path / "backbone.pth", to="fvit")
    visual = {f"backbone.{k}": v for k, v in state.items() if k.startswith("visual.")}
    assert_same(read(tmp_path / "backbone.pth")["state_dict"], visual)
    assert {key for key, _ in report.dropped} == {k for k in state if not k.startswith("visual.")}


def test_openai_archive_gives_up_its_tensors(tiny_vit, tmp_path):
    """A TorchScript archive is read without its code, in its own precision."""

    class Release(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.visual = tiny_vit.visual
            self.transformer = tiny_vit.transformer
            self.token_embedding = tiny_vit.token_embedding
            self.ln_final = tiny_vit.ln_final
            self.positional_embedding = tiny_vit.positional_embedding
            self.text_projection = tiny_vit.text_projection
            self.logit_scale = tiny_vit.logit_scale
            self.register_buffer("input_resolution", torch.tensor(64))
            self.register_buffer("context_length", torch.tensor(77))
            self.register_buffer("vocab_size", torch.tensor(49408))

        def forward(self, image):
            features = self.visual(image) * self.logit_scale
            text = self.ln_final(self.token_embedding.weight[:2]) @ self.text_projection
            block = self.transformer.resblocks[0](self.positional_embedding[:2, None])
            second = self.transformer.resblocks[1](block)
            return features.sum() + text.sum() + second.sum() + self.input_resolution

    release = copy.deepcopy(Release()).half().eval()
    for module in release.modules():
        if isinstance(module, torch.nn.LayerNorm):
            module.float()
    wanted = {k: v for k, v in release.state_dict().items() if v.ndim or k == "logit_scale"}
    release_32 = copy.deepcopy(release).float()
    traced = torch.jit.trace(release_32, torch.zeros(1, 3, 64, 64), check_trace=False)
    # Back to the stored precision: a trace in half precision needs a GPU.
    for name, parameter in traced.named_parameters():
        parameter.data = parameter.data.to(wanted[name].dtype)
    path = tmp_path / "openai.pt"
    torch.jit.save(traced, str(path))
    assert identify(path) == "openai"
    report = convert(path, tmp_path / "clip.safetensors", to="open_clip")
    result = read(tmp_path / "clip.safetensors")
    assert_same({k: result[k] for k in wanted if k in result}, wanted)
    assert result.keys() == tiny_vit.state_dict().keys()
    assert {"input_resolution"} <= {key for key, _ in report.dropped}
    # The activation is remembered: OpenAI's models use the approximate GELU.
    convert(tmp_path / "clip.safetensors", tmp_path / "hf", to="huggingface")
    config = json.loads((tmp_path / "hf" / "config.json").read_text())
    assert config["vision_config"]["hidden_act"] == "quick_gelu"


def test_torchscript_that_asks_for_more_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return print, ("ran",)

    path = tmp_path / "evil.pt"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("m/constants.pkl", pickle.dumps(()))
        archive.writestr("m/data.pkl", pickle.dumps(Evil()))
    with pytest.raises(CheckpointError, match=r"was refused.*print"):
        load(path)


@pytest.mark.parametrize("quick_gelu", [True, False])
def test_transformers_computes_the_same(tiny_vit, save, tmp_path, quick_gelu):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(3)
    model = open_clip.create_model("ViT-Ti-16", force_quick_gelu=quick_gelu).eval()
    start = save(model.state_dict(), tmp_path / "clip.pt")
    convert(start, tmp_path / "hf", to="huggingface", quick_gelu=quick_gelu)
    loaded = transformers.CLIPModel.from_pretrained(tmp_path / "hf").eval()
    texts = ["a photo of a cat", "Two dogs & 3 cats, naïve café!"]
    tokens = open_clip.get_tokenizer("ViT-Ti-16")(texts)
    images = torch.rand(2, 3, 64, 64)
    with torch.no_grad():
        output = loaded(pixel_values=images, input_ids=tokens)
        image, text, scale = model(images, tokens)
    torch.testing.assert_close(output.image_embeds, image, atol=1e-5, rtol=0)
    torch.testing.assert_close(output.text_embeds, text, atol=1e-5, rtol=0)
    torch.testing.assert_close(
        output.logits_per_image, scale * image @ text.T, atol=1e-4, rtol=1e-5
    )
    tokenizer = transformers.AutoTokenizer.from_pretrained(tmp_path / "hf")
    for text, row in zip(texts, tokens, strict=True):
        assert tokenizer(text)["input_ids"] == row[: row.argmax() + 1].tolist()
    processor = transformers.CLIPImageProcessor.from_pretrained(tmp_path / "hf")
    pixels = processor(Image.new("RGB", (90, 70), (255, 0, 0)), return_tensors="pt")["pixel_values"]
    assert pixels.shape == (1, 3, 64, 64)
    red = [(value - m) / s for value, m, s in zip((1, 0, 0), *_statistics(), strict=True)]
    torch.testing.assert_close(pixels[0, :, 30, 30], torch.tensor(red), atol=1e-5, rtol=0)


def _statistics():
    return open_clip.OPENAI_DATASET_MEAN, open_clip.OPENAI_DATASET_STD


def test_what_transformers_saves_comes_in(tiny_vit, tmp_path):
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(4)
    tower = {"hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 2}
    config = transformers.CLIPConfig(
        projection_dim=24,
        text_config={**tower, "num_hidden_layers": 2, "vocab_size": 100, "projection_dim": 24},
        vision_config={**tower, "num_hidden_layers": 3, "image_size": 32, "patch_size": 8},
    )
    model = transformers.CLIPModel(config).eval()
    model.save_pretrained(tmp_path / "hf", max_shard_size="40KB")  # in several files
    assert (tmp_path / "hf" / "model.safetensors.index.json").exists()
    convert(tmp_path / "hf", tmp_path / "clip.safetensors", to="open_clip")
    clip = open_clip.CLIP(
        24,
        {
            "image_size": 32,
            "patch_size": 8,
            "width": 32,
            "layers": 3,
            "head_width": 16,
            "mlp_ratio": 2,
        },
        {"vocab_size": 100, "width": 32, "layers": 2, "heads": 2, "mlp_ratio": 2},
        quick_gelu=True,
    ).eval()
    clip.load_state_dict(load_file(tmp_path / "clip.safetensors"))
    with safe_open(tmp_path / "clip.safetensors", "pt") as file:
        assert file.metadata()["quick_gelu"] == "true"
    images = torch.rand(2, 3, 32, 32)
    with torch.no_grad():
        wanted = model.get_image_features(pixel_values=images)
        wanted = getattr(wanted, "pooler_output", wanted)
        torch.testing.assert_close(clip.encode_image(images), wanted, atol=1e-5, rtol=0)
    model.save_pretrained(tmp_path / "one")
    assert_same(load(tmp_path / "one" / "model.safetensors"), load(tmp_path / "hf"))


@pytest.mark.parametrize("model", ["tiny_vit", "tiny_eva"])
def test_position_tables_are_resampled_on_request_only(request, save, tmp_path, model):
    clip = request.getfixturevalue(model)
    start = save(clip.state_dict(), tmp_path / "clip.pt")
    report = convert(start, tmp_path / "large.pt", to="open_clip", image_size=96)
    assert any("4 x 4 to 6 x 6" in note for note in report.notes)
    name = "ViT-Ti-16" if model == "tiny_vit" else "EVA02-Ti-16"
    with pytest.raises(CheckpointError, match="--image-size"):
        DenseCLIP.create(name, str(tmp_path / "large.pt"))
    kwargs = {"force_image_size": 96}
    large = DenseCLIP.create(name, str(tmp_path / "large.pt"), **kwargs).eval()
    images = torch.rand(1, 3, 96, 96)
    with torch.no_grad():
        wanted = DenseCLIP(clip).encode_image(images)  # resampled on the fly
        torch.testing.assert_close(large.encode_image(images), wanted, atol=1e-5, rtol=0)
    with pytest.raises(CheckpointError, match="no multiple of the patch"):
        convert(start, tmp_path / "odd.pt", to="open_clip", image_size=100)


def test_misfits_are_errors_that_list_the_keys(tiny_vit, tiny_eva, save, tmp_path):
    state = dict(tiny_vit.state_dict())
    state["visual.adapter.weight"] = torch.ones(2)
    state["ln_final.weight"] = torch.ones(3)
    del state["visual.transformer.resblocks.1.mlp.c_fc.bias"]
    start = save(state, tmp_path / "clip.pt")
    with pytest.raises(CheckpointError) as caught:
        convert(start, tmp_path / "out.pt", to="catseg")
    for part in (
        "1 unknown key: visual.adapter.weight",
        "1 missing key: visual.transformer.resblocks.1.mlp.c_fc.bias",
        "1 wrong shape: ln_final.weight (3,) instead of (64,)",
    ):
        assert part in str(caught.value)
    eva = convert_source(source_from(tiny_eva.state_dict(), "eva"), to="eva_clip").tensors
    eva["visual.blocks.1.attn.q_bias"] = torch.ones(5)
    eva["visual.blocks.1.attn.lora"] = torch.ones(5)
    start = save(eva, tmp_path / "eva.pt")
    with pytest.raises(CheckpointError, match=r"attn\.lora.*q_bias \(5,\) instead of \(96,\)"):
        convert(start, tmp_path / "out.pt", to="open_clip")
    assert not (tmp_path / "out.pt").exists()


def test_architectures_a_target_cannot_hold(tiny_vit, tiny_eva, small_release, save, tmp_path):
    vit = save(tiny_vit.state_dict(), tmp_path / "vit.pt")
    eva = save(tiny_eva.state_dict(), tmp_path / "eva.pt")
    detector = save(small_release("fvit_vitb16_ovcoco"), tmp_path / "detector.pth")
    for start, to, dst, message in (
        (vit, "eva_clip", "o.pt", "EVA-CLIP naming holds timm EVA02"),
        (eva, "huggingface", "hf", "CLIPModel holds open_clip ViT"),
        (detector, "open_clip", "o.pt", "image tower alone"),
    ):
        with pytest.raises(CheckpointError, match=message):
            convert(start, tmp_path / dst, to=to)
        assert not (tmp_path / dst).exists()


def test_numpy_scores_beside_the_weights_are_data(tiny_vit, save, tmp_path):
    """mmcv stores best scores that way; a refusal would lose published detectors."""
    content = {"state_dict": tiny_vit.state_dict(), "meta": {"best": numpy.float64(0.3)}}
    assert identify(save(content, tmp_path / "m.pth")) == "open_clip"


def test_values_of_a_file_overwritten_by_its_own_conversion(tiny_vit, save, tmp_path):
    path = save(tiny_vit.state_dict(), tmp_path / "clip.safetensors")
    convert(path, path, to="catseg")
    assert_same(load(path), tiny_vit.state_dict())


@pytest.mark.parametrize(("to", "dst"), [("huggingface", "hf"), ("catseg", "o.safetensors")])
def test_a_failed_write_leaves_nothing(tiny_vit, save, tmp_path, monkeypatch, to, dst):
    start = save(tiny_vit.state_dict(), tmp_path / "clip.pt")

    def full(tensors, file, metadata):
        file.write_bytes(b"half")
        raise OSError("No space left on device")

    monkeypatch.setattr("fineclip.checkpoints.write.save_file", full)
    with pytest.raises(OSError, match="No space left"):
        convert(start, tmp_path / dst, to=to)
    assert [path.name for path in tmp_path.iterdir()] == ["clip.pt"]


# A missing key is the file's own, also where it is one that a format is known by.
MISSING = {
    "open_clip": [
        *("logit_scale", "visual.class_embedding", "token_embedding.weight"),
        *("visual.transformer.resblocks.0.attn.in_proj_bias", "visual.proj"),
    ],
    "huggingface": [
        *("logit_scale", "vision_model.embeddings.class_embedding", "visual_projection.weight"),
        *("text_model.encoder.layers.1.self_attn.k_proj.weight",),
    ],
    "eva_clip": ["visual.cls_token", "visual.blocks.1.attn.q_bias", "text.token_embedding.weight"],
    "catseg": [
        f"sem_seg_head.predictor.clip_model.{key}"
        for key in (
            "visual.class_embedding",
            "visual.transformer.resblocks.0.attn.v_proj_weight",
            "ln_final.bias",
        )
    ],
    "fvit": ["backbone.visual.ln_post.bias", "backbone.visual.class_embedding"],
}


@pytest.mark.parametrize(("form", "key"), [(f, k) for f, keys in MISSING.items() for k in keys])
@pytest.mark.parametrize("prefix", ["", "model."])
def test_a_missing_key_is_named(tiny_vit, tiny_eva, save, tmp_path, form, key, prefix):
    model = tiny_eva if form == "eva_clip" else tiny_vit
    state = convert_source(source_from(model.state_dict(), "clip"), to=form).tensors
    del state[key]
    path = save({f"{prefix}{k}": v.clone() for k, v in state.items()}, tmp_path / "clip.pt")
    with pytest.raises(CheckpointError) as caught:
        convert(path, tmp_path / "out.pth", to="fvit")
    assert f"1 missing key: {prefix}{key}" in str(caught.value)
    assert str(caught.value).startswith(str(path))
    if form == "fvit":
        return
    with pytest.raises(CheckpointError, match=f"1 missing key: {prefix}{key}"):
        DenseCLIP.create("EVA02-Ti-16" if form == "eva_clip" else "ViT-Ti-16", str(path))


def test_a_detector_whose_heads_are_narrower_than_its_pyramid(small_release, save, tmp_path):
    release = small_release("fvit_vitb16_ovcoco")
    state = convert_source(source_from(release, "release"), to="fvit").tensors

    def narrow(key, *axes):
        for axis in axes:
            state[key] = state[key].narrow(axis, 0, 8).clone()

    for key in [k for k in state if k.startswith("rpn_head.rpn_conv.") and state[k].ndim]:
        is_kernel = state[key].ndim == 4
        narrow(key, *((0, 1) if is_kernel and ".0." not in key else (0,)))
    for key in ("rpn_head.rpn_cls.weight", "rpn_head.rpn_reg.weight"):
        narrow(key, 1)
    path = save({"state_dict": state}, tmp_path / "narrow.pth")
    report = convert(path, tmp_path / "out.pth", to="fvit")
    assert len(report.matched) == len(state)
    state["rpn_head.rpn_cls.weight"] = state["rpn_head.rpn_cls.weight"][:, :5].clone()
    with pytest.raises(CheckpointError, match=r"1 wrong shape: rpn_head\.rpn_cls\.weight"):
        convert(save({"state_dict": state}, path), tmp_path / "out.pth", to="fvit")


@pytest.mark.parametrize("sizes", [("_16", "_64"), ("_32x32",)])
def test_rotary_buffers_of_the_detectors_release(small_release, save, tmp_path, sizes):
    published = small_release("fvit_vitb16_ovcoco")
    for place in ("backbone.visual.rope.", "backbone.visual.blocks.0.attn.rope."):
        published[f"{place}flag"] = torch.tensor(True)
        for size in sizes:
            cos, sin = rotary_tables(4, 16)
            published |= {f"{place}freqs_cos{size}": cos, f"{place}freqs_sin{size}": sin.clone()}
    start = save({"state_dict": published}, tmp_path / "release.pth")
    report = convert(start, tmp_path / "ours.pth", to="fvit")
    extra = {key for key in published if "rope" in key}
    assert extra <= {key for key, _ in report.dropped}
    assert not any("rope" in key for key in read(tmp_path / "ours.pth")["state_dict"])
    convert(tmp_path / "ours.pth", tmp_path / "back.pth", to="fvit", published=True)
    assert_same(read(tmp_path / "back.pth")["state_dict"], published)


def test_a_segmenter_whose_clip_has_eva_clips_names(tiny_eva, save, tmp_path):
    state = tiny_eva.state_dict()
    eva = convert_source(source_from(state, "clip"), to="eva_clip").tensors
    prefix = "sem_seg_head.predictor.clip_model."
    path = save(
        {"model": {f"{prefix}{k}": v for k, v in eva.items()}}, tmp_path / "model_final.pth"
    )
    assert identify(path) == "catseg"
    assert_same(load(path), state)
    report = convert(path, tmp_path / "ours.pth", to="catseg")
    assert (
        (f"{prefix}visual.blocks.0.attn.q_bias",),
        f"{prefix}visual.trunk.blocks.0.attn.q_proj.bias",
        "",
    ) in report.renamed
    assert_same(load(tmp_path / "ours.pth"), state)


@pytest.mark.parametrize("with_visual", [True, False])
@pytest.mark.parametrize(
    ("model", "form"),
    [("tiny_vit", "open_clip"), ("tiny_eva", "open_clip"), ("tiny_eva", "eva_clip")],
)
def test_an_image_tower_alone(request, save, tmp_path, model, form, with_visual):
    clip = request.getfixturevalue(model)
    state = convert_source(source_from(clip.state_dict(), "clip"), to=form).tensors
    tower = {
        key if with_visual else key.removeprefix("visual."): value
        for key, value in state.items()
        if key.startswith("visual.")
    }
    path = save(tower, tmp_path / "tower.pt")
    name = "ViT-Ti-16" if model == "tiny_vit" else "EVA02-Ti-16"
    with pytest.raises(CheckpointError, match=r"tower\.pt .*holds an image tower alone"):
        DenseCLIP.create(name, str(path))
    loaded = DenseCLIP.create(name, str(path), image_only=True).eval()
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        wanted = DenseCLIP(clip).eval().encode_image(images)
        assert torch.equal(loaded.encode_image(images), wanted)
    tokens = torch.zeros(1, 77, dtype=torch.int64)
    for encode in (loaded.encode_text, loaded.encode_text_tokens):
        with pytest.raises(ValueError, match="its text tower has no weights"):
            encode(tokens)
    convert(path, tmp_path / "backbone.pth", to="fvit")
    visual = {f"backbone.{k}": v for k, v in clip.state_dict().items() if k.startswith("visual.")}
    assert_same(read(tmp_path / "backbone.pth")["state_dict"], visual)
    with pytest.raises(CheckpointError, match="image tower alone"):
        convert(path, tmp_path / "clip.pt", to="open_clip")


def test_keys_that_are_ignored_as_told(tiny_vit, save, tmp_path):
    state = dict(tiny_vit.state_dict())
    path = save(
        {**state, "adapter.a": torch.ones(1), "visual.lora": torch.ones(1)}, tmp_path / "c.pt"
    )
    with pytest.raises(CheckpointError, match=r"2 unknown keys: adapter\.a, visual\.lora"):
        convert(path, tmp_path / "out.pt", to="open_clip")
    report = convert(path, tmp_path / "out.pt", to="open_clip", ignore=["adapter.*", "*.lora"])
    assert_same(read(tmp_path / "out.pt"), state)
    assert sorted(key for key, _ in report.dropped) == ["adapter.a", "visual.lora"]
    with pytest.raises(CheckpointError, match=r"has no key that 'adaptor\.\*'"):
        convert(path, tmp_path / "none.pt", to="open_clip", ignore=["adaptor.*"])
    with pytest.raises(CheckpointError, match="nothing but keys"):
        convert(path, tmp_path / "none.pt", to="open_clip", ignore=["*"])


@pytest.mark.parametrize("value", [torch.nan, torch.inf, -torch.inf])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_weights_that_are_not_finite(tiny_vit, save, tmp_path, value, dtype):
    state = {key: tensor.to(dtype) for key, tensor in tiny_vit.state_dict().items()}
    state["visual.ln_pre.weight"] = torch.full_like(state["visual.ln_pre.weight"], value)
    path = save(state, tmp_path / "clip.pt")
    said = r"clip\.pt has NaN or infinite values in 1 of \d+ tensors: visual\.ln_pre\.weight"
    with pytest.raises(CheckpointError, match=said):
        convert(path, tmp_path / "out.pt", to="catseg")
    with pytest.raises(CheckpointError, match=said):
        DenseCLIP.create("ViT-Ti-16", str(path))
    report = convert(path, tmp_path / "out.pt", to="open_clip", allow_nonfinite=True)
    assert "NaN or infinite values in 1 tensors: visual.ln_pre.weight" in report.notes


def test_large_weights_whose_sum_overflows_are_finite(tiny_vit, save, tmp_path):
    state = dict(tiny_vit.state_dict())
    state["visual.ln_pre.weight"] = torch.full_like(state["visual.ln_pre.weight"], 3e38)
    report = convert(save(state, tmp_path / "clip.pt"), tmp_path / "out.pt", to="open_clip")
    assert not any("infinite" in note for note in report.notes)
    written = torch.load(tmp_path / "out.pt", weights_only=True)
    assert torch.equal(written["visual.ln_pre.weight"], state["visual.ln_pre.weight"])


def test_weights_stored_as_integers_are_refused(tiny_vit, save, tmp_path):
    """Such as those of quantised exports, whose scales are elsewhere."""
    state = dict(tiny_vit.state_dict())
    key = "visual.transformer.resblocks.0.mlp.c_fc.weight"
    state[key] = (state[key] * 100).to(torch.int8)
    path = save(state, tmp_path / "clip.pt")
    said = rf"1 wrong type: {key} torch\.int8 instead of torch\.float32"
    with pytest.raises(CheckpointError, match=said):
        convert(path, tmp_path / "out.pt", to="open_clip")
    with pytest.raises(CheckpointError, match=said):
        DenseCLIP.create("ViT-Ti-16", str(path))


def test_the_same_bytes_whatever_the_name(tmp_path):
    """And whatever process wrote it; a torch file would hold the name it was written under."""
    torch.manual_seed(0)
    torch.save(DenseCLIP.create("ViT-Ti-16").clip.state_dict(), tmp_path / "clip.pt")
    for suffix in ("pth", "safetensors"):
        for name in ("one", "another"):
            convert(tmp_path / "clip.pt", tmp_path / f"{name}.{suffix}", to="catseg")
        one, another = (tmp_path / f"{name}.{suffix}" for name in ("one", "another"))
        assert one.read_bytes() == another.read_bytes()
