"""Folders of Hugging Face: what is wrong in them is said by file and key."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from fineclip.checkpoints import CheckpointError, convert, load
from fineclip.models import DenseCLIP


@pytest.fixture
def folder(tiny_vit, save, tmp_path):
    start = save(tiny_vit.state_dict(), tmp_path / "clip.pt")
    convert(start, tmp_path / "hf", to="huggingface", quick_gelu=True)
    return tmp_path / "hf"


def change(path, key, value):
    content = json.loads(path.read_text())
    *parts, last = key.split(".")
    inner = content
    for part in parts:
        inner = inner[part]
    inner[last] = value
    path.write_text(json.dumps(content))


@pytest.mark.parametrize(
    ("key", "value"),
    [
        *[("vision_config", 5), ("text_config", ["a"]), ("projection_dim", "64")],
        *[("vision_config.hidden_size", 96.5), ("vision_config.image_size", -64)],
        *[("vision_config.patch_size", 0), ("vision_config.num_attention_heads", True)],
        *[("text_config.vocab_size", 10**12), ("vision_config.hidden_act", "relu")],
        *[("vision_config.hidden_act", 3), ("text_config.hidden_act", ["gelu"])],
    ],
)
def test_values_of_the_configuration(folder, key, value):
    change(folder / "config.json", key, value)
    with pytest.raises(CheckpointError) as caught:
        load(folder)
    message = str(caught.value)
    assert message.startswith(f"{folder / 'config.json'}: {key}: expected ")
    assert message.endswith(f"got {value!r}") and "\n" not in message


@pytest.mark.parametrize("content", ["[1]", '"clip"', "{}", '{"model_type": ["clip"]}', "{"])
def test_configurations_of_something_else(folder, content):
    (folder / "config.json").write_text(content)
    with pytest.raises(CheckpointError, match=r"config\.json"):
        load(folder)


@pytest.mark.parametrize(
    ("weight_map", "message"),
    [
        ([1], r"index\.json: weight_map: expected an object"),
        ({}, r"index\.json: weight_map: expected an object"),
        ({"logit_scale": 3}, r"weight_map\.logit_scale: expected the name of a file, got 3"),
        ({"logit_scale": ""}, r"weight_map\.logit_scale: expected the name of a file, got ''"),
    ],
)
def test_index_of_shards(folder, weight_map, message):
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    with pytest.raises(CheckpointError, match=message):
        load(folder)


def test_shards_that_are_missing_or_hold_something_else(folder):
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"logit_scale": "part.bin"}}))
    with pytest.raises(FileNotFoundError, match=r"part\.bin does not exist"):
        load(folder)
    torch.save([1, 2], folder / "part.bin")
    with pytest.raises(CheckpointError, match=r"part\.bin holds no state dict: expected a mapping"):
        load(folder)


@pytest.mark.parametrize("whole", [True, False])
def test_an_image_tower_alone(folder, tiny_vit, whole):
    """As ``CLIPVisionModelWithProjection`` is saved, with the configuration of either kind."""
    file = folder / "model.safetensors"
    save_file({k: v for k, v in load_file(file).items() if k.startswith("vis")}, file)
    if not whole:
        vision = json.loads((folder / "config.json").read_text())["vision_config"]
        (folder / "config.json").write_text(
            json.dumps({**vision, "model_type": "clip_vision_model"})
        )
    model = DenseCLIP.create("ViT-Ti-16", str(folder), image_only=True)
    state = model.clip.visual.state_dict()
    assert all(torch.equal(state[k], v) for k, v in tiny_vit.visual.state_dict().items())


def test_the_header_of_a_safetensors_file(tiny_vit, tmp_path):
    path = tmp_path / "clip.safetensors"
    save_file(tiny_vit.state_dict(), path, {"quick_gelu": "yes"})
    with pytest.raises(CheckpointError, match=r"clip\.safetensors: quick_gelu .*got 'yes'"):
        load(path)
    header = b'{"a": {"dtype": "F32", "shape": "x", "data_offsets": [0, 4]}}'
    path.write_bytes(len(header).to_bytes(8, "little") + header + bytes(4))
    with pytest.raises(CheckpointError, match=r"clip\.safetensors is not a complete safetensors"):
        load(path)
