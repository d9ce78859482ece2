"""Segmenting anything that can be named, with a trained CAT-Seg."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from fineclip.files import write_atomically
from fineclip.visualization import draw_label_map, save_label_map, save_png
from fineclip.weights import weights_file
from segmentation.modeling import Segmenter, SlidingWindows, build_segmenter, load_checkpoint


@dataclass
class ImageSegmenter:
    """A segmenter that takes images as they come.

    Attributes:
        model: In evaluation mode.
        min_size: Images are resized so that their shorter side has so many pixels.
        max_size: Their longer side never gets more pixels than this.
    """

    model: Segmenter
    min_size: int = 640
    max_size: int = 2560

    @torch.no_grad()
    def segment(self, image: Image.Image, names: Sequence[str]) -> np.ndarray:
        """Finds the best name for every pixel.

        Args:
            image: RGB.
            names: K names.

        Returns:
            (H, W) int64 indices of names, of the image's size.
        """
        size = image.size
        scale = min(self.min_size / min(size), self.max_size / max(size))
        width, height = (max(1, round(side * scale)) for side in size)
        pixels = np.array(image.resize((width, height), Image.Resampling.BILINEAR))
        tensor = torch.from_numpy(pixels).permute(2, 0, 1)
        (found,) = self.model.predict_labels([tensor], [(size[1], size[0])], names)
        return found.labels.cpu().numpy()


def load_segmenter(
    weights: str | Path | None,
    *,
    config_file: str | Path | None = None,
    options: Sequence[str] = (),
    model: str = "ViT-B/16",
    device: str | torch.device = "cpu",
) -> ImageSegmenter:
    """Builds a segmenter and fills it from a checkpoint.

    Args:
        weights: The release's ``model_final.pth``, a file of training here, or its work dir. None:
            ``MODEL.WEIGHTS`` of the configuration.
        config_file: Its configuration, which only detectron2 can read. None: the network of the
            published recipes on ``model``, with sliding windows.
        options: Alternating keys and values that override the configuration.
        model: Name of the CLIP model where there is no configuration.
        device: Where it runs.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: A file that does not fit, or a configuration where detectron2 is missing.
    """
    if config_file is None:
        if weights is None:
            raise ValueError("name the weights of a trained segmenter")
        weights = weights_file(weights)
        found = build_segmenter(
            model,
            # Every call names its own.
            train_classes=("thing",),
            pooling_size=(1, 1),
            segmenter={"windows": SlidingWindows()},
        )
        load_checkpoint(found, weights)
        return ImageSegmenter(found.to(device).eval())
    if find_spec("detectron2") is None:
        raise ValueError(
            f"{config_file}: configurations are detectron2's, which is not installed; without one, "
            "the network of the published recipes is used"
        )
    # Imported here: all of the rest works without detectron2.
    from detectron2.modeling import build_model

    from segmentation.engine.config import load_config, prepare_for_checkpoint  # detectron2

    cfg = load_config(config_file, options)
    weights = weights or cfg.MODEL.WEIGHTS
    if not weights:
        raise ValueError(f"name the weights of a trained segmenter: {config_file} does not")
    weights = weights_file(weights)  # before a model is built: a typo should not cost minutes
    prepare_for_checkpoint(cfg, weights)
    cfg.MODEL.DEVICE = str(device)
    cfg.MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON = ""
    found = build_model(cfg)
    load_checkpoint(found, weights)
    if cfg.TEST.POOLING_SIZES:
        found.sem_seg_head.predictor.transformer.pooling_size = tuple(cfg.TEST.POOLING_SIZES)
    return ImageSegmenter(found.eval(), cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)


def segment_images(
    segmenter: ImageSegmenter,
    images: Iterable[tuple[int, Path, Image.Image]],
    names: Sequence[str],
    out: Path,
) -> list[dict[str, Any]]:
    """Segments images and writes overlays, label maps and their summary ``segmentation.json``.

    Args:
        segmenter: What segments.
        images: Number, file and RGB image of each.
        names: K names.
        out: Folder to write, made if it is missing: ``NUMBER_NAME.png`` and
            ``NUMBER_NAME_labels.png`` for each image.

    Returns:
        What ``segmentation.json`` says of each image: ``file_name``, ``label_map`` and
        ``shares``, the share of pixels by index of a name.
    """
    out.mkdir(parents=True, exist_ok=True)
    done: list[dict[str, Any]] = []
    for number, file, image in images:
        labels = segmenter.segment(image, names)
        stem = f"{number:04d}_{file.stem}"
        save_png(draw_label_map(image, labels, names), out / f"{stem}.png")
        save_label_map(labels, out / f"{stem}_labels.png", len(names))
        present, counts = np.unique(labels, return_counts=True)
        shares = {
            int(i): round(int(c) / labels.size, 6) for i, c in zip(present, counts, strict=True)
        }
        done.append({"file_name": file.name, "label_map": f"{stem}_labels.png", "shares": shares})
    content = {"names": dict(enumerate(names)), "images": done}
    write_atomically(out / "segmentation.json", json.dumps(content, indent=1) + "\n")
    return done
