import pytest
import torch

from fineclip.models.class_embeddings import build_class_embeddings, resolve_class_embeddings
from fineclip.text import as_vocabulary


class LetterCounts:
    """Embeds a text by its length and its number of a's: not of unit norm, on purpose."""

    device = torch.device("cpu")

    def __init__(self):
        self.batches = []

    def tokenizer(self, texts):
        self.batches.append(len(texts))
        return torch.tensor([[len(text), text.count("a")] for text in texts])

    def encode_text(self, tokens, normalize=True):
        assert not torch.is_grad_enabled()
        return tokens.double()


def test_mean_of_unit_vectors_by_hand():
    clip = LetterCounts()
    # name "a": (1, 1) and (4, 4) -> one direction; name "bbb": (3, 0) and (12, 0)
    embeddings = build_class_embeddings(clip, ["a", "bbb"], lambda n: [n, n * 4])
    half = 0.5**0.5
    assert embeddings.dtype == torch.float32
    assert torch.allclose(embeddings, torch.tensor([[half, half], [1.0, 0.0]]))


def test_each_prompt_weighs_the_same_whatever_its_norm():
    # (1, 0) and (3, 4) -> (1, 0) and (0.6, 0.8) -> mean (0.8, 0.4)
    def prompts(name):
        return ["x", "aaaabbb"[:7]]

    class Fixed(LetterCounts):
        def tokenizer(self, texts):
            return torch.tensor([[1, 0] if text == "x" else [3, 4] for text in texts])

    embeddings = build_class_embeddings(Fixed(), ["any"], prompts)
    expected = torch.tensor([[0.8, 0.4]]) / 0.8**0.5
    assert torch.allclose(embeddings, expected)


@pytest.mark.parametrize("batch_size", [1, 5, 126, 1000])
def test_batches_may_cut_through_classes(batch_size):
    clip = LetterCounts()
    whole = build_class_embeddings(LetterCounts(), ["banana", "owl"], "vild")
    assert torch.allclose(
        build_class_embeddings(clip, ["banana", "owl"], "vild", batch_size), whole
    )
    assert max(clip.batches) <= batch_size
    assert sum(clip.batches) == 126


def test_a_class_may_have_its_own_number_of_prompts():
    embeddings = build_class_embeddings(LetterCounts(), ["a", "bb"], lambda n: [n] * len(n))
    assert embeddings.shape == (2, 2)


def test_synonyms_of_a_class_are_averaged():
    embeddings = build_class_embeddings(
        LetterCounts(), [["a", "bbb"], "bbb"], lambda name: [name]
    )  # (1, 1) and (3, 0), each of unit length, then their mean
    mean = torch.tensor([1 + 0.5**0.5, 0.5**0.5])
    assert torch.allclose(embeddings, torch.stack([mean / mean.norm(), torch.tensor([1.0, 0.0])]))


def test_prompts_may_say_other_than_the_name():
    vocabulary = as_vocabulary(["bbb", {"name": "n01", "prompt": "aaab"}])
    found = resolve_class_embeddings(
        vocabulary, clip=LetterCounts(), templates=lambda name: [name], cache=False
    )
    assert found.names == ("bbb", "n01")
    assert torch.allclose(found.embeddings, torch.tensor([[1.0, 0.0], [0.8, 0.6]]))


def test_progress_counts_prompts():
    seen = []
    build_class_embeddings(
        LetterCounts(), ["a", "b"], lambda n: [n] * 3, 4, lambda *counts: seen.append(counts)
    )
    assert seen == [(4, 6), (6, 6)]


@pytest.mark.parametrize(
    ("names", "message"),
    [([], "no class"), (["a", " "], "class 1 has"), (["a", []], "class 1 has")],
)
def test_names_are_checked(names, message):
    with pytest.raises(ValueError, match=message):
        build_class_embeddings(LetterCounts(), names)
