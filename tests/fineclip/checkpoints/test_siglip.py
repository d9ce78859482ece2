"""Folders of SigLIP as transformers writes them: the same embeddings, every key told of."""

import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from fineclip.checkpoints import CheckpointError, convert, identify
from fineclip.models import DenseCLIP

transformers = pytest.importorskip("transformers")

NAME = "Sigmoid-Ti-16"


def sizes(**vision):
    """A SigLIP of the sizes of our tiny one."""
    text = {
        "vocab_size": 49408,
        "hidden_size": 64,
        "intermediate_size": 256,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "max_position_embeddings": 64,
        "projection_size": 96,
        "hidden_act": "gelu",  # as open_clip's text tower
    }
    tower = DenseCLIP.create(NAME).clip.visual.trunk
    vision = {
        "hidden_size": 96,
        "intermediate_size": tower.blocks[0].mlp.fc1.out_features,
        "num_hidden_layers": len(tower.blocks),
        "num_attention_heads": tower.blocks[0].attn.num_heads,
        "patch_size": 16,
        "hidden_act": "gelu",
        **vision,
    }
    return {"text_config": text, "vision_config": vision}


def randomised(model):
    """Every parameter away from what it is initialised with (zeros, ones)."""
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    torch.manual_seed(3)
    path = tmp_path_factory.mktemp("siglip") / "hf"
    config = transformers.SiglipConfig(**sizes(image_size=64))
    randomised(transformers.SiglipModel(config)).save_pretrained(path)
    return path


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_the_same_embeddings(folder, tmp_path, dtype):
    assert identify(folder) == "huggingface"
    convert(folder, tmp_path / "clip.safetensors", to="open_clip")
    ours = DenseCLIP.create(NAME, str(tmp_path / "clip.safetensors")).eval().to(dtype)
    theirs = transformers.SiglipModel.from_pretrained(folder).eval().to(dtype)
    images = torch.randn(2, 3, 64, 64, dtype=dtype)
    tokens = torch.randint(1, 49408, (3, 64))
    with torch.no_grad():
        found = theirs(input_ids=tokens, pixel_values=images)
        image = F.normalize(ours.encode_image(images, normalize=False))
        text = F.normalize(ours.encode_text(tokens, normalize=False))
        scale, bias = ours.clip.logit_scale.exp(), ours.clip.logit_bias
    error = {torch.float32: 2e-6, torch.float64: 1e-13}[dtype]
    torch.testing.assert_close(image, found.image_embeds, atol=error, rtol=0)
    torch.testing.assert_close(text, found.text_embeds, atol=error, rtol=0)
    logits = image @ text.T * scale + bias
    torch.testing.assert_close(logits, found.logits_per_image, atol=20 * error, rtol=0)


def test_every_key_is_accounted_for(folder, tmp_path):
    report = convert(folder, tmp_path / "clip.safetensors", to="open_clip")
    told = {old for olds, _, _ in report.renamed for old in olds} | set(report.matched)
    assert told == set(load_file(folder / "model.safetensors"))
    assert not report.dropped and not report.added
    written = {target for _, target, _ in report.renamed} | set(report.matched)
    assert written == set(load_file(tmp_path / "clip.safetensors"))
    assert written == set(DenseCLIP.create(NAME).clip.state_dict())
    packed = "vision_model.head.attention.in_proj_weight"
    assert ((packed,), "visual.trunk.attn_pool.kv.weight", "") in report.renamed
    assert "GELU's tanh form" in str(report) and "49408 tokens: no tokenizer" in str(report)


def test_the_image_tower_alone(folder, tmp_path):
    tower = transformers.SiglipVisionModel.from_pretrained(folder)
    tower.save_pretrained(tmp_path / "tower")
    ours = DenseCLIP.create(NAME, str(tmp_path / "tower"), image_only=True).eval()
    images = torch.randn(1, 3, 64, 64)
    with torch.no_grad():
        wanted = tower(images).pooler_output
        found = ours.encode_image(images, normalize=False)
    torch.testing.assert_close(found, wanted, atol=1e-5, rtol=0)


def test_a_tensor_that_is_missing_is_called_as_in_the_file(folder, tmp_path):
    tensors = load_file(folder / "model.safetensors")
    del tensors["vision_model.head.attention.in_proj_bias"]
    save_file(tensors, tmp_path / "less.safetensors")
    with pytest.raises(CheckpointError, match=r"vision_model\.head\.attention\.in_proj_bias"):
        convert(tmp_path / "less.safetensors", tmp_path / "a.pt", to="open_clip")


def test_naflex_is_refused_in_one_line(tmp_path):
    config = transformers.Siglip2Config(**sizes(num_patches=16))
    transformers.Siglip2Model(config).save_pretrained(tmp_path / "hf")
    with pytest.raises(CheckpointError, match=r"NaFlex SigLIP 2.*open_clip has no such model") as e:
        convert(tmp_path / "hf", tmp_path / "a.pt", to="open_clip")
    assert "\n" not in str(e.value) and not (tmp_path / "a.pt").exists()
