"""Vocabularies, prompt templates and class embeddings."""

from fineclip.text.class_embedding_files import (
    ClassEmbeddings,
    read_class_embeddings,
    write_class_embeddings,
)
from fineclip.text.class_embeddings import (
    BACKGROUND,
    build_class_embeddings,
    get_class_embeddings,
    resolve_class_embeddings,
)
from fineclip.text.templates import TEMPLATES, get_templates
from fineclip.text.tokenizers import get_tokenizer
from fineclip.text.vocabulary import (
    Vocabulary,
    as_vocabulary,
    known_vocabularies,
    load_vocabulary,
)

__all__ = [
    "BACKGROUND",
    "TEMPLATES",
    "ClassEmbeddings",
    "Vocabulary",
    "as_vocabulary",
    "build_class_embeddings",
    "get_class_embeddings",
    "get_templates",
    "get_tokenizer",
    "known_vocabularies",
    "load_vocabulary",
    "read_class_embeddings",
    "resolve_class_embeddings",
    "write_class_embeddings",
]
