"""Text embeddings of classes: prompts encoded, averaged and normalised; from a file or cached."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fineclip.models.class_embedding_files import (
    SUFFIX,
    ClassEmbeddings,
    content_hash,
    read_class_embeddings,
    weights_identity,
)
from fineclip.models.dense_clip import DenseCLIP
from fineclip.models.embedding_cache import EmbeddingCache
from fineclip.text import Vocabulary, as_vocabulary, class_prompts
from fineclip.text.templates import Template

BACKGROUND = "background"
"""The word that F-ViT embeds for "no class"."""

Progress = Callable[[int, int], None]

_logger = logging.getLogger(__name__)


class TextEncoder(Protocol):
    """What is needed of a model (``DenseCLIP`` has it)."""

    @property
    def device(self) -> torch.device:
        """Where it runs."""

    @property
    def tokenizer(self) -> Callable[[list[str]], Tensor]:
        """Maps n texts to tokens (n, T) int64."""

    def encode_text(self, tokens: Tensor, normalize: bool = True) -> Tensor:
        """Embeddings (n, D) of (n, T) tokens."""


def build_class_embeddings(
    clip: TextEncoder,
    names: Sequence[str | Sequence[str]],
    templates: str | Sequence[str] | Template = "vild",
    batch_size: int = 256,
    progress: Progress | None = None,
    cache: EmbeddingCache | None = None,
) -> Tensor:
    """Embeds each class as the normalised mean of the normalised embeddings of its prompts.

    The rule of ViLD, CLIPSelf and FineCLIP: encode, L2-normalise each prompt, average over a
    class's prompts, L2-normalise. Put the model into eval mode first if its text tower has
    dropout.

    Args:
        clip: The model; its device is used.
        names: K category names as the data set writes them; several names of one class (its
            synonyms) are averaged as further prompts.
        templates: Anything :func:`fineclip.text.templates.get_templates` takes.
        batch_size: Prompts encoded at a time.
        progress: Called with (prompts done, prompts in all) after each batch.
        cache: Of this model with its weights (:func:`text_cache`); classes that are in it are not
            encoded. None: all are.

    Returns:
        (K, D) float32 unit vectors on the model's device.

    Raises:
        ValueError: No names, an empty name, or unknown templates.
    """
    prompts = class_prompts(names, templates)
    return _embed(lambda: clip, clip.device, prompts, batch_size, progress, cache).to(clip.device)


def encode_prompts(
    clip: TextEncoder,
    prompts: Sequence[str],
    batch_size: int = 256,
    *,
    tokenizer: Callable[[list[str]], Tensor] | None = None,
    progress: Progress | None = None,
) -> Tensor:
    """Embeds texts, with a gradient into the text tower where gradients are on.

    Args:
        clip: The model; its device is used.
        prompts: n texts.
        batch_size: Texts encoded at a time.
        tokenizer: Used in place of the model's, such as one that remembers.
        progress: Called with (texts done, texts in all) after each batch.

    Returns:
        (n, D) float32 unit vectors on the model's device.
    """
    tokenizer = tokenizer or clip.tokenizer
    batches = []
    for start in range(0, len(prompts), batch_size):
        tokens = tokenizer(list(prompts[start : start + batch_size])).to(clip.device)
        batches.append(F.normalize(clip.encode_text(tokens, normalize=False).float(), dim=-1))
        if progress is not None:
            progress(min(start + batch_size, len(prompts)), len(prompts))
    return torch.cat(batches)


def average_prompts(embeddings: Tensor, counts: Sequence[int]) -> Tensor:
    """The normalised mean of each class's prompts.

    Args:
        embeddings: (n, D) unit vectors, class by class.
        counts: Prompts of each of the K classes, n in all.

    Returns:
        (K, D) unit vectors.
    """
    means = [of_class.mean(dim=0) for of_class in embeddings.split(list(counts))]
    return F.normalize(torch.stack(means), dim=-1)


def text_cache(
    model: str | None, pretrained: str | Path | None, folder: str | Path | None = None
) -> EmbeddingCache | None:
    """The cache of a model with its weights.

    Args:
        model: open_clip name.
        pretrained: Its weights, as in ``DenseCLIP.create``.
        folder: See :class:`fineclip.models.embedding_cache.EmbeddingCache`.

    Returns:
        The cache; None without name or weights: random ones are cached by nobody.
    """
    if not (model and pretrained):
        return None
    return EmbeddingCache([model, weights_identity(model, pretrained)], folder)


def precision(device: torch.device) -> str:
    """The type that a model computes in on a device now, for keys of caches."""
    autocast = torch.is_autocast_enabled(device.type)
    return str(torch.get_autocast_dtype(device.type) if autocast else torch.float32)


def _embed(
    clip: Callable[[], TextEncoder],
    device: torch.device,
    prompts: list[list[str]],
    batch_size: int,
    progress: Progress | None,
    cache: EmbeddingCache | None,
) -> Tensor:
    """(K, D); the model is called for where something has to be encoded."""

    @torch.no_grad()
    def make(places: Sequence[int]) -> Tensor:
        wanted = [prompts[place] for place in places]
        flat = [prompt for of_class in wanted for prompt in of_class]
        embeddings = encode_prompts(clip(), flat, batch_size, progress=progress)
        return average_prompts(embeddings, [len(of_class) for of_class in wanted])

    if cache is None:
        return make(range(len(prompts)))
    return cache.rows([["classes", precision(device), of_class] for of_class in prompts], make)


def resolve_class_embeddings(
    source: str | Path | Vocabulary | Mapping[str, Any] | Sequence[Any],
    model: str | None = None,
    pretrained: str | None = None,
    templates: str | Sequence[str] | Template = "vild",
    *,
    background: str | None = None,
    synonyms: bool = False,
    clip: TextEncoder | None = None,
    names: Sequence[str] | None = None,
    width: int | None = None,
    cache_dir: str | Path | None = None,
    cache: bool = True,
    batch_size: int = 256,
    device: str | torch.device = "cpu",
    progress: Progress | None = None,
    words_alone: bool = False,
) -> ClassEmbeddings:
    """Class embeddings from a file, from the cache, or made on the spot.

    Args:
        source: A ``.safetensors`` file of ``tools/build_class_embeddings.py``; or a vocabulary,
            as anything :func:`fineclip.text.vocabulary.as_vocabulary` takes.
        model: open_clip name of the model. A vocabulary needs it; a file that names another
            model is used with a warning.
        pretrained: Its weights, as in ``DenseCLIP.create``. None: random ones, the same each time
            for the same versions of the libraries; these are never cached.
        templates: Anything :func:`fineclip.text.templates.get_templates` takes.
        background: A word embedded like a class and put last; F-ViT's is :data:`BACKGROUND`.
            From a file: the file must have been made with it. None: no such row.
        synonyms: Average over all names of a class instead of taking its first one.
        clip: The loaded model, if there is one already; otherwise it is made where it is needed.
            With ``pretrained`` it must hold those weights; without, nothing is cached.
        names: The classes wanted, in this order; None: all of the source, in its order.
        width: The D that is expected.
        cache_dir: See :class:`fineclip.models.embedding_cache.EmbeddingCache`.
        cache: False: neither look into the cache nor write to it. It has an entry per class, so
            that a class more costs its own prompts alone.
        batch_size: Prompts encoded at a time.
        device: Where a model that has to be made runs.
        progress: Called with (prompts done, prompts in all) while prompts are encoded.
        words_alone: The caller adds the exemplars of the vocabulary
            (:mod:`fineclip.models.exemplars`); otherwise a warning says that they are not used.

    Returns:
        The embeddings, float32 on the CPU.

    Raises:
        FileNotFoundError: A file that does not exist.
        ValueError: A vocabulary without ``model``, a class that the source lacks, another width
            than expected, unknown names of any kind, or a file that is malformed.
    """
    if isinstance(source, str | Path) and Path(source).suffix == SUFFIX:
        result = read_class_embeddings(source)
        made_with = result.metadata.get("model")
        if model is not None and made_with not in (None, model):
            _logger.warning("%s was made with %s and is used with %s", source, made_with, model)
        result = result.with_background(background)
    else:
        if model is None and clip is None:
            raise ValueError(
                "class embeddings of a vocabulary need the model whose text tower makes them: "
                "give its open_clip name and weights"
            )
        vocabulary = as_vocabulary(source)
        if vocabulary.has_exemplars and not words_alone:
            _logger.warning("%s: exemplars are not used here, words alone are", vocabulary.name)
        result = _from_vocabulary(
            vocabulary,
            model,
            pretrained,
            templates,
            background=background,
            synonyms=synonyms,
            clip=clip,
            cache_dir=cache_dir,
            cache=cache,
            batch_size=batch_size,
            device=device,
            progress=progress,
        )
    if names is not None:
        result = result.select(names)
    if width is not None:
        result.require_width(width)
    return result


def get_class_embeddings(
    source: str | Path | Vocabulary | Mapping[str, Any] | Sequence[Any],
    model: str | None = None,
    pretrained: str | None = None,
    templates: str | Sequence[str] | Template = "vild",
    **options: Any,
) -> Tensor:
    """The matrix of :func:`resolve_class_embeddings`.

    Args:
        source: See there.
        model: See there.
        pretrained: See there.
        templates: See there.
        **options: See there.

    Returns:
        (K, D) float32 unit vectors on the CPU; with ``background`` (K + 1, D), that row last.

    Raises:
        FileNotFoundError: See there.
        ValueError: See there.
    """
    return resolve_class_embeddings(source, model, pretrained, templates, **options).embeddings


def create_text_encoder(
    model: str, pretrained: str | None, device: str | torch.device = "cpu"
) -> DenseCLIP:
    """The model that :func:`resolve_class_embeddings` makes where it is given none.

    Args:
        model: open_clip name.
        pretrained: Its weights; None: random ones, the same each time.
        device: Where it runs.

    Returns:
        The model, in eval mode.

    Raises:
        FileNotFoundError: A file that does not exist.
        ValueError: Weights that do not fit.
    """
    if pretrained is None:
        _logger.warning("class embeddings of %s come from random weights", model)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return DenseCLIP.create(model, pretrained).to(device).eval()


def _from_vocabulary(
    vocabulary: Vocabulary,
    model: str | None,
    pretrained: str | None,
    templates: str | Sequence[str] | Template,
    *,
    background: str | None,
    synonyms: bool,
    clip: TextEncoder | None,
    cache_dir: str | Path | None,
    cache: bool,
    batch_size: int,
    device: str | torch.device,
    progress: Progress | None,
) -> ClassEmbeddings:
    texts = vocabulary.synonyms if synonyms else vocabulary.prompt_names
    classes: list[str | Sequence[str]] = list(texts)
    prompts = class_prompts([*classes, background] if background else classes, templates)
    weights = weights_identity(model, pretrained) if model and pretrained else ""
    store = EmbeddingCache([model or "", weights], cache_dir) if cache and weights else None
    metadata = {
        "vocabulary": vocabulary.name,
        "model": model or "",
        "pretrained": str(pretrained or ""),
        "templates": _describe(templates),
        "synonyms": str(synonyms),
        "content_hash": content_hash(model or "", weights, prompts),
    }
    place = torch.device(device) if clip is None else clip.device

    def loaded() -> TextEncoder:
        return create_text_encoder(str(model), pretrained, device) if clip is None else clip

    with _evaluating(clip):
        embeddings = _embed(loaded, place, prompts, batch_size, progress, store).cpu()
    # Names are not part of the keys: "stop sign" and "stop_sign" share their prompts.
    return ClassEmbeddings(vocabulary.names, embeddings, background, metadata)


@contextmanager
def _evaluating(clip: object) -> Iterator[None]:
    """Eval mode for the block; every module then gets back its own mode."""
    modes = [(m, m.training) for m in clip.modules()] if isinstance(clip, nn.Module) else []
    for module, _ in modes:
        module.training = False
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode


def _describe(templates: str | Sequence[str] | Template) -> str:
    if isinstance(templates, str):
        return templates
    if callable(templates):
        return getattr(templates, "__name__", repr(templates))
    return " | ".join(templates)
