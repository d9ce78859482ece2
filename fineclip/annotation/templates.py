"""Captions made from the names of categories."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from PIL import Image

from fineclip.annotation.existing import refuse_argument
from fineclip.annotation.interfaces import CaptionFailure, RegionInfo
from fineclip.text import get_templates


class TemplateCaptions:
    """Fills the name of a box's category into a template.

    Args:
        argument: None to give.
        templates: Name of built-in ones ("photo", "vild", ...), or a list of texts with ``{}``;
            of several, each region gets one, drawn by its image and place.

    Raises:
        ValueError: There are no such templates.
    """

    needs_crops = False

    def __init__(self, argument: str = "", templates: str | Sequence[str] = "photo") -> None:
        refuse_argument("template", argument)
        self.identity = f"template, {templates if isinstance(templates, str) else list(templates)}"
        self._fill = get_templates(templates)

    def caption(
        self, crops: Sequence[Image.Image | None], regions: Sequence[RegionInfo]
    ) -> list[str | CaptionFailure]:
        """One caption for each region whose category has a name."""
        return [
            self._one_of(region) if region.name else CaptionFailure("no name of a category")
            for region in regions
        ]

    def _one_of(self, region: RegionInfo) -> str:
        texts = self._fill(region.name)
        place = f"{region.key} {' '.join(f'{value:.2f}' for value in region.box)}"
        draw = int.from_bytes(hashlib.blake2b(place.encode(), digest_size=8).digest(), "big")
        return texts[draw % len(texts)]
