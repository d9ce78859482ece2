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
import torch.nn.functional as F
from PIL import Image

from fineclip.files import write_atomically
from fineclip.models.class_embedding_files import weights_identity
from fineclip.models.embedding_cache import EmbeddingCache
from fineclip.models.exemplars import fuse_exemplars, pool_region
from fineclip.text import Vocabulary, load_vocabulary
from fineclip.text.exemplars import DEFAULT_EXEMPLAR_WEIGHT
from fineclip.visualization import (
    NONE_OF_THESE,
    draw_label_map,
    enlargement,
    save_label_map,
    save_png,
    save_score_map,
)
from fineclip.weights import weights_file
from segmentation.modeling import Segmenter, SlidingWindows, build_segmenter, load_checkpoint
from segmentation.modeling.build import OPENAI_NAMES
from segmentation.modeling.windows import resize


@dataclass
class ImageSegmenter:
    """A segmenter that takes images as they come.

    Attributes:
        model: In evaluation mode.
        min_size: Images are resized so that their shorter side has so many pixels.
        max_size: Their longer side never gets more pixels than this.
        known: Names that, beside those that are looked for, describe pictures of a class.
        identity: What its weights are told by, for caches; empty: nothing is cached.
    """

    model: Segmenter
    min_size: int = 640
    max_size: int = 2560
    known: tuple[str, ...] = ()
    identity: str = ""

    @torch.no_grad()
    def segment(self, image: Image.Image, names: Sequence[str]) -> tuple[np.ndarray, np.ndarray]:
        """Finds the best name for every pixel.

        Args:
            image: RGB.
            names: K names.

        Returns:
            (H, W) int64 indices of names, of the image's size, and (H, W) float32, the probability
            of that name; each name's is one for itself, they do not add up to 1.
        """
        size = image.size
        (found,) = self.model.predict_labels([self._resized(image)], [(size[1], size[0])], names)
        return found.labels.cpu().numpy(), found.scores.float().cpu().numpy()

    def _resized(self, image: Image.Image) -> torch.Tensor:
        """(3, h, w) uint8."""
        scale = min(self.min_size / min(image.size), self.max_size / max(image.size))
        width, height = (max(1, round(side * scale)) for side in image.size)
        pixels = np.array(image.resize((width, height), Image.Resampling.BILINEAR))
        return torch.from_numpy(pixels).permute(2, 0, 1)

    @torch.no_grad()
    def encode_region(
        self, image: Image.Image, box: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """How its CLIP sees a region of an RGB image; see :class:`RegionEncoder`.

        Args:
            image: RGB.
            box: (4,) xyxy in [0, 1] of the image.

        Returns:
            (D,) and (D, h, w) unit vectors of the region and of all places of the image.
        """
        pixels = self._resized(image)
        # To a size that needs no padding, which would be among the places.
        multiple = max(1, self.model.size_divisibility)
        height, width = (max(1, round(side / multiple)) * multiple for side in pixels.shape[1:])
        whole = resize(pixels[None].float(), (height, width))
        features = self.model.sem_seg_head.predictor.features(self.model.prepare([*whole]))
        assert features.dense is not None  # always asked for
        dense = F.normalize(features.dense[0].float(), dim=0)
        return pool_region(dense, box), dense

    def use_exemplars(
        self, vocabulary: Vocabulary, weight: float = DEFAULT_EXEMPLAR_WEIGHT
    ) -> None:
        """Finds the classes of a vocabulary that have pictures by these, too, from now on.

        Args:
            vocabulary: Its prompt names are the names of :meth:`segment`.
            weight: See :func:`fineclip.models.exemplars.fuse_exemplars`.

        Raises:
            ValueError: A picture that cannot be used.
        """
        text = self.model.sem_seg_head.predictor.text
        text.given = {}
        if not vocabulary.has_exemplars:
            return
        names = vocabulary.prompt_names
        with torch.no_grad():
            texts, words = text(names), text(self.known or names).mean(dim=1)
        size = f"{self.min_size} {self.max_size} {self.model.clip_resolution}"
        cache = EmbeddingCache([self.identity, size]) if self.identity else None
        fused = fuse_exemplars(vocabulary, texts, words, self.encode_region, weight, cache)
        chosen = [index for index, c in enumerate(vocabulary.categories) if c.exemplars]
        text.given = {names[index]: fused[index] for index in chosen}


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
        identity = _cache_texts(found, OPENAI_NAMES.get(model, model), weights)
        known = load_vocabulary("coco_stuff171").prompt_names  # what the recipes train on
        return ImageSegmenter(found.to(device).eval(), known=known, identity=identity)
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
    # Every call names its own classes: lists and data sets of training need not be there.
    cfg.MODEL.SEM_SEG_HEAD.TRAIN_CLASS_JSON = cfg.MODEL.SEM_SEG_HEAD.TEST_CLASS_JSON = ""
    cfg.DATASETS.TRAIN = ()
    found = build_model(cfg)
    load_checkpoint(found, weights)
    if cfg.TEST.POOLING_SIZES:
        found.sem_seg_head.predictor.transformer.pooling_size = tuple(cfg.TEST.POOLING_SIZES)
    name = cfg.MODEL.SEM_SEG_HEAD.CLIP_PRETRAINED
    return ImageSegmenter(
        found.eval(),
        cfg.INPUT.MIN_SIZE_TEST,
        cfg.INPUT.MAX_SIZE_TEST,
        known=found.sem_seg_head.train_classes,
        identity=_cache_texts(found, OPENAI_NAMES.get(name, name), weights),
    )


def _cache_texts(model: Segmenter, clip_name: str, weights: Path) -> str:
    """Lets the segmenter keep text features on disk; its identity.

    The text tower is the checkpoint's own, trained with the rest.
    """
    identity = f"{clip_name} {weights_identity(clip_name, weights)}"
    model.sem_seg_head.predictor.text.cache = EmbeddingCache([identity])
    return identity


@dataclass(frozen=True)
class OverlayOptions:
    """What is shown of a segmented image.

    Attributes:
        opacity: Share of the colours inside the outlines, in [0, 1].
        none_below: Pixels whose best name has a lower probability get none of the names.
        scores: Write the probability of each pixel's best name, too.
    """

    opacity: float = 0.55
    none_below: float = 0.0
    scores: bool = False


def draw_segments(
    segmenter: ImageSegmenter,
    image: Image.Image,
    names: Sequence[str],
    options: OverlayOptions = OverlayOptions(),
) -> Image.Image:
    """An RGB image with a name for every pixel and a legend, a small one enlarged."""
    labels, _ = _segmented(segmenter, image, names, options)
    return _drawn(image, labels, names, options.opacity)


def segment_images(
    segmenter: ImageSegmenter,
    images: Iterable[tuple[int, Path, Image.Image]],
    names: Sequence[str],
    out: Path,
    options: OverlayOptions = OverlayOptions(),
) -> list[dict[str, Any]]:
    """Segments images and writes overlays, label maps and their summary ``segmentation.json``.

    Args:
        segmenter: What segments.
        images: Number, file and RGB image of each.
        names: K names.
        out: Folder to write, made if it is missing: ``NUMBER_NAME.png``, that of a small image
            enlarged, and ``NUMBER_NAME_labels.png`` for each image, with ``options.scores`` also
            ``NUMBER_NAME_scores.png`` (8 bit, 255 is 1).
        options: What is shown.

    Returns:
        What ``segmentation.json`` says of each image: ``file_name``, ``label_map``, ``shares``, the
        share of pixels by index of a name (K: none of them), and ``score_map`` where it is written.
    """
    out.mkdir(parents=True, exist_ok=True)
    done: list[dict[str, Any]] = []
    for number, file, image in images:
        labels, scores = _segmented(segmenter, image, names, options)
        stem = f"{number:04d}_{file.stem}"
        save_png(_drawn(image, labels, names, options.opacity), out / f"{stem}.png")
        save_label_map(labels, out / f"{stem}_labels.png", len(names))
        present, counts = np.unique(labels, return_counts=True)
        shares = {
            int(i): round(int(c) / labels.size, 6) for i, c in zip(present, counts, strict=True)
        }
        entry: dict[str, Any] = {"file_name": file.name, "label_map": f"{stem}_labels.png"}
        entry["shares"] = shares
        if options.scores:
            entry["score_map"] = f"{stem}_scores.png"
            save_score_map(scores, out / entry["score_map"])
        done.append(entry)
    shown = [*names, NONE_OF_THESE] if options.none_below > 0 else names
    content = {"names": dict(enumerate(shown)), "images": done}
    write_atomically(out / "segmentation.json", json.dumps(content, indent=1) + "\n")
    return done


def _segmented(
    segmenter: ImageSegmenter, image: Image.Image, names: Sequence[str], options: OverlayOptions
) -> tuple[np.ndarray, np.ndarray]:
    """Labels and scores, both (H, W); K is the label of what has none of the names."""
    labels, scores = segmenter.segment(image, names)
    return np.where(scores < options.none_below, len(names), labels), scores


def _drawn(
    image: Image.Image, labels: np.ndarray, names: Sequence[str], opacity: float
) -> Image.Image:
    """A small image is enlarged, so that letters fit on it."""
    times = enlargement(image.size)
    return draw_label_map(
        image.resize((times * image.width, times * image.height)),
        labels.repeat(times, axis=0).repeat(times, axis=1),
        names,
        opacity,
    )
