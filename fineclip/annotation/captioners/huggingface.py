"""Captioners of transformers: BLIP-2 and any other model from images to text."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor

from fineclip.annotation.interfaces import CaptionFailure, RegionInfo
from fineclip.annotation.pretrained import (
    ComputeOptions,
    identity_of,
    load_config,
    load_model,
    load_processor,
    require_name,
)
from fineclip.annotation.proposers.found import as_rgb, by_group
from fineclip.checks import integer_from

PROMPT = "Describe this image in one short sentence."
"""What models that are asked in messages are asked by default."""


class HuggingFaceCaptioner:
    """Describes crops greedily; see :class:`fineclip.annotation.interfaces.Captioner`.

    The same crop gets the same caption each time, beside any other crops, up to rounding.

    Args:
        argument: Name of a model on the Hub, or a folder, with safetensors.
        prompt: What the text begins with ("a photo of"), or, of a model that is asked in
            messages, what it is asked. None: nothing, or :data:`PROMPT`.
        max_new_tokens: Tokens of a caption.
        batch_size: Crops at a time.
        device: See :class:`fineclip.annotation.pretrained.ComputeOptions`.
        amp: Likewise; the weights are kept in that type, which halves their memory.

    Raises:
        ValueError: There is no such model, or it writes no text about images.
        ImportError: transformers is not installed.
    """

    needs_crops = True

    def __init__(
        self,
        argument: str,
        *,
        prompt: str | None = None,
        max_new_tokens: int = 30,
        batch_size: int = 32,
        device: str | None = None,
        amp: str | None = None,
    ) -> None:
        import transformers  # an optional library, and seconds to load

        name = require_name(argument, "hf")
        integer_from(1).require(max_new_tokens, "max_new_tokens")
        integer_from(1).require(batch_size, "batch_size")
        compute = ComputeOptions(device, amp)
        config = load_config(name)
        if type(config) not in transformers.MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING:
            raise ValueError(
                f"captioner hf:{name}: a model of type {config.model_type!r} writes no text about "
                "images; BLIP-2, BLIP, GIT and LLaVA do, for example"
            )
        self._device, self._dtype = compute.device, compute.dtype or torch.float32
        self._model = load_model(
            transformers.AutoModelForImageTextToText, name, self._device, self._dtype
        )
        if config.model_type == "vision-encoder-decoder":  # of which no processor is saved
            self._images = load_processor(transformers.AutoImageProcessor, name)
            self._processor = None
            self._tokenizer = load_processor(transformers.AutoTokenizer, name)
        else:
            self._processor = load_processor(transformers.AutoProcessor, name)
            self._images = self._processor.image_processor
            self._tokenizer = self._processor.tokenizer
        self._tokenizer.padding_side = "left"  # so that captions begin where prompts end
        self._asks = getattr(self._processor, "chat_template", None) is not None
        if prompt and self._processor is None:
            raise ValueError(f"captioner hf:{name}: a {config.model_type} takes no prompt")
        self._prompt = prompt or (PROMPT if self._asks else "")
        self._batch_size = batch_size
        self._greedy = {"do_sample": False, "num_beams": 1, "max_new_tokens": max_new_tokens}
        said = f" prompt {self._prompt!r}" if self._prompt else ""
        self.identity = f"hf:{identity_of(name, config)}{said} max_new_tokens {max_new_tokens}"

    def caption(
        self, crops: Sequence[Image.Image | None], regions: Sequence[RegionInfo]
    ) -> list[str | CaptionFailure]:
        """Describes some regions."""
        images = as_rgb(crops)
        captions: list[str | CaptionFailure] = [CaptionFailure("model refused the crop")] * len(
            images
        )
        for start in range(0, len(images), self._batch_size):
            prepared = []
            for place, image in enumerate(images[start : start + self._batch_size], start):
                # Of what is narrower than a patch, say; what a crop has to be differs by model.
                with contextlib.suppress(ValueError):
                    prepared.append((place, self._prepared(image)))
            written = by_group([made for _, made in prepared], _shapes, self._written)
            for (place, _), caption in zip(prepared, written, strict=True):
                captions[place] = caption
        return captions

    def _prepared(self, image: Image.Image) -> dict[str, Tensor]:
        """What the model reads of one crop, (1, ...) each."""
        if self._processor is None:
            made = self._images(images=image, return_tensors="pt")
        elif self._asks:
            parts = [{"type": "image", "image": image}, {"type": "text", "text": self._prompt}]
            made = self._processor.apply_chat_template(
                [{"role": "user", "content": parts}],
                add_generation_prompt=True,
                tokenize=True,
                return_dict=True,
                return_tensors="pt",
            )
        elif self._prompt:
            made = self._processor(images=image, text=self._prompt, return_tensors="pt")
        else:
            made = self._processor(images=image, return_tensors="pt")
        return {key: value for key, value in made.items() if isinstance(value, Tensor)}

    @torch.inference_mode()
    def _written(self, prepared: list[dict[str, Tensor]]) -> list[str]:
        inputs = {key: torch.cat([one[key] for one in prepared]) for key in prepared[0]}
        for key, value in inputs.items():
            value = value.to(self._device)
            inputs[key] = value.to(self._dtype) if value.is_floating_point() else value
        tokens: Tensor = self._model.generate(**inputs, **self._greedy)
        asked = inputs.get("input_ids")
        if asked is not None:
            length = asked.shape[1]
            # Some models return what they were asked as well.
            if tokens.shape[1] >= length and torch.equal(tokens[:, :length], asked):
                tokens = tokens[:, length:]
        written = self._tokenizer.batch_decode(tokens, skip_special_tokens=True)
        return [self._without_prompt(" ".join(text.split())) for text in written]

    def _without_prompt(self, text: str) -> str:
        """BLIP repeats what its text was to begin with, without the last token."""
        begins = not self._asks and text.lower().startswith(self._prompt.lower())
        return text[len(self._prompt) :].strip() if begins else text


def _shapes(prepared: dict[str, Tensor]) -> tuple[tuple[str, torch.Size], ...]:
    return tuple((key, value.shape) for key, value in prepared.items())
