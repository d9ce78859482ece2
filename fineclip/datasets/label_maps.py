"""Reading label maps: image files whose pixels are class indices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from fineclip.images import UnusableImageError, opened_image, read_bytes, upright

_ONE_CHANNEL = {"1", "L", "P", "I", "I;16", "I;16B", "I;16L", "I;16N"}


def read_indices(path: str | Path) -> np.ndarray:
    """Decodes an image file of one integer channel (8 or 16 bit, with or without a palette).

    Args:
        path: PNG, TIFF or any other format of :mod:`fineclip.images`.

    Returns:
        (H, W) the pixels' values, uint8, uint16 or int32, upright; palettes are not looked up.

    Raises:
        FileNotFoundError: There is no such file.
        UnusableImageError: It cannot be decoded.
        ValueError: It has several channels; the message names the file.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"label map {path} does not exist")
    try:
        with opened_image(read_bytes(path), path) as image:
            mode = image.mode
            values = np.asarray(upright(image))
    except UnusableImageError as error:
        raise UnusableImageError(f"label map {error.file}", error.reason) from None
    if mode not in _ONE_CHANNEL:
        raise ValueError(
            f"label map {path} has pixels of type {mode}, expected one integer channel of class "
            "indices (a map of colours must be turned into indices first)"
        )
    return values.astype(np.uint8) if values.dtype == bool else values


def read_label_map(
    path: str | Path,
    *,
    num_classes: int,
    ignore_label: int,
    label_map: Sequence[int] | None = None,
) -> np.ndarray:
    """Reads a label map and checks its labels.

    Args:
        path: See :func:`read_indices`.
        num_classes: K.
        ignore_label: Label of pixels that count as nothing.
        label_map: Class of each value of the file, or the ignore label; None: values are classes.
            The ignore label stays what it is.

    Returns:
        (H, W) labels 0 to K - 1 or ``ignore_label``, uint8 where these fit, otherwise int32.

    Raises:
        FileNotFoundError: There is no such file.
        UnusableImageError: It cannot be decoded.
        ValueError: It holds a value that stands for no class; the message names the file and the
            value.
    """
    values = read_indices(path)
    known = num_classes if label_map is None else len(label_map)
    wrong = ((values >= known) | (values < 0)) & (values != ignore_label)
    if wrong.any():
        raise ValueError(
            f"label map {path} holds {_some(values[wrong])}, which is neither one of the {known} "
            f"classes (0 to {known - 1}) nor the ignore label {ignore_label}; was it made for "
            "another class list?"
        )
    dtype = np.uint8 if max(num_classes - 1, ignore_label) <= 255 else np.int32
    if label_map is None:
        return values.astype(dtype)
    table = np.full(max(known, ignore_label) + 1, ignore_label, dtype)
    table[:known] = label_map
    table[ignore_label] = ignore_label
    return table[values]


def _some(values: np.ndarray) -> str:
    """The first few of some values, in words."""
    distinct = np.unique(values)
    shown = ", ".join(str(value) for value in distinct[:5])
    return f"{shown}, ..." if len(distinct) > 5 else shown
