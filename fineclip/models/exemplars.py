"""Class embeddings from pictures, brought to where those of words are.

A CLIP's embeddings of images lie apart from those of texts (Liang et al., "Mind the Gap", NeurIPS
2022): every image is more similar to any other than to the text that describes it. A class given
by pictures would win against all that are given by words. :func:`aligned` therefore moves the
embedding of pictures by the gap, and draws it to the words that describe them best.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor

from fineclip.images import read_bytes
from fineclip.models.dense_clip import DenseCLIP
from fineclip.models.embedding_cache import EmbeddingCache
from fineclip.models.pooling import pool_boxes
from fineclip.text.exemplars import DEFAULT_EXEMPLAR_WEIGHT, Exemplar
from fineclip.text.vocabulary import Vocabulary

if TYPE_CHECKING:
    from PIL import Image

_TEMPERATURE = 0.01  # of cosines, where CLIPs end their training
_SIDE = 4  # a picture's places are averaged to so many rows and columns


class RegionEncoder(Protocol):
    """How the model that looks for a class sees a picture of it."""

    def __call__(self, image: Image.Image, box: Tensor) -> tuple[Tensor, Tensor]:
        """Embeds the box (4,), xyxy in [0, 1], of an RGB picture and all of its places.

        Returns:
            (D,) and (D, h, w).
        """


def clip_region_encoder(
    clip: DenseCLIP, size: int | None = None, keep_aspect: bool = False
) -> RegionEncoder:
    """:meth:`DenseCLIP.encode_regions` of one box, with the dense map that it reads.

    Args:
        clip: The model, in eval mode.
        size: See :meth:`DenseCLIP.preprocess`.
        keep_aspect: See there.
    """

    def encode(image: Image.Image, box: Tensor) -> tuple[Tensor, Tensor]:
        dense = clip.encode_dense(clip.preprocess(image, size, keep_aspect=keep_aspect)[None])
        return pool_region(dense[0], box), dense[0]

    return encode


def pool_region(dense: Tensor, box: Tensor) -> Tensor:
    """The unit vector (D,) of a box (4,), xyxy in [0, 1], of a dense map (D, h, w)."""
    boxes, first = box.to(dense.device)[None], torch.zeros(1, dtype=torch.long, device=dense.device)
    return F.normalize(pool_boxes(dense[None], boxes, first)[0], dim=0)


def fuse_exemplars(
    vocabulary: Vocabulary,
    texts: Tensor,
    words: Tensor,
    encode: RegionEncoder,
    weight: float = DEFAULT_EXEMPLAR_WEIGHT,
    cache: EmbeddingCache | None = None,
) -> Tensor:
    """Embeddings of a vocabulary's classes from words and pictures.

    Args:
        vocabulary: K classes, some with exemplars.
        texts: (K, D) embeddings of their words, or (K, P, D) of each of P prompts.
        words: (V, D) embeddings of what can be named; those of the vocabulary's own words are
            added. The more they are, the better they describe a picture.
        encode: The model that will look for the classes.
        weight: Share of the pictures of a class that does not say its own; 1: pictures alone.
        cache: Of ``encode``. None: pictures are encoded anew.

    Returns:
        As ``texts``: unit vectors; classes without exemplars have what they had.

    Raises:
        UnusableImageError: A picture is missing or cannot be used.
        ValueError: A box outside its picture.
    """
    chosen = [index for index, c in enumerate(vocabulary.categories) if c.exemplars]
    if not chosen:
        return texts
    weights = torch.tensor(
        [
            weight if (own := vocabulary.categories[index].exemplar_weight) is None else own
            for index in chosen
        ],
        dtype=torch.float32,
    )
    nameless = {index for index, share in zip(chosen, weights.tolist(), strict=True) if share == 1}
    means = F.normalize(texts.float().cpu().reshape(len(vocabulary), -1, texts.shape[-1]).mean(1))
    named = [index for index in range(len(vocabulary)) if index not in nameless]
    known = torch.cat([F.normalize(words.float().cpu(), dim=1), means[named]])
    found = [encode_exemplars(vocabulary.categories[i].exemplars, encode, cache) for i in chosen]
    pictures = aligned([rows[:, 0] for rows in found], torch.cat([r[:, 1:] for r in found]), known)
    share = weights.view(-1, *[1] * (texts.ndim - 1))
    pictures = pictures.view(len(chosen), *[1] * (texts.ndim - 2), -1)
    fused = texts.float().cpu().clone()
    fused[chosen] = F.normalize((1 - share) * fused[chosen] + share * pictures, dim=-1)
    return fused.to(texts)


def aligned(regions: Sequence[Tensor], places: Tensor, words: Tensor) -> Tensor:
    """Embeddings of classes given by pictures, comparable with those of classes given by words.

    With p(x) the mean of all words, weighted by the softmax of their cosines with x (the
    projection of DeCap, Li et al., ICLR 2023), r_c the mean of a class's regions and g the mean
    over places of x - p(x), which is the gap and what no word says of all pictures alike, a class
    is the mean of two unit vectors: p(r_c), what words say of it, and r_c - g, what it looks like.

    Args:
        regions: Of each of C classes (n_c, D) unit vectors.
        places: (..., D) unit vectors from all over the pictures.
        words: (V, D) unit vectors of texts.

    Returns:
        (C, D) unit vectors.
    """
    means = F.normalize(torch.stack([of_class.mean(dim=0) for of_class in regions]), dim=1)
    everywhere = places.flatten(0, -2)
    gap = (everywhere - _in_words(everywhere, words)).mean(dim=0)
    seen, said = F.normalize(means - gap, dim=1), F.normalize(_in_words(means, words), dim=1)
    return F.normalize(seen + said, dim=1)


def _in_words(vectors: Tensor, words: Tensor) -> Tensor:
    return (vectors @ words.T / _TEMPERATURE).softmax(dim=-1) @ words


def encode_exemplars(
    exemplars: Sequence[Exemplar], encode: RegionEncoder, cache: EmbeddingCache | None = None
) -> Tensor:
    """Regions and places of pictures.

    Args:
        exemplars: n pictures.
        encode: The model.
        cache: Its cache; entries are found by the content of a picture.

    Returns:
        (n, 17, D) unit vectors on the CPU: the region, then 4 x 4 places of the whole picture.

    Raises:
        UnusableImageError: A picture is missing or cannot be used.
        ValueError: A box outside its picture.
    """

    @torch.no_grad()
    def make(indices: Sequence[int]) -> Tensor:
        rows = []
        for index in indices:
            image, box = exemplars[index].picture()
            region, dense = encode(image, torch.tensor(box))
            # (D, h, w) -> (D, 4, 4) -> (16, D)
            places = F.adaptive_avg_pool2d(dense.float(), _SIDE).flatten(1).T
            rows.append(torch.cat([region.float()[None], F.normalize(places, dim=1)]).flatten())
        return torch.stack(rows).cpu()

    if cache is None:
        found = make(range(len(exemplars)))
    else:
        contents = [
            ["exemplar", hashlib.sha256(read_bytes(e.file)).hexdigest(), e.box] for e in exemplars
        ]
        found = cache.rows(contents, make)
    return found.unflatten(1, (1 + _SIDE**2, -1))
