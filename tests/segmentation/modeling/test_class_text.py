"""Text features: remembered, never stale, one or several prompts."""

import copy

import pytest
import torch
import torch.nn.functional as F

from fineclip.models import DenseCLIP
from fineclip.models.embedding_cache import EmbeddingCache
from segmentation.modeling import ClassTextEncoder


@pytest.fixture
def clip():
    torch.manual_seed(0)
    return DenseCLIP.create("ViT-Ti-16").eval().requires_grad_(False)


def make(clip, **options):
    return ClassTextEncoder(clip, **options)


def count_calls(encoder, monkeypatch):
    calls = []
    tower = encoder.clip.text_tower
    encode = tower.encode

    def counted(tokens):
        calls.append(len(tokens))
        return encode(tokens)

    monkeypatch.setattr(tower, "encode", counted)
    return calls


def test_features_are_the_prompt_s(clip):
    encoder = make(clip)
    features = encoder(["car, automobile", "sky"])
    assert encoder.prompts(["car, automobile"]) == [["A photo of a car in the scene"]]
    tokens = clip.tokenizer(["A photo of a car in the scene", "A photo of a sky in the scene"])
    wanted = F.normalize(clip.clip.encode_text(tokens), dim=-1)
    torch.testing.assert_close(features[:, 0], wanted)
    whole = make(clip, first_synonym=False)
    assert whole.prompts(["car, automobile"]) == [["A photo of a car, automobile in the scene"]]


def test_a_vocabulary_is_encoded_once(clip, monkeypatch):
    encoder = make(clip)
    calls = count_calls(encoder, monkeypatch)
    first = encoder(["cat", "dog"])
    other = encoder(["cat", "dog", "tree"])
    assert calls == [2, 3]
    assert torch.equal(encoder(["cat", "dog"]), first)
    assert encoder(["cat", "dog", "tree"]).shape == other.shape == (3, 1, 64)
    assert calls == [2, 3]


def test_changed_weights_are_noticed(clip, monkeypatch):
    encoder = make(clip)
    before = encoder(["cat"])
    calls = count_calls(encoder, monkeypatch)
    weight = clip.clip.transformer.resblocks[0].mlp.c_fc.weight
    weight.requires_grad_(True)
    optimizer = torch.optim.AdamW([weight], lr=0.1)
    encoder(["cat"]).sum().backward()
    optimizer.step()
    with torch.no_grad():
        after = encoder(["cat"])
    assert (after - before).abs().max() > 1e-4
    state = copy.deepcopy(clip.clip.state_dict())
    state["text_projection"] *= torch.linspace(0, 2, state["text_projection"].shape[1])
    clip.clip.load_state_dict(state)
    with torch.no_grad():
        loaded = encoder(["cat"])
    assert (loaded - after).abs().max() > 1e-4
    assert calls == [1, 1, 1]


def test_a_change_of_the_image_tower_does_not_matter(clip, monkeypatch):
    encoder = make(clip)
    encoder(["cat"])
    calls = count_calls(encoder, monkeypatch)
    with torch.no_grad():
        clip.clip.visual.proj.mul_(2)
    encoder(["cat"])
    assert calls == []


def test_gradient_only_where_the_text_tower_trains(clip, monkeypatch):
    encoder = make(clip)
    calls = count_calls(encoder, monkeypatch)
    with torch.inference_mode():
        encoder(["cat"])
    frozen = encoder(["cat"])
    assert not frozen.requires_grad
    assert calls == [1]
    (frozen * torch.ones(64, requires_grad=True)).sum().backward()  # no inference tensor
    clip.clip.transformer.requires_grad_(True)
    for _ in range(2):
        assert encoder(["cat"]).requires_grad
    assert calls == [1, 1, 1]


def test_prompt_ensembles(clip):
    templates = ["a photo of {article} {}.", "a drawing of the {}.", "{}"]
    channels = make(clip, templates=templates)(["cat", "dog"])
    assert channels.shape == (2, 3, 64)
    alone = make(clip, templates=templates[1])(["cat", "dog"])
    torch.testing.assert_close(channels[:, 1], alone[:, 0])
    averaged = make(clip, templates=templates, average=True)
    assert averaged.num_channels == 1
    wanted = F.normalize(channels.mean(dim=1), dim=-1)
    torch.testing.assert_close(averaged(["cat", "dog"])[:, 0], wanted)
    assert make(clip, templates="imagenet").num_channels == 80


def test_a_large_vocabulary_is_encoded_in_pieces(clip, monkeypatch):
    encoder = make(clip)
    calls = count_calls(encoder, monkeypatch)
    assert encoder([f"thing {i}" for i in range(300)]).shape == (300, 1, 64)
    assert calls == [256, 44]


@pytest.mark.parametrize("average", [True, False])
def test_a_cache_on_disk_has_an_entry_per_class(clip, monkeypatch, tmp_path, average):
    options = {"templates": ["a photo of a {}.", "{}"], "average": average}
    encoder = make(clip, **options)
    calls = count_calls(encoder, monkeypatch)
    encoder.cache = EmbeddingCache(["m", "w"], tmp_path)
    encoder(["cat", "dog"])
    later = make(clip, **options)
    later.cache = encoder.cache
    found = later(["dog", "cat", "tree"])
    assert calls == [4, 2]
    torch.testing.assert_close(found, make(clip, **options)(["dog", "cat", "tree"]))
    clip.clip.transformer.requires_grad_(True)
    assert later(["cat"]).requires_grad  # a tower that trains has no entries


def test_names_that_are_none(clip):
    encoder = make(clip)
    with pytest.raises(ValueError, match="no class names"):
        encoder([])
    with pytest.raises(ValueError, match="class 1 has an empty name"):
        encoder(["cat", " "])
    uneven = make(clip, templates=lambda name: ["x"] * len(name))
    with pytest.raises(ValueError, match="3 to 4 prompts"):
        uneven(["cat", "bird"])
