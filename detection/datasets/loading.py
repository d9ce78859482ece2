"""Reading images for mmdet's pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from mmcv.transforms import LoadImageFromFile
from mmdet.registry import TRANSFORMS
from mmengine.fileio import get

from fineclip.images import UnusableImageError, decode_rgb, naming_file, read_bytes


@TRANSFORMS.register_module(name="LoadImageFromFile")
class LoadOrientedImage(LoadImageFromFile):
    """Loads an image by the rules of :mod:`fineclip.images`.

    In mmdet's scope it has the name of mmcv's transform, which it takes the place of: mmdet looks
    for that name in pipelines (``DetInferencer``), and configs that trainings have left name it.

    Args:
        to_float32: Give float32 in place of uint8.
        color_type: "color" is all there is.
        ignore_empty: Give None for an unusable image in place of an error.
        **kwargs: As for mmcv's; ``imdecode_backend`` means nothing here.

    Raises:
        ValueError: Another ``color_type``.
    """

    def __init__(
        self,
        to_float32: bool = False,
        color_type: str = "color",
        *,
        ignore_empty: bool = False,
        **kwargs: Any,
    ) -> None:
        if color_type != "color":
            raise ValueError(f"LoadImageFromFile: color_type must be 'color', got {color_type!r}")
        super().__init__(to_float32, color_type, ignore_empty=ignore_empty, **kwargs)

    def transform(self, results: dict[str, Any]) -> dict[str, Any] | None:
        """Loads ``img_path``.

        Args:
            results: ``img_path``, and ``width`` and ``height`` in pixels if annotations state
                them.

        Returns:
            With ``img``, (H, W, 3) uint8 BGR, ``img_shape`` and ``ori_shape``, (H, W).

        Raises:
            UnusableImageError: The image cannot be read, or has not the stated size.
        """
        file = results["img_path"]
        width, height = results.get("width"), results.get("height")
        stated = None if width is None or height is None else (width, height)
        try:
            with naming_file(file):
                if self.backend_args is None and "://" not in str(file):
                    content = read_bytes(Path(file))
                else:
                    content = get(file, backend_args=self.backend_args)
            rgb = decode_rgb(content, file, stated)
        except UnusableImageError:
            if self.ignore_empty:
                return None
            raise
        image = np.ascontiguousarray(np.asarray(rgb)[:, :, ::-1])
        results["img"] = image.astype(np.float32) if self.to_float32 else image
        results["img_shape"] = results["ori_shape"] = image.shape[:2]
        return results
