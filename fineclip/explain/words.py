"""From the relevance of tokens to that of words."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from open_clip import SimpleTokenizer
from open_clip.tokenizer import HFTokenizer
from torch import Tensor


class Word(NamedTuple):
    """A word of a text.

    Attributes:
        text: The word as the tokenizer spells it (CLIP's is in lower case).
        positions: Those of its tokens.
        relevance: The sum of its tokens' relevance.
    """

    text: str
    positions: tuple[int, ...]
    relevance: float


def words_of_tokens(tokenizer: Callable[..., Any], tokens: Tensor, relevance: Tensor) -> list[Word]:
    """The words of a text; tokens of start, end and padding are none.

    Args:
        tokenizer: open_clip's ``SimpleTokenizer`` (CLIP), or its ``HFTokenizer`` whose pieces mark
            the beginning of a word (SentencePiece, as SigLIP's).
        tokens: (T,) int64.
        relevance: (T,) of each token.

    Raises:
        ValueError: Another tokenizer, which does not say where words end.
    """
    ids = tokens.tolist()
    if isinstance(tokenizer, SimpleTokenizer):
        # Padding is token 0, which is "!" before the end of a text.
        ids = ids[: ids.index(tokenizer.eot_token_id)] if tokenizer.eot_token_id in ids else ids
        ends = [tokenizer.decoder[token].endswith("</w>") for token in ids]
        begins = [True, *ends[:-1]]
        special, spell = set(tokenizer.all_special_ids), tokenizer.decode
    elif isinstance(tokenizer, HFTokenizer):
        pieces = tokenizer.tokenizer.convert_ids_to_tokens(ids)
        begins = [piece.startswith("\N{LOWER ONE EIGHTH BLOCK}") for piece in pieces]
        special, spell = set(tokenizer.tokenizer.all_special_ids), tokenizer.tokenizer.decode
    else:
        raise ValueError(
            f"words are defined for open_clip's tokenizers, not for {type(tokenizer).__name__}: "
            "read the relevance of tokens instead"
        )
    words = []
    for group in _groups(ids, begins, special):
        text = spell([ids[position] for position in group]).strip()
        words.append(Word(text, tuple(group), float(relevance[group].sum())))
    return words


def _groups(ids: Sequence[int], begins: Sequence[bool], special: set[int]) -> list[list[int]]:
    """Positions of each word's tokens: up to the next that begins a word or is special."""
    groups: list[list[int]] = []
    inside = False
    for position, token in enumerate(ids):
        if token in special:
            inside = False
        elif inside and not begins[position]:
            groups[-1].append(position)
        else:
            groups.append([position])
            inside = True
    return groups
