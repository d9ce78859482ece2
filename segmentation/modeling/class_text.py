"""Text features of a vocabulary: tokenised once, encoded once per state of the weights."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from fineclip.models.text_tower import TextTower
from fineclip.text import get_templates
from fineclip.text.templates import Template

# Vocabularies remembered at a time.
_REMEMBERED = 8
# Prompts encoded at a time where gradients are off.
_BATCH = 256


class ClassTextEncoder:
    """Prompts of class names -> unit text features, with caches that cannot go stale.

    Tokens are remembered per vocabulary. Features are remembered per vocabulary until a weight of
    the text tower changes, and only where no gradient is to flow into it; a text tower that is
    trained is run at every call.

    It holds no parameters of its own and is no ``nn.Module``.

    Args:
        clip_model: An open_clip model.
        tokenizer: Maps a list of strings to (n, L) int64 token ids.
        templates: Anything :func:`fineclip.text.get_templates` takes.
        average: Average the prompts of a class to one unit vector. False: one channel per prompt,
            for a network with as many prompt channels.
        first_synonym: Of a name such as "car, automobile" only the part in front of the first
            ", " is used, as the released models do.
    """

    def __init__(
        self,
        clip_model: nn.Module,
        tokenizer: Callable[[list[str]], Tensor],
        *,
        templates: str | Sequence[str] | Template = "catseg",
        average: bool = False,
        first_synonym: bool = True,
    ) -> None:
        self.tower = TextTower(clip_model)
        self.tokenizer = tokenizer
        self.average = average
        self.first_synonym = first_synonym
        self._fill = get_templates(templates)
        self._tokens: OrderedDict[tuple[str, ...], tuple[Tensor, int]] = OrderedDict()
        self._features: OrderedDict[object, Tensor] = OrderedDict()
        self._state: object = None

    @property
    def num_prompts(self) -> int:
        """Prompts P of a class behind averaging."""
        return 1 if self.average else len(self._fill("thing"))

    def prompts(self, name: str) -> list[str]:
        """The sentences of one class."""
        return self._fill(name.split(", ")[0] if self.first_synonym else name)

    def clear(self) -> None:
        """Forgets all features; needed only after weights were written behind autograd's back."""
        self._features.clear()

    def __call__(self, names: Sequence[str]) -> Tensor:
        """Encodes a vocabulary.

        Args:
            names: T class names.

        Returns:
            (T, P, D) float32 unit vectors; with gradient where the text tower is trained.

        Raises:
            ValueError: No names, an empty name, or templates that make different numbers of
                prompts for different names.
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
                self._features[key] = self._encode(key)
        return _recent(self._features, key)

    def _parameters(self) -> list[nn.Parameter]:
        """All but the image tower's: what a text embedding can depend on."""
        clip = self.tower.clip_model
        visual = {id(parameter) for parameter in clip.visual.parameters()}
        return [p for p in clip.parameters() if id(p) not in visual]

    def _encode(self, names: tuple[str, ...]) -> Tensor:
        tokens, prompts = self._tokenize(names)
        tokens = tokens.to(self._parameters()[0].device)
        step = len(tokens) if torch.is_grad_enabled() else _BATCH
        features = torch.cat([self.tower.encode(part) for part in tokens.split(step)])
        features = F.normalize(features.float(), dim=-1).unflatten(0, (-1, prompts))
        if self.average and prompts > 1:
            features = F.normalize(features.mean(dim=1, keepdim=True), dim=-1)
        return features

    def _tokenize(self, names: tuple[str, ...]) -> tuple[Tensor, int]:
        """(T * P, L) tokens class by class, and P."""
        if names not in self._tokens:
            if not names:
                raise ValueError("no class names given")
            for index, name in enumerate(names):
                if not name.strip():
                    raise ValueError(f"class {index} has an empty name")
            prompts = [self.prompts(name) for name in names]
            counts = {len(of_class) for of_class in prompts}
            if len(counts) > 1:
                raise ValueError(
                    f"the templates make {min(counts)} to {max(counts)} prompts a class; they "
                    "must make equally many"
                )
            flat = [prompt for of_class in prompts for prompt in of_class]
            self._tokens[names] = (self.tokenizer(flat), counts.pop())
        return _recent(self._tokens, names)


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


def _recent(cache: OrderedDict, key: object):
    """The entry, which becomes the most recent one; the oldest beyond the limit are forgotten."""
    cache.move_to_end(key)
    while len(cache) > _REMEMBERED:
        cache.popitem(last=False)
    return cache[key]
