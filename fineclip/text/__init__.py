"""Vocabularies, prompt templates and tokenizers."""

from fineclip.text.templates import TEMPLATES, class_prompts, get_templates
from fineclip.text.tokenizers import get_tokenizer
from fineclip.text.vocabulary import (
    Vocabulary,
    as_vocabulary,
    known_vocabularies,
    load_vocabulary,
)

__all__ = [
    "TEMPLATES",
    "Vocabulary",
    "as_vocabulary",
    "class_prompts",
    "get_templates",
    "get_tokenizer",
    "known_vocabularies",
    "load_vocabulary",
]
