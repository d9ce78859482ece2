"""CLIP models with dense and region embeddings, and what is made with one: class embeddings."""

import fineclip.tiny_models  # noqa: F401  (registers the tiny model names)
from fineclip.models.class_embedding_files import (
    ClassEmbeddings,
    read_class_embeddings,
    write_class_embeddings,
)
from fineclip.models.class_embeddings import (
    BACKGROUND,
    build_class_embeddings,
    create_text_encoder,
    get_class_embeddings,
    resolve_class_embeddings,
)
from fineclip.models.dense_clip import DenseCLIP
from fineclip.models.preprocessor import CLIPPreprocessor
from fineclip.models.word_embedder import WordEmbedder

__all__ = [
    "BACKGROUND",
    "CLIPPreprocessor",
    "ClassEmbeddings",
    "DenseCLIP",
    "WordEmbedder",
    "build_class_embeddings",
    "create_text_encoder",
    "get_class_embeddings",
    "read_class_embeddings",
    "resolve_class_embeddings",
    "write_class_embeddings",
]
