"""What a CLIP says of a photograph: which words the whole, its regions and its places show."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from fineclip.configuration.model_names import check_model_name
from fineclip.configuration.plain import PLAIN_CONFIG, read_plain_config
from fineclip.explain import relevance_maps
from fineclip.models import DenseCLIP, resolve_class_embeddings
from fineclip.models.class_embedding_files import weights_identity
from fineclip.models.class_embeddings import Progress
from fineclip.models.embedding_cache import EmbeddingCache
from fineclip.models.exemplars import clip_region_encoder, fuse_exemplars
from fineclip.models.pooling import pack_regions, pool_boxes
from fineclip.models.trunks import TransformerTrunk
from fineclip.text.exemplars import DEFAULT_EXEMPLAR_WEIGHT
from fineclip.text.vocabulary import Vocabulary

_AMP = {"bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True)
class Answer:
    """What a model says of one photograph, for K words and n regions; all on the CPU.

    Attributes:
        words: The K words.
        similarities: (K,) float32 cosine similarity of the whole with each word.
        scores: (K,) float32 in [0, 1]: the softmax over the words, at the model's temperature; of
            a model with a bias (SigLIP) each word's own probability.
        boxes: (n, 4) float32 regions, xyxy in pixels of the photograph.
        region_scores: (n, K) float32, the scores of each region.
        maps: By kind (K, h, w) float32 on the patch grid: "dense", the cosine similarity of each
            place with each word; "relevance", what each place does for the score of the whole
            (:mod:`fineclip.explain`), NaN for words that were not explained. Any other map over
            the photograph can stand beside them.
    """

    words: tuple[str, ...]
    similarities: Tensor
    scores: Tensor
    boxes: Tensor
    region_scores: Tensor
    maps: dict[str, Tensor] = field(default_factory=dict)

    def best(self, count: int) -> list[int]:
        """Indices of the words with the highest scores of the whole, best first."""
        return self.similarities.argsort(descending=True, stable=True)[:count].tolist()

    def said(self, count: int) -> str:
        """The words with the highest scores of the whole in a line, each with its score."""
        return ", ".join(f"{self.words[i]} {self.scores[i]:.2f}" for i in self.best(count))


@dataclass(frozen=True)
class EncodedPhotograph:
    """What a model makes of a photograph, on its device.

    Attributes:
        size: Width and height of the photograph in pixels.
        image: (1, D) unit vector of the whole.
        dense: (1, D, h, w) unit vectors of the places.
    """

    size: tuple[int, int]
    image: Tensor
    dense: Tensor


@dataclass(frozen=True)
class Looker:
    """A model and the words that it looks for.

    Attributes:
        clip: The model, in eval mode.
        words: The K words.
        embeddings: (K, D) float32 unit vectors, as of
            :func:`fineclip.models.build_class_embeddings`.
        size: Side in pixels of the square input; None: the model's own size.
        keep_aspect: See :meth:`DenseCLIP.preprocess`.
        amp: Autocast type, None for full precision.
    """

    clip: DenseCLIP
    words: tuple[str, ...]
    embeddings: Tensor
    size: int | None = None
    keep_aspect: bool = False
    amp: Literal["bf16", "fp16"] | None = None

    @property
    def explains(self) -> bool:
        """Whether the image tower has the attention that relevance is read from (no ResNet)."""
        return isinstance(self.clip.trunk, TransformerTrunk)

    @torch.no_grad()
    def look(self, photograph: Image.Image, boxes: Tensor, explained: int = 0) -> Answer:
        """Looks at one photograph.

        Args:
            photograph: Any image of Pillow's.
            boxes: (n, 4) regions, xyxy in pixels of the photograph.
            explained: Relevance maps of so many words, the best of the whole; each costs a pass
                forward and one back.

        Raises:
            ValueError: ``explained`` for a tower that cannot be (:attr:`explains`).
        """
        answer = self.answer(self.encode(photograph), boxes)
        if explained:
            best = answer.best(explained)
            maps = torch.full_like(answer.maps["dense"], torch.nan)
            maps[best] = self.relevance(photograph, best)
            answer.maps["relevance"] = maps
        return answer

    @torch.no_grad()
    def encode(self, photograph: Image.Image) -> EncodedPhotograph:
        """What words are compared with; the words do not matter for it."""
        amp = torch.autocast(
            self.clip.device.type, _AMP.get(self.amp or ""), enabled=self.amp is not None
        )
        with amp:
            image, dense = self.clip.encode_image_and_dense(self._input(photograph))
        return EncodedPhotograph(photograph.size, image, dense)

    @torch.no_grad()
    def answer(self, encoded: EncodedPhotograph, boxes: Tensor) -> Answer:
        """What is said of a photograph that :meth:`encode` has encoded; no relevance maps."""
        device = self.clip.device
        relative = boxes / boxes.new_tensor([*encoded.size, *encoded.size])
        pooled = pool_boxes(encoded.dense, *pack_regions([relative], device))
        embeddings = self.embeddings.to(device)
        similarities = encoded.image @ embeddings.T
        return Answer(
            words=self.words,
            similarities=similarities[0].cpu(),
            scores=self._scores(similarities)[0].cpu(),
            boxes=boxes,
            region_scores=self._scores(F.normalize(pooled, dim=1) @ embeddings.T).cpu(),
            maps={"dense": torch.einsum("dhw,kd->khw", encoded.dense[0], embeddings).cpu()},
        )

    def relevance(self, photograph: Image.Image, words: Sequence[int]) -> Tensor:
        """What each place of a photograph does for the score of some words.

        Args:
            photograph: Any image of Pillow's.
            words: Indices of m words.

        Returns:
            (m, h, w) float32, 0 or more, on the patch grid and on the CPU; see
            :func:`fineclip.explain.relevance_maps`.

        Raises:
            ValueError: The tower cannot be explained (:attr:`explains`).
        """
        pixels = self._input(photograph)
        embeddings = self.embeddings.to(self.clip.device)
        # One by one: the attention of all layers is kept, which grows with the fourth power of the
        # side. At full precision: gradients of attention are small.
        found = [
            relevance_maps(self.clip, pixels, embeddings[index : index + 1]).image
            for index in words
        ]
        return torch.cat(found).cpu()

    def _input(self, photograph: Image.Image) -> Tensor:
        """(1, 3, H, W)."""
        return self.clip.preprocess(photograph, self.size, keep_aspect=self.keep_aspect)[None]

    def _scores(self, similarities: Tensor) -> Tensor:
        """(..., K) in [0, 1] of cosine similarities."""
        logits = similarities * self.clip.logit_scale.exp().float()
        if self.clip.logit_bias is None:
            return logits.softmax(dim=-1)
        return (logits + self.clip.logit_bias.float()).sigmoid()


def trained_model(weights: str | Path) -> str | None:
    """The model's name in the config that a training has left beside its weights.

    Args:
        weights: A file, or a tag of open_clip's.

    Returns:
        The name; None where nothing says it.

    Raises:
        ValueError: What lies beside the weights is no config.
    """
    file = Path(weights).parent / PLAIN_CONFIG
    if not (Path(weights).is_file() and file.is_file()):
        return None
    name = read_plain_config(file).get("model_name")
    return name if isinstance(name, str) else None


def load_trained_clip(
    model: str | None, weights: str, device: torch.device
) -> tuple[str, DenseCLIP]:
    """A model to look with, in eval mode, and its name.

    Args:
        model: open_clip name; None: what the training beside the weights says.
        weights: A file, or a tag of open_clip's.
        device: Where it goes.

    Raises:
        ValueError: No model of this name, nothing says the name, or weights that do not fit.
    """
    if (name := model or trained_model(weights)) is None:
        raise ValueError(f"--model: name the open_clip model of the weights {weights}")
    check_model_name(name, "--model")
    return name, DenseCLIP.create(name, weights).to(device).eval()


def embed_classes(
    model: str,
    weights: str,
    clip: DenseCLIP,
    vocabulary: Vocabulary,
    templates: str,
    *,
    size: int | None = None,
    keep_aspect: bool = False,
    exemplar_weight: float = DEFAULT_EXEMPLAR_WEIGHT,
    others: str = "coco_stuff171",
    progress: Progress | None = None,
) -> Tensor:
    """Embeddings of what a :class:`Looker` looks for, by words and by pictures.

    Args:
        model: open_clip name.
        weights: Of the model, for the cache.
        clip: The model with these weights, in eval mode.
        vocabulary: K classes.
        templates: Prompts.
        size: See :class:`Looker`, for pictures.
        keep_aspect: See there.
        exemplar_weight: See :func:`fineclip.models.exemplars.fuse_exemplars`.
        others: Vocabulary whose words, too, describe pictures of a class.
        progress: Called with (prompts done, prompts in all) while prompts are encoded.

    Returns:
        (K, D) float32 unit vectors on the CPU.

    Raises:
        ValueError: Unknown templates, or a picture that cannot be used.
    """

    def embed(classes: str | Vocabulary) -> Tensor:
        return resolve_class_embeddings(
            classes, model, weights, templates, clip=clip, progress=progress, words_alone=True
        ).embeddings

    texts = embed(vocabulary)
    if not vocabulary.has_exemplars:
        return texts
    cache = EmbeddingCache([model, weights_identity(model, weights), str(size), str(keep_aspect)])
    encode = clip_region_encoder(clip, size, keep_aspect)
    return fuse_exemplars(vocabulary, texts, embed(others), encode, exemplar_weight, cache)


def best_words(scores: Tensor, words: Sequence[str], count: int) -> list[dict[str, str | float]]:
    """The words with the highest scores, best first, for JSON.

    Args:
        scores: (K,).
        words: The K words.
        count: How many.
    """
    order = scores.argsort(descending=True, stable=True)[:count].tolist()
    return [{"word": words[index], "score": round(float(scores[index]), 5)} for index in order]
