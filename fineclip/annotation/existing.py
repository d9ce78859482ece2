"""Boxes and captions that the source has already."""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from fineclip.annotation.interfaces import CaptionFailure, Proposals, RegionInfo


def refuse_argument(kind: str, argument: str) -> None:
    """Refuses ``existing:something``.

    Raises:
        ValueError: There is an argument.
    """
    if argument:
        raise ValueError(f"{kind}:{argument}: {kind!r} takes no argument")


class ExistingBoxes:
    """Proposes the boxes that the source has.

    Args:
        argument: None to give.
    """

    identity = "existing"
    needs_images = False
    categories = None

    def __init__(self, argument: str = "") -> None:
        refuse_argument("existing", argument)

    def propose(
        self, images: Sequence[Image.Image | None], keys: Sequence[str], known: Sequence[Proposals]
    ) -> list[Proposals]:
        """Gives back what is known."""
        return list(known)


class ExistingCaptions:
    """Captions that the boxes have.

    Args:
        argument: None to give.
    """

    identity = "existing"
    needs_crops = False

    def __init__(self, argument: str = "") -> None:
        refuse_argument("existing", argument)

    def caption(
        self, crops: Sequence[Image.Image | None], regions: Sequence[RegionInfo]
    ) -> list[str | CaptionFailure]:
        """Gives back what is there."""
        return [region.caption or CaptionFailure("the source has none") for region in regions]
