"""Vocabularies, prompt templates and class embeddings."""

from fineclip.text.class_embeddings import build_class_embeddings
from fineclip.text.templates import TEMPLATES, get_templates
from fineclip.text.tokenizers import get_tokenizer
from fineclip.text.vocabulary import Vocabulary, known_vocabularies, load_vocabulary

__all__ = [
    "TEMPLATES",
    "Vocabulary",
    "build_class_embeddings",
    "get_templates",
    "get_tokenizer",
    "known_vocabularies",
    "load_vocabulary",
]
