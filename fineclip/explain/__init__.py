"""Why a CLIP finds an image and a text similar: relevance of patches, tokens and words."""

from fineclip.explain.maps import Relevance, relevance_maps
from fineclip.explain.words import Word, words_of_tokens

__all__ = ["Relevance", "Word", "relevance_maps", "words_of_tokens"]
