"""Captions as training takes them: plain text of one line, or left out with the reason."""

from __future__ import annotations

import html
import re
import unicodedata

from fineclip.annotation.records import LeftOut
from fineclip.annotation.settings import AnnotationSettings

_TAG = re.compile(r"</?[a-zA-Z][^<>]{0,200}>")
_MARKUP = 16  # times the longest caption, before markup is taken out
_STUTTER = 4  # a word so often in a row is no sentence but a model that got stuck


def clean_caption(caption: str | bytes, settings: AnnotationSettings) -> str:
    """Makes a caption plain.

    Entities and tags of HTML, control characters and white space at length are taken out, and
    characters composed (NFC). Letter case and punctuation stay.

    Raises:
        LeftOut: Nothing, too little or too much is left, or it is not text.
    """
    if len(caption) > _MARKUP * settings.max_characters:
        raise LeftOut("caption is too long")
    if isinstance(caption, bytes):
        try:
            caption = caption.decode("utf-8-sig")
        except UnicodeDecodeError:
            raise LeftOut("caption is not UTF-8") from None
    if any("\ud800" <= character <= "\udfff" for character in caption):
        raise LeftOut("caption is not UTF-8")
    text = unicodedata.normalize("NFC", html.unescape(_TAG.sub(" ", html.unescape(caption))))
    # Of categories of Unicode, C are controls and what has no meaning.
    text = "".join(" " if unicodedata.category(c).startswith("C") else c for c in text)
    text = " ".join(text.split())
    if not any(character.isalnum() for character in text):
        raise LeftOut("caption is empty")
    words = text.split()
    if len(words) < settings.min_words:
        raise LeftOut("caption has too few words")
    if len(words) > settings.max_words or len(text) > settings.max_characters:
        raise LeftOut("caption is too long")
    lower = [normalised(word) for word in words]
    for start in range(len(lower) - _STUTTER + 1):
        if len(set(lower[start : start + _STUTTER])) == 1:
            raise LeftOut("caption repeats a word")
    if settings.blocked_words and not settings.blocked_words.isdisjoint(lower):
        raise LeftOut("caption has a blocked word")
    return text


def clean_captions(
    captions: list[str | bytes], settings: AnnotationSettings
) -> tuple[list[str], list[str]]:
    """The usable ones of an image's captions, each once, and why the others are left out."""
    kept: dict[str, str] = {}
    reasons = []
    for caption in captions:
        try:
            text = clean_caption(caption, settings)
        except LeftOut as out:
            reasons.append(out.reason)
            continue
        if (key := normalised(text)) in kept:
            reasons.append("caption is there twice")
        kept.setdefault(key, text)
    return list(kept.values()), reasons


def normalised(text: str) -> str:
    """A text by its letters and digits alone: what two writings of one caption have in common."""
    folded = unicodedata.normalize("NFKC", text).casefold()
    return " ".join("".join(c if c.isalnum() else " " for c in folded).split())
