"""Class embeddings made on the spot, cached, and read from files."""

import json
import logging

import pytest
import torch
from safetensors.torch import save_file

from fineclip.models import (
    ClassEmbeddings,
    DenseCLIP,
    build_class_embeddings,
    class_embeddings,
    get_class_embeddings,
    read_class_embeddings,
    resolve_class_embeddings,
    write_class_embeddings,
)
from fineclip.models.class_embedding_files import content_hash, weights_identity
from fineclip.models.embedding_cache import CACHE_FILE
from fineclip.text import Vocabulary

NAMES = ["red_ring", "owl"]
MODEL = "ViT-Ti-16"


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(1)
    return DenseCLIP.create(MODEL)


@pytest.fixture(scope="module")
def weights(clip, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "clip.safetensors"
    save_file(clip.clip.state_dict(), path)
    return str(path)


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """No test looks into the user's cache."""
    monkeypatch.setenv("FINECLIP_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "class_embeddings"


@pytest.fixture
def unbuilt(monkeypatch):
    """Fails where a model would be made."""

    def refuse(*args, **kwargs):
        raise AssertionError("a model was made")

    monkeypatch.setattr(DenseCLIP, "create", refuse)


def test_on_the_fly_is_what_the_model_says(clip, weights):
    expected = build_class_embeddings(clip.eval(), [*NAMES, "background"], "vild")
    result = resolve_class_embeddings(NAMES, MODEL, weights, background="background")
    assert torch.allclose(result.embeddings, expected, atol=1e-6)
    assert (result.names, result.background) == (tuple(NAMES), "background")
    assert torch.allclose(get_class_embeddings(NAMES, MODEL, weights), expected[:2], atol=1e-6)


def test_a_given_model_is_used_in_eval_mode_and_left_as_it_was(clip, weights, unbuilt):
    clip.train()
    clip.clip.visual.eval()
    result = get_class_embeddings(NAMES, MODEL, weights, "simple", clip=clip)
    assert torch.allclose(result, build_class_embeddings(clip, NAMES, "simple"), atol=1e-6)
    assert clip.clip.transformer.training
    assert not clip.clip.visual.training


@pytest.fixture
def encoded(monkeypatch):
    """Numbers of prompts that were encoded, a call each."""
    calls = []
    encode = class_embeddings.encode_prompts

    def counted(clip, prompts, *args, **kwargs):
        calls.append(len(prompts))
        return encode(clip, prompts, *args, **kwargs)

    monkeypatch.setattr(class_embeddings, "encode_prompts", counted)
    return calls


def test_the_second_time_comes_from_the_cache(weights, encoded, monkeypatch):
    first = resolve_class_embeddings(NAMES, MODEL, weights, background="background")
    assert encoded == [3 * 63]
    monkeypatch.setattr(DenseCLIP, "create", None)
    again = resolve_class_embeddings(NAMES, MODEL, weights, background="background")
    assert torch.equal(again.embeddings, first.embeddings)
    assert again.metadata == first.metadata
    # "red ring" fills the same prompts as "red_ring": one entry, each with its own names
    other = resolve_class_embeddings(["red ring", "owl"], MODEL, weights, background="background")
    assert other.names == ("red ring", "owl")
    assert torch.equal(other.embeddings, first.embeddings)
    assert encoded == [3 * 63]


def test_a_word_more_costs_a_word(clip, weights, encoded):
    words = [f"thing {number}" for number in range(40)]
    known = get_class_embeddings(words, MODEL, weights, "photo", clip=clip)
    more = get_class_embeddings([*words[::-1], "owl"], MODEL, weights, "photo", clip=clip)
    assert encoded == [40, 1]
    assert torch.equal(more[:-1], known.flip(0))
    assert torch.allclose(more, build_class_embeddings(clip, [*words[::-1], "owl"], "photo"))
    encoded.clear()
    get_class_embeddings(
        {"owl": None, "gull": ["bird", "gull"]}, MODEL, weights, "photo", clip=clip
    )
    assert encoded == [1]  # the same words under other headings


def test_whatever_decides_the_values_has_its_own_entry(clip, weights, encoded, tmp_path):
    def embed(names=NAMES, *args, pretrained=weights, **options):
        encoded.clear()
        return get_class_embeddings(names, MODEL, pretrained, *args, clip=clip, **options)

    embed(NAMES, "photo")
    embed(NAMES, "plain")
    assert encoded == [2]
    embed(NAMES, "plain", background="background")
    assert encoded == [1]
    embed(NAMES[::-1], "plain")
    assert encoded == []
    vocabulary = {"red_ring": ["red_ring", "crimson hoop"], "owl": None}
    names_alone = embed(vocabulary, "plain")
    assert encoded == []
    both = embed(vocabulary, "plain", synonyms=True)
    assert encoded == [2]
    assert not torch.allclose(names_alone[0], both[0])
    assert torch.equal(names_alone[1], both[1])
    with torch.autocast("cpu", torch.bfloat16):
        rounded = embed(NAMES, "plain")
    assert encoded == [2]
    assert not torch.equal(rounded, names_alone)
    # a copy of the weights is the same content, other weights under the same name are not
    copy = tmp_path / "clip.safetensors"
    save_file(clip.clip.state_dict(), copy)
    embed(NAMES, "plain", pretrained=str(copy))
    assert encoded == []
    save_file({k: v * 1.5 for k, v in clip.clip.state_dict().items()}, copy)
    embed(NAMES, "plain", pretrained=str(copy))
    assert encoded == [2]


def test_no_cache_and_a_cache_elsewhere(clip, weights, cache, tmp_path):
    get_class_embeddings(NAMES, MODEL, weights, "plain", cache=False, clip=clip)
    assert not cache.exists()
    get_class_embeddings(NAMES, MODEL, weights, "plain", cache_dir=tmp_path / "other", clip=clip)
    assert (tmp_path / "other" / CACHE_FILE).is_file()
    assert not cache.exists()


def test_random_weights_are_the_same_each_time_and_never_cached(cache):
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    first = get_class_embeddings(NAMES, MODEL, templates="plain")
    assert torch.equal(torch.random.get_rng_state(), before)
    assert torch.equal(first, get_class_embeddings(NAMES, MODEL, templates="plain"))
    assert not cache.exists()


def test_hash_and_identity(tmp_path):
    assert content_hash("m", "w", [["a"], ["b"]]) != content_hash("m", "w", [["a", "b"]])
    assert weights_identity("ViT-B-16", "openai") != weights_identity("ViT-L-14", "openai")
    for folder, text in (("a", "1"), ("b", "1"), ("c", "2")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "model.bin").write_text(text)
    a, b, c = (weights_identity("m", tmp_path / folder) for folder in "abc")
    assert a == b != c


@pytest.fixture
def saved(tmp_path):
    embeddings = ClassEmbeddings(
        ("cat", "dog"), torch.eye(3, 4), "background", {"model": MODEL, "content_hash": "x"}
    )
    write_class_embeddings(tmp_path / "e.safetensors", embeddings)
    return tmp_path / "e.safetensors"


def test_files_keep_everything(saved, unbuilt):
    result = resolve_class_embeddings(saved, background="background")
    assert (result.names, result.background) == (("cat", "dog"), "background")
    assert torch.equal(result.embeddings, torch.eye(3, 4))
    assert result.metadata["model"] == MODEL
    assert result.metadata["content_hash"] == "x"
    assert torch.equal(get_class_embeddings(str(saved)), torch.eye(3, 4)[:2])  # no background


def test_classes_are_taken_by_name(saved):
    chosen = get_class_embeddings(saved, names=["dog"], background="background", width=4)
    assert torch.equal(chosen, torch.eye(3, 4)[1:])
    reversed_ = get_class_embeddings(saved, names=["dog", "cat"])
    assert torch.equal(reversed_, torch.eye(3, 4)[[1, 0]])


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": ["cat", "owl"]}, r"e\.safetensors: no embedding of 'owl'; it holds 2"),
        ({"width": 512}, r"e\.safetensors: embeddings of width 4 \(made with .*expected 512"),
        ({"background": "nothing"}, "'nothing' is needed and it has one for 'background'"),
    ],
)
def test_files_that_do_not_fit(saved, options, message):
    with pytest.raises(ValueError, match=message):
        resolve_class_embeddings(saved, **options)


def test_another_model_is_a_warning(saved, caplog):
    with caplog.at_level(logging.WARNING):
        resolve_class_embeddings(saved, "ViT-B-16")
    assert f"made with {MODEL}" in caplog.text


def test_names_that_repeat_cannot_be_chosen():
    twice = ClassEmbeddings(("bag", "cat", "bag"), torch.eye(3))
    assert twice.select(["bag", "cat", "bag"]) is twice
    assert torch.equal(twice.select(["cat"]).embeddings, torch.eye(3)[1:2])
    with pytest.raises(ValueError, match="'bag': several classes"):
        twice.select(["bag"])


def test_malformed_files(tmp_path):
    path = tmp_path / "e.safetensors"
    with pytest.raises(FileNotFoundError, match=r"e\.safetensors do not exist"):
        read_class_embeddings(path)
    path.write_bytes(b"12345678")
    with pytest.raises(ValueError, match="not a complete safetensors file"):
        read_class_embeddings(path)
    save_file({"weight": torch.eye(2)}, path)
    with pytest.raises(ValueError, match=r"expected class embeddings of tools/build_class"):
        read_class_embeddings(path)
    save_file({"embeddings": torch.eye(2)}, path, {"names": json.dumps(["a"])})
    with pytest.raises(ValueError, match=r"e\.safetensors: .*shape \(2, 2\) for 1 names"):
        read_class_embeddings(path)
    save_file({"embeddings": torch.eye(1) * torch.nan}, path, {"names": json.dumps(["a"])})
    with pytest.raises(ValueError, match="not finite"):
        read_class_embeddings(path)
    with pytest.raises(ValueError, match="written as"):
        write_class_embeddings(tmp_path / "e.npy", ClassEmbeddings(("a",), torch.eye(1)))


def test_a_vocabulary_needs_a_model():
    with pytest.raises(ValueError, match="need the model"):
        resolve_class_embeddings(Vocabulary.from_dict(NAMES))


def test_width_of_what_is_made(weights):
    with pytest.raises(ValueError, match=r"embeddings of vocabulary: .*expected 7"):
        resolve_class_embeddings(NAMES, MODEL, weights, "plain", width=7)


@pytest.mark.parametrize(
    ("names", "said"),
    [
        ('"ab"', r"names: expected a list of class names, got 'ab'"),
        ("{}", r"names: expected a list of class names, got \{\}"),
        ("[]", r"names: expected a list of class names, got \[\]"),
        ("2", r"names: expected a list of class names, got 2"),
        ("[1, 2]", r"names: expected class names, got 1 among them"),
        ('["cat", null]', r"names: expected class names, got None among them"),
        ('["cat", " "]', r"names: expected class names, got ' ' among them"),
        ("[", "names is not valid JSON"),
    ],
)
def test_names_of_another_type(tmp_path, names, said):
    path = tmp_path / "e.safetensors"
    save_file({"embeddings": torch.eye(2)}, path, {"names": names})
    with pytest.raises(ValueError, match=rf"e\.safetensors: {said}"):
        read_class_embeddings(path)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (torch.ones(2, 3, dtype=torch.int64), r"floating-point numbers, got \(2, 3\) torch\.int64"),
        (torch.ones(2, 0), r"floating-point numbers, got \(2, 0\)"),
        (torch.ones(2), r"shape \(2,\) for 2 names"),
        (torch.tensor([[1.0, 0], [0, 0]]), "a row of zeros"),
        (torch.tensor([[1.0, 0], [0, torch.inf]]), "not finite"),
    ],
)
def test_values_that_are_no_embeddings(tmp_path, values, said):
    path = tmp_path / "e.safetensors"
    save_file({"embeddings": values}, path, {"names": json.dumps(["a", "b"])})
    with pytest.raises(ValueError, match=rf"e\.safetensors: .*{said}"):
        read_class_embeddings(path)


def test_a_background_without_a_word(tmp_path):
    path = tmp_path / "e.safetensors"
    save_file({"embeddings": torch.eye(2)}, path, {"names": '["a"]', "background": " "})
    with pytest.raises(ValueError, match="background: expected a word"):
        read_class_embeddings(path)
