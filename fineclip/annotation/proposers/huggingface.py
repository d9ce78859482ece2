"""Detectors of transformers: of fixed classes (RT-DETR, D-FINE), and of words (OWLv2, ...)."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from fineclip.annotation.interfaces import Proposals
from fineclip.annotation.pretrained import (
    ComputeOptions,
    identity_of,
    load_config,
    load_model,
    load_processor,
    require_name,
)
from fineclip.annotation.proposers.found import (
    SCORE_THRESHOLD,
    Words,
    as_rgb,
    by_group,
    checked_threshold,
    found_in,
    looked_for,
)

_WORDS_AT_ONCE = {"grounding-dino": 40, "mm-grounding-dino": 40}
"""Words of one prompt; theirs holds 256 tokens. Of the other models: :data:`_OTHER_WORDS`."""

_OTHER_WORDS = 100


class HuggingFaceProposer:
    """A detector of transformers; its configuration says of which kind.

    See :class:`fineclip.annotation.interfaces.Proposer`.

    Args:
        argument: Name of a model on the Hub, or a folder, with safetensors.
        vocabulary: Words to look for, of a zero-shot detector alone: others have classes.
        score_threshold: What is less certain is left out.
        device: See :class:`fineclip.annotation.pretrained.ComputeOptions`.
        amp: See there.

    Raises:
        ValueError: There is no such model, it is no detector, it needs a vocabulary, or takes none.
        ImportError: transformers is not installed.
    """

    needs_images = True

    def __init__(
        self,
        argument: str,
        *,
        vocabulary: Words | None = None,
        score_threshold: float = SCORE_THRESHOLD,
        device: str | None = None,
        amp: str | None = None,
    ) -> None:
        import transformers  # an optional library, and seconds to load

        name = require_name(argument, "hf")
        self._options = ComputeOptions(device, amp)
        self._threshold = checked_threshold(score_threshold)
        config = load_config(name)
        self._words: tuple[str, ...] = ()
        kind: Any
        if type(config) in transformers.MODEL_FOR_ZERO_SHOT_OBJECT_DETECTION_MAPPING:
            self._words = looked_for(vocabulary, f"hf:{name}").prompt_names
            kind, processor = transformers.AutoModelForZeroShotObjectDetection, "AutoProcessor"
        elif type(config) in transformers.MODEL_FOR_OBJECT_DETECTION_MAPPING:
            kind, processor = transformers.AutoModelForObjectDetection, "AutoImageProcessor"
        else:
            raise ValueError(
                f"proposer hf:{name}: a model of type {config.model_type!r} is no detector; "
                "RT-DETR, D-FINE, OWLv2 and Grounding DINO are, for example"
            )
        if vocabulary is not None and not self._words:
            raise ValueError(
                f"proposer hf:{name}: a {config.model_type} has classes of its own; leave the "
                "vocabulary out, or take a detector of words, such as OWLv2"
            )
        self._kind = config.model_type
        self._model = load_model(kind, name, self._options.device)
        self._processor = load_processor(getattr(transformers, processor), name)
        self._names = {int(key): str(text) for key, text in self._model.config.id2label.items()}
        self.categories = self._words or tuple(dict.fromkeys(self._names.values()))
        self.identity = f"hf:{identity_of(name, config)}"

    def propose(
        self, images: Sequence[Image.Image | None], keys: Sequence[str], known: Sequence[Proposals]
    ) -> list[Proposals]:
        """Boxes of some images."""
        # Each is resized on its own, and those that come out alike run together.
        prepared = [(image, self._pixels(image)) for image in as_rgb(images)]
        detect = self._detect_words if self._words else self._detect_classes
        return by_group(prepared, lambda item: item[1]["pixel_values"].shape, detect)

    def _pixels(self, image: Image.Image) -> dict[str, Tensor]:
        """The tensors of one image, (1, ...) each."""
        process = getattr(self._processor, "image_processor", self._processor)
        made = process(images=image, return_tensors="pt")
        return {key: value for key, value in made.items() if isinstance(value, Tensor)}

    @torch.inference_mode()
    def _detect_classes(
        self, items: list[tuple[Image.Image, dict[str, Tensor]]]
    ) -> list[Proposals]:
        outputs = self._run(_stacked(items))
        found = self._processor.post_process_object_detection(
            outputs, threshold=self._threshold, target_sizes=_sizes(items)
        )
        return [
            found_in(
                image,
                one["boxes"],
                one["scores"],
                [self._names.get(label, "") for label in one["labels"].tolist()],
            )
            for (image, _), one in zip(items, found, strict=True)
        ]

    @torch.inference_mode()
    def _detect_words(self, items: list[tuple[Image.Image, dict[str, Tensor]]]) -> list[Proposals]:
        at_once = _WORDS_AT_ONCE.get(self._kind, _OTHER_WORDS)
        boxes: list[list[Tensor]] = [[] for _ in items]
        scores: list[list[Tensor]] = [[] for _ in items]
        names: list[list[str]] = [[] for _ in items]
        for start in range(0, len(self._words), at_once):
            words = list(self._words[start : start + at_once])
            for place, one in enumerate(self._detect_some_words(items, words)):
                boxes[place].append(one["boxes"])
                scores[place].append(one["scores"])
                names[place] += [_word_of(text, words) for text in one["text_labels"]]
        return [
            found_in(image, torch.cat(boxes[place]), torch.cat(scores[place]), names[place])
            for place, (image, _) in enumerate(items)
        ]

    def _detect_some_words(
        self, items: list[tuple[Image.Image, dict[str, Tensor]]], words: list[str]
    ) -> list[dict[str, Any]]:
        pixels = _stacked(items)
        prompts = words
        if self._kind.startswith("owl"):  # whose training had this prompt among its templates
            prompts = [f"a photo of a {word}" for word in words]
        asked = [prompts] * len(items)
        texts: dict[str, Any] = {"text": asked, "return_tensors": "pt", "padding": True}
        if self._kind.startswith("owl"):
            texts["padding"] = "max_length"  # what their text towers were trained with
        if self._kind.startswith("omdet"):  # which takes words along with images alone
            texts["images"] = [image for image, _ in items]
        inputs = dict(self._processor(**texts))
        inputs |= pixels
        outputs = self._run(inputs)
        process = self._processor.post_process_grounded_object_detection
        options: dict[str, Any] = {
            "threshold": self._threshold,
            "text_threshold": self._threshold,
            "target_sizes": _sizes(items),
            "text_labels": [words] * len(items),
            "input_ids": inputs.get("input_ids"),
        }
        known = inspect.signature(process).parameters
        return process(outputs, **{key: options[key] for key in options if key in known})

    def _run(self, inputs: dict[str, Any]) -> Any:
        inputs = {
            key: value.to(self._options.device) if isinstance(value, Tensor) else value
            for key, value in inputs.items()
        }
        with self._options.autocast():
            outputs = self._model(**inputs)
        for key, value in list(outputs.items()):
            if isinstance(value, Tensor):
                outputs[key] = value.float() if value.is_floating_point() else value
        return outputs


def _stacked(items: Sequence[tuple[Image.Image, dict[str, Tensor]]]) -> dict[str, Tensor]:
    return {key: torch.cat([made[key] for _, made in items]) for key in items[0][1]}


def _sizes(items: Sequence[tuple[Image.Image, Any]]) -> list[tuple[int, int]]:
    return [(image.height, image.width) for image, _ in items]


def _word_of(text: str | None, words: Sequence[str]) -> str:
    """The word that a model's phrase stands for: itself, or what has most words in common.

    Grounding DINO answers with the tokens of its prompt that fit: of "red umbrella" perhaps one.
    """
    phrase = (text or "").lower()
    for word in words:
        if word.lower() == phrase:
            return word
    parts = set(phrase.split())
    common = [len(parts.intersection(word.lower().split())) for word in words]
    return words[common.index(max(common))] if max(common) else ""
