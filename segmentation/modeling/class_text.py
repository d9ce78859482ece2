"""Text features of a vocabulary: tokenised once, encoded once per state of the weights."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from fineclip.models import DenseCLIP
from fineclip.models.class_embeddings import average_prompts, encode_prompts, precision
from fineclip.models.embedding_cache import EmbeddingCache
from fineclip.text import class_prompts, get_templates
from fineclip.text.templates import Template

# Vocabularies, and lists of texts, remembered at a time.
_REMEMBERED = 8
# Prompts encoded at a time where gradients are off.
_BATCH = 256


class ClassTextEncoder:
    """Prompts of class names -> unit text features, with caches that cannot go stale.

    Tokens are remembered per list of texts. Features are remembered per vocabulary until a weight
    of the text tower changes, and only where no gradient is to flow into it; a text tower that is
    trained is run at every call.

    It holds no parameters of its own and is no ``nn.Module``.

    Attributes:
        cache: Where features are kept on disk, an entry per class; None: nowhere. It is set for a
            model with trained weights that stay as they are.
        given: Features (P, D) by name that stand in for those of the name's prompts, where no
            gradient flows.

    Args:
        clip: The model.
        templates: Anything :func:`fineclip.text.get_templates` takes.
        average: Average the prompts of a class to one unit vector. False: one channel per prompt,
            for a network with as many prompt channels.
        first_synonym: Of a name such as "car, automobile" only the part before the first ", " is
            used, as the released models do.
    """

    def __init__(
        self,
        clip: DenseCLIP,
        *,
        templates: str | Sequence[str] | Template = "catseg",
        average: bool = False,
        first_synonym: bool = True,
    ) -> None:
        self.clip = clip
        self.templates = get_templates(templates)
        self.average = average
        self.first_synonym = first_synonym
        self._tokens: OrderedDict[tuple[str, ...], Tensor] = OrderedDict()
        self._features: OrderedDict[tuple[str, ...], Tensor] = OrderedDict()
        self.cache: EmbeddingCache | None = None
        self.given: dict[str, Tensor] = {}
        self._state: object = None

    @property
    def num_channels(self) -> int:
        """Channels P of a class's features: one, or as many as there are prompts."""
        return 1 if self.average else len(self.templates("thing"))

    def prompts(self, names: Sequence[str]) -> list[list[str]]:
        """The sentences of each class, equally many.

        Raises:
            ValueError: No names, an empty name, or templates that make different numbers of
                prompts for different names.
        """
        said = [name.split(", ")[0] if self.first_synonym else name for name in names]
        prompts = class_prompts(said, self.templates)
        counts = {len(of_class) for of_class in prompts}
        if len(counts) > 1:
            raise ValueError(
                f"the templates make {min(counts)} to {max(counts)} prompts a class; they must "
                "make equally many"
            )
        return prompts

    def clear(self) -> None:
        """Forgets all features; needed only after weights were written unseen by autograd."""
        self._features.clear()

    def __call__(self, names: Sequence[str]) -> Tensor:
        """Encodes a vocabulary.

        Args:
            names: T class names.

        Returns:
            (T, P, D) float32 unit vectors; with gradient where the text tower is trained.

        Raises:
            ValueError: As :meth:`prompts`.
        """
        key = tuple(names)
        parameters = self._parameters()
        if torch.is_grad_enabled() and any(p.requires_grad for p in parameters):
            return self._encode(key)
        state = _state_of(parameters)
        if state != self._state:
            self._features.clear()
            self._state = state
        if key not in self._features:
            # Made outside of inference mode: a frozen tower's features may meet autograd later.
            with torch.inference_mode(False), torch.no_grad():
                self._features[key] = self._cached(key)
        features = _recent(self._features, key)
        if not self.given:
            return features
        rows = [self.given.get(n, row) for n, row in zip(names, features, strict=True)]
        return torch.stack([row.to(features) for row in rows])

    def _parameters(self) -> list[nn.Parameter]:
        """All but the image tower's: what a text embedding can depend on."""
        visual = {id(parameter) for parameter in self.clip.clip.visual.parameters()}
        return [p for p in self.clip.parameters() if id(p) not in visual]

    def _cached(self, names: tuple[str, ...]) -> Tensor:
        if self.cache is None:
            return self._encode(names)
        of_classes = self.prompts(names)
        kind = ["channels", self.average, precision(self.clip.device)]
        rows = self.cache.rows(
            [[*kind, prompts] for prompts in of_classes],
            lambda places: self._encode(tuple(names[place] for place in places)).flatten(1),
        )
        return rows.unflatten(1, (self.num_channels, -1)).to(self.clip.device)

    def _encode(self, names: tuple[str, ...]) -> Tensor:
        prompts = self.prompts(names)
        flat = [prompt for of_class in prompts for prompt in of_class]
        # Pieces spare no memory where autograd keeps them all.
        batch_size = len(flat) if torch.is_grad_enabled() else _BATCH
        features = encode_prompts(self.clip, flat, batch_size, tokenizer=self._tokenize)
        if self.average:
            return average_prompts(features, [len(of_class) for of_class in prompts])[:, None]
        return features.unflatten(0, (len(names), -1))

    def _tokenize(self, texts: list[str]) -> Tensor:
        key = tuple(texts)
        if key not in self._tokens:
            self._tokens[key] = self.clip.tokenizer(texts)
        return _recent(self._tokens, key)


def _state_of(parameters: Sequence[Tensor]) -> object:
    """Changes whenever a weight does: by an optimiser, by loading, or by moving.

    Autograd counts the in-place changes of a tensor. Writing through ``.data`` escapes the count,
    so a model clears the cache, too, when it is set to training.
    """
    device = parameters[0].device.type
    autocast = torch.is_autocast_enabled(device)
    return (
        torch.get_autocast_dtype(device) if autocast else None,
        [(p.data_ptr(), 0 if p.is_inference() else p._version) for p in parameters],
    )


def _recent(cache: OrderedDict[tuple[str, ...], Tensor], key: tuple[str, ...]) -> Tensor:
    """The entry, which becomes the most recent one; the oldest beyond the limit are forgotten."""
    cache.move_to_end(key)
    while len(cache) > _REMEMBERED:
        cache.popitem(last=False)
    return cache[key]
