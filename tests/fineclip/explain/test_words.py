import pytest
import torch
from open_clip import SimpleTokenizer
from open_clip.tokenizer import HFTokenizer

from fineclip.explain import words_of_tokens


def test_pieces_of_clips_words_are_joined():
    tokenizer = SimpleTokenizer(context_length=16)
    tokens = tokenizer(["A red hexagonalish-ring!"])[0]
    words = words_of_tokens(tokenizer, tokens, torch.arange(16.0))
    assert [word.text for word in words] == ["a", "red", "hexagonalish", "-", "ring", "!"]
    assert words[0].positions == (1,) and words[1].relevance == 2
    assert len(words[2].positions) > 1
    assert words[2].relevance == sum(words[2].positions)
    full = words_of_tokens(tokenizer, tokens[1:3], torch.ones(2))  # cut before its end
    assert [word.text for word in full] == ["a", "red"]


class Pieces:
    """As SentencePiece's tokenizers."""

    all_special_ids = (0, 1)
    pieces = ("</s>", "<unk>", "\u2581red", "\u2581um", "brella", ".")

    def convert_ids_to_tokens(self, ids):
        return [self.pieces[id_] for id_ in ids]

    def decode(self, ids):
        return "".join(self.convert_ids_to_tokens(ids)).replace("\u2581", " ")


def test_sentencepiece_marks_the_beginning_of_words():
    tokenizer = HFTokenizer.__new__(HFTokenizer)
    tokenizer.tokenizer = Pieces()
    words = words_of_tokens(tokenizer, torch.tensor([2, 3, 4, 0, 0]), torch.ones(5))
    assert [(word.text, word.relevance) for word in words] == [("red", 1), ("umbrella", 2)]


def test_other_tokenizers_are_refused():
    with pytest.raises(ValueError, match="not for Pieces"):
        words_of_tokens(Pieces(), torch.zeros(2, dtype=torch.int64), torch.zeros(2))
