"""Segmenters from names and files."""

from pathlib import Path

import pytest
import torch
from catseg_reference import make_segmenter, published
from safetensors.torch import save_file

from fineclip.checkpoints import CheckpointError, convert
from fineclip.models import DenseCLIP
from segmentation.modeling import build_segmenter, load_checkpoint

ROOT = Path(__file__).parents[3]
SMALL = {
    "train_classes": ["cat", "dog"],
    "grid": (4, 4),
    "hidden_dim": 32,
    "window_size": 3,
    "decoder_dims": (32, 16),
    "decoder_guidance_proj_dims": (16, 8),
}


def test_a_release_loads_with_its_masks(tmp_path):
    weights = published("b16")
    for layer in range(2):
        key = f"sem_seg_head.predictor.transformer.layers.{layer}.swin_block.block_2.attn_mask"
        weights[key] = torch.zeros(4, 144, 144)
    torch.save({"model": weights}, tmp_path / "release.pth")
    model = make_segmenter("b16")
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.zero_()
    load_checkpoint(model, tmp_path / "release.pth")
    state = model.state_dict()
    assert all(torch.equal(state[k], v) for k, v in weights.items() if "attn_mask" not in k)


@pytest.mark.parametrize("name", ["ViT-Ti-16", "EVA02-Ti-16"])
def test_saved_models_have_the_layout_of_the_release(tmp_path, name):
    model = build_segmenter(name, prompt_depth=2, prompt_length=3, **SMALL)
    save_file(model.state_dict(), tmp_path / "ours.safetensors")
    other = build_segmenter(name, prompt_depth=2, prompt_length=3, **SMALL)
    load_checkpoint(other, tmp_path / "ours.safetensors")
    for key, value in model.state_dict().items():
        assert torch.equal(other.state_dict()[key], value), key
    # Its CLIP can be taken out again.
    convert(tmp_path / "ours.safetensors", tmp_path / "clip.safetensors", to="open_clip")
    clip = DenseCLIP.create(name, str(tmp_path / "clip.safetensors")).eval()
    tokens = clip.tokenizer(["A photo of a cat in the scene"])
    found = model.eval().sem_seg_head.predictor.text(["cat"])[:, 0]
    torch.testing.assert_close(found, clip.encode_text(tokens), atol=1e-5, rtol=0)


def test_refined_weights_start_a_segmenter(tmp_path):
    clip = DenseCLIP.create("ViT-Ti-16")
    torch.save(clip.clip.state_dict(), tmp_path / "clip.pt")
    model = build_segmenter("ViT-Ti-16", str(tmp_path / "clip.pt"), **SMALL)
    names = ["cat", "dog"]
    tokens = clip.tokenizer([f"A photo of a {name} in the scene" for name in names])
    found = model.eval().sem_seg_head.predictor.text(names)[:, 0]
    torch.testing.assert_close(found, clip.eval().encode_text(tokens), atol=1e-5, rtol=0)


def test_files_that_do_not_fit(tmp_path):
    model = build_segmenter("ViT-Ti-16", **SMALL)
    state = model.state_dict()
    clip = {k: v for k, v in state.items() if "clip_model" in k}
    save_file(clip, tmp_path / "clip.safetensors")
    with pytest.raises(CheckpointError, match="not a CAT-Seg model with"):
        load_checkpoint(model, tmp_path / "clip.safetensors")
    save_file(state, tmp_path / "whole.safetensors")
    other = build_segmenter("ViT-Ti-16", **{**SMALL, "hidden_dim": 48})
    with pytest.raises(CheckpointError, match=r"conv1\.bias \(32,\) instead of \(48,\)"):
        load_checkpoint(other, tmp_path / "whole.safetensors")
    del state["upsample1.bias"]
    save_file(state, tmp_path / "less.safetensors")
    with pytest.raises(CheckpointError, match=r"upsample1\.bias"):
        load_checkpoint(model, tmp_path / "less.safetensors")


def test_prompt_channels_follow_the_templates():
    templates = ["a photo of {article} {}.", "{}"]
    model = build_segmenter("ViT-Ti-16", templates=templates, **SMALL)
    assert model.sem_seg_head.predictor.transformer.prompt_channel == 2
    model = build_segmenter("ViT-Ti-16", templates=templates, average_prompts=True, **SMALL)
    assert model.sem_seg_head.predictor.transformer.prompt_channel == 1
    scores = model.eval().predict([torch.zeros(3, 32, 32)])[0]
    assert scores.shape == (2, 32, 32)
