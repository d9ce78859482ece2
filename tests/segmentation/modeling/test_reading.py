"""Which dense map a segmenter reads, by the origin of its start weights."""

import logging
from types import SimpleNamespace

import pytest
import torch
from mmengine.config import Config
from safetensors.torch import save_file

from fineclip.checkpoints import convert
from fineclip.configuration.plain import write_plain_config
from fineclip.models import DenseCLIP
from segmentation.modeling import build_segmenter, choose_residual, load_checkpoint
from segmentation.modeling.reading import origin_of

NAME = "ViT-Ti-16"
SMALL = {
    "train_classes": ["cat"],
    "grid": (4, 4),
    "hidden_dim": 32,
    "window_size": 3,
    "decoder_dims": (32, 16),
    "decoder_guidance_proj_dims": (16, 8),
}
KEY = "MODEL.SEM_SEG_HEAD.CLIP_RESIDUAL"
FINECLIP = ("GlobalContrastive", "RegionContrastive", "SelfDistillation")
TRAINED = {
    "fineclip": FINECLIP,
    "clipself": ("CLIPSelfDistillation",),
    "regionclip": ("fineclip.RegionCLIPLoss",),
    "clip": ("GlobalContrastive",),
    "another package's": ("theirs.Own",),
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Start weights of every origin, by the name of the origin."""
    root = tmp_path_factory.mktemp("origins")
    state = DenseCLIP.create(NAME).clip.state_dict()
    found = {"unknown": root / "unknown.pt"}
    torch.save(state, found["unknown"])
    inside = {f"clip.clip.{key}": value for key, value in state.items()}
    for name, objectives in TRAINED.items():
        settings = {f"model.objectives.{i}.type": kind for i, kind in enumerate(objectives)}
        found[name] = root / f"{name}.pth"
        torch.save({"state_dict": inside, "meta": {"settings": settings}}, found[name])
    # Converted: the header remembers, a bare state dict cannot.
    for name, target, to in (
        ("fineclip.safetensors", "a.safetensors", "open_clip"),
        ("fineclip as catseg", "b.pth", "catseg"),
        ("fineclip as folder", "hf", "huggingface"),
        ("fineclip bare", "c.pt", "open_clip"),
    ):
        convert(found["fineclip"], root / target, to=to)
        found[name] = root / target
    # Without what a run notes in its checkpoints, but beside its config.
    (root / "run").mkdir()
    found["beside a config"] = root / "run/weights.pth"
    torch.save({"state_dict": inside}, found["beside a config"])
    model = {"objectives": [{"type": name} for name in FINECLIP]}
    write_plain_config(Config({"model": model}), root / "run")
    openai = state | {"input_resolution": torch.tensor(224)}
    found["openai"] = root / "openai.pt"
    torch.save(openai, found["openai"])
    segmenter = build_segmenter(NAME, **SMALL)
    found["catseg"] = root / "catseg.safetensors"
    save_file(segmenter.state_dict(), found["catseg"])
    found["catseg, own"] = root / "catseg_own.pth"
    trainer = {"settings": {KEY: "own"}}
    torch.save({"model": segmenter.state_dict(), "trainer": trainer}, found["catseg, own"])
    found["tag"] = "openai"
    return found


@pytest.mark.parametrize(
    ("origin", "auto", "warns_of", "says"),
    [
        # origin, what auto becomes, the explicit setting that is warned of, and why
        (
            "fineclip",
            "own",
            "class_token",
            "by GlobalContrastive, RegionContrastive, Self",
        ),
        ("clipself", "own", "class_token", "by CLIPSelfDistillation"),
        ("regionclip", "own", "class_token", "by RegionCLIPLoss"),
        ("fineclip.safetensors", "own", "class_token", "by GlobalContrastive, Region"),
        ("fineclip as catseg", "own", "class_token", "by GlobalContrastive, Region"),
        ("fineclip as folder", "own", "class_token", "by GlobalContrastive, Region"),
        ("beside a config", "own", "class_token", "by GlobalContrastive, Region"),
        ("catseg, own", "own", "class_token", "by CAT-Seg"),
        ("catseg", "class_token", "own", "as CAT-Seg's release"),
        ("clip", "class_token", None, "by GlobalContrastive, without regions"),
        ("another package's", "class_token", "auto", "by Own, which this package does not know"),
        ("openai", "class_token", None, "is a plain CLIP"),
        ("tag", "class_token", None, "is a plain CLIP"),
        ("unknown", "class_token", "auto", "does not say how it was trained"),
        ("fineclip bare", "class_token", "auto", "does not say how it was trained"),
    ],
)
def test_origin_and_setting(files, caplog, origin, auto, warns_of, says):
    name = "ViT-B-16-quickgelu" if origin == "tag" else NAME
    found = origin_of(name, files[origin])
    clip = SimpleNamespace(trunk=SimpleNamespace(num_prefix_tokens=1))
    with caplog.at_level(logging.INFO):
        for asked in ("auto", "own", "class_token"):
            caplog.clear()
            chosen = choose_residual(asked, clip, found)
            assert chosen == (auto if asked == "auto" else asked)
            (line,) = caplog.records
            assert line.levelname == ("WARNING" if asked == warns_of else "INFO")
            message = line.getMessage()
            assert says in message
            assert {"own": "each token's own", "class_token": "the class token's"}[
                chosen
            ] in message.partition(",")[0]
            if asked == warns_of:
                change = f"set {KEY} to {'own' if asked == 'auto' else auto}"
                assert change in message
    # A tower without class token has one reading.
    siglip = SimpleNamespace(trunk=SimpleNamespace(num_prefix_tokens=0))
    assert origin.startswith("catseg") or choose_residual("auto", siglip, found) == "own"


def test_an_unknown_word():
    with pytest.raises(ValueError, match=f"{KEY}: unknown residual 'token'; known: auto, own"):
        choose_residual("token", SimpleNamespace())


def test_a_segmenter_says_what_it_reads(files, caplog):
    with caplog.at_level(logging.INFO):
        model = build_segmenter(NAME, str(files["fineclip"]), **SMALL)
    (line,) = (r for r in caplog.records if "CAT-Seg reads" in r.getMessage())
    assert line.levelname == "INFO"
    assert model.sem_seg_head.predictor.residual == "own"
    clip = DenseCLIP.create(NAME)
    predictor = build_segmenter(clip, residual="own", **SMALL).sem_seg_head.predictor
    assert predictor.residual == "own"


@pytest.mark.parametrize("converted", [None, "again.pth", "again.safetensors"])
def test_a_trained_segmenter_is_read_as_it_was_trained(files, tmp_path, converted):
    file = files["catseg, own"]
    if converted:
        convert(file, tmp_path / converted, to="catseg")
        file = tmp_path / converted
    model = build_segmenter(NAME, **SMALL)
    assert model.sem_seg_head.predictor.residual == "class_token"
    load_checkpoint(model, file)
    assert model.sem_seg_head.predictor.residual == "own"
    # The release's file says nothing.
    load_checkpoint(model, files["catseg"])
    assert model.sem_seg_head.predictor.residual == "own"
