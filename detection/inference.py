"""Detecting anything that can be named, with a trained F-ViT."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
import torch
from mmcv.transforms import Compose
from mmdet.apis import init_detector
from mmdet.utils import get_test_pipeline_cfg
from mmengine.config import Config
from mmengine.structures import InstanceData
from PIL import Image
from torch import Tensor

from fineclip.checkpoints import load_trained, read_checkpoint
from fineclip.configuration.plain import PLAIN_CONFIG
from fineclip.engine import explaining_errors, load_config
from fineclip.files import write_atomically
from fineclip.models import (
    BACKGROUND,
    WordEmbedder,
    create_text_encoder,
    resolve_class_embeddings,
)
from fineclip.models.class_embedding_files import weights_identity
from fineclip.models.class_embeddings import text_cache
from fineclip.models.embedding_cache import EmbeddingCache
from fineclip.models.exemplars import fuse_exemplars, pool_region
from fineclip.text import Vocabulary
from fineclip.text.exemplars import DEFAULT_EXEMPLAR_WEIGHT
from fineclip.visualization import draw_boxes, enlargement, save_png
from fineclip.weights import weights_file


def trained_detector(path: str | Path) -> tuple[Path, Path]:
    """Config and checkpoint of a training.

    Args:
        path: Its work dir, of which the last checkpoint is meant, or a checkpoint in it.

    Raises:
        FileNotFoundError: There is no checkpoint, or not the config that training leaves as data.
    """
    checkpoint = weights_file(path)
    config = checkpoint.parent / PLAIN_CONFIG
    if not config.is_file():
        programs = sorted(checkpoint.parent.glob("*.py"))
        found = f", and {programs[0].name} is a program, which is not run unasked" * bool(programs)
        raise FileNotFoundError(
            f"{checkpoint.parent} holds no {PLAIN_CONFIG}{found}; name the detector's config with "
            "--config"
        )
    return config, checkpoint


class Detection(TypedDict):
    """One detected object.

    Attributes:
        category: Its name in the vocabulary.
        index: Its place there.
        score: In [0, 1].
        bbox: x, y, width, height in pixels of the image (COCO's results format).
    """

    category: str
    index: int
    score: float
    bbox: list[float]


class OpenVocabularyDetector:
    """A trained detector whose classes are names given at test time.

    Args:
        config: Config of the detector, complete.
        checkpoint: Its trained weights; the image tower is among them.
        vocabulary: What to detect; None: what :meth:`set_classes` will say.
        text_pretrained: Weights of the text tower, which a detector's checkpoint does not hold;
            None: those that the config names.
        device: Where it runs.
        amp: Autocast type of the network, ``torch.bfloat16`` or, on a GPU, ``torch.float16``;
            scores and box coordinates stay float32. None: no autocast.
        exemplar_weight: See :func:`fineclip.models.exemplars.fuse_exemplars`.

    Attributes:
        names: Names of the classes.
        text_source: Whose text tower it belongs to: ``model``, ``pretrained`` and the like.

    Raises:
        FileNotFoundError: The checkpoint, or the weights of the text tower, do not exist.
        ValueError: A config that is no F-ViT's or does not say whose text tower it belongs to, or
            a checkpoint of another model.
    """

    def __init__(
        self,
        config: Config,
        checkpoint: str | Path,
        vocabulary: Vocabulary | None,
        *,
        text_pretrained: str | None = None,
        device: str | torch.device = "cpu",
        amp: torch.dtype | None = None,
        exemplar_weight: float = DEFAULT_EXEMPLAR_WEIGHT,
    ) -> None:
        if not Path(checkpoint).is_file():
            raise FileNotFoundError(f"checkpoint {checkpoint} does not exist")
        config = config.copy()
        head = config.model.get("roi_head", {}).get("bbox_head", {})
        source = head.get("class_embeddings")
        if config.model.get("type") != "FViT" or not isinstance(source, dict):
            raise ValueError(
                f"{config.filename}: expected an FViT whose roi_head.bbox_head.class_embeddings "
                "names the model of its text tower, such as dict(model=..., pretrained=...)"
            )
        if text_pretrained is not None:
            source = {**source, "pretrained": text_pretrained}
        # The checkpoint has the image tower and the classes of training, which are replaced.
        config.model.backbone.pretrained = None
        head.class_embeddings = None
        trained = read_checkpoint(checkpoint, mmap=True)  # refused before anything slow
        # That it has no weights yet, and no classes; mmdet itself sets what is shown.
        with warnings.catch_warnings(record=True):
            self.model = init_detector(config, None, device=str(device))
        load_trained(self.model, trained, checkpoint)
        self.text_source: dict[str, Any] = dict(source)
        self.names: tuple[str, ...] = ()
        # What it was trained to tell apart are the words that it knows best.
        self._known = self.model.roi_head.bbox_head.text_embeddings[:, :-1].T
        self.model.fuse_for_inference()
        pipeline = copy.deepcopy(get_test_pipeline_cfg(config))
        pipeline[0].type = "mmdet.LoadImageFromNDArray"
        self._pipeline = Compose(pipeline)
        self._autocast = torch.autocast(torch.device(device).type, amp, enabled=amp is not None)
        self._cache_key = (checkpoint, repr(pipeline))
        if vocabulary is not None:
            self.look_for(vocabulary, exemplar_weight)

    def look_for(
        self, vocabulary: Vocabulary, exemplar_weight: float = DEFAULT_EXEMPLAR_WEIGHT
    ) -> None:
        """Replaces the classes by those of a vocabulary, given by words, by pictures or by both.

        Args:
            vocabulary: What to detect.
            exemplar_weight: See :func:`fineclip.models.exemplars.fuse_exemplars`.

        Raises:
            FileNotFoundError: The weights of the text tower do not exist.
            ValueError: A text tower that does not fit, or a picture that cannot be used.
        """
        found = resolve_class_embeddings(
            vocabulary,
            **self.text_source,
            background=BACKGROUND,
            width=self.model.roi_head.bbox_head.embed_dim,
            device=self._known.device,
            words_alone=True,
        )
        classes, background = found.embeddings[:-1], found.embeddings[-1:]
        if vocabulary.has_exemplars:
            checkpoint, pipeline = self._cache_key
            cache = EmbeddingCache([weights_identity("detector", checkpoint), pipeline])
            classes = fuse_exemplars(
                vocabulary, classes, self._known, self.encode_region, exemplar_weight, cache
            )
        self.set_classes(found.names, torch.cat([classes, background]))

    def set_classes(self, names: Sequence[str], embeddings: Tensor) -> None:
        """Replaces the classes.

        Args:
            names: The K names.
            embeddings: (K + 1, D) unit vectors, that of :data:`fineclip.models.BACKGROUND` last.
        """
        self.names = tuple(names)
        embeddings = embeddings.to(next(self.model.parameters()).device)
        self.model.set_vocabulary(self.names, embeddings[:-1], background=embeddings[-1])

    @torch.inference_mode()
    def encode_region(self, image: Image.Image, box: Tensor) -> tuple[Tensor, Tensor]:
        """How the frozen tower sees a region of an RGB image, as it sees each proposal.

        Args:
            image: RGB.
            box: (4,) xyxy in [0, 1] of the image.

        Returns:
            (D,) and (D, h, w) unit vectors of the region and of all places of the image.
        """
        item = self._prepared(image)
        data = {"inputs": [item["inputs"]], "data_samples": [item["data_samples"]]}
        pixels = self.model.data_preprocessor(data, False)["inputs"]  # (1, 3, H, W), padded
        dense = self.model.backbone.forward_with_dense(pixels)[1][0]
        height, width = item["data_samples"].img_shape[:2]
        share = box.new_tensor([width, height] * 2) / box.new_tensor([*pixels.shape[:1:-1]] * 2)
        rows, columns = (
            max(1, round(side / patch))
            for side, patch in zip((height, width), self.model.backbone.patch_size, strict=True)
        )
        return pool_region(dense, box * share), dense[:, :rows, :columns]

    def _prepared(self, image: Image.Image) -> dict[str, Any]:
        pixels = np.ascontiguousarray(np.asarray(image)[:, :, ::-1])  # mmdet reads BGR
        return self._pipeline({"img": pixels, "img_id": 0})

    def detect(self, image: Image.Image, score_threshold: float = 0.0) -> list[Detection]:
        """Detects in one RGB image, best first."""
        return self.detect_batch([image], score_threshold)[0]

    def detect_batch(
        self, images: Sequence[Image.Image], score_threshold: float = 0.0
    ) -> list[list[Detection]]:
        """Detects in RGB images of any sizes; those that are padded to one size run together."""
        prepared = [self._prepared(image) for image in images]
        data = {key: [item[key] for item in prepared] for key in ("inputs", "data_samples")}
        with torch.inference_mode(), self._autocast:
            results = self.model.test_step(data)
        return [self._listed(found.pred_instances.cpu(), score_threshold) for found in results]

    def _listed(self, found: InstanceData, score_threshold: float) -> list[Detection]:
        order = found.scores.argsort(descending=True)
        detections: list[Detection] = []
        for score, label, (x0, y0, x1, y1) in zip(
            found.scores[order].tolist(),
            found.labels[order].tolist(),
            found.bboxes[order].tolist(),
            strict=True,
        ):
            if score >= score_threshold:
                detections.append(
                    {
                        "category": self.names[label],
                        "index": label,
                        "score": score,
                        "bbox": [x0, y0, x1 - x0, y1 - y0],
                    }
                )
        return detections


def load_detector(
    weights: str | Path,
    vocabulary: Vocabulary | None,
    *,
    config_file: str | Path | None = None,
    options: Mapping[str, Any] | None = None,
    text_pretrained: str | None = None,
    device: str | torch.device = "cpu",
    amp: torch.dtype | None = None,
    exemplar_weight: float = DEFAULT_EXEMPLAR_WEIGHT,
) -> OpenVocabularyDetector:
    """Builds a trained detector from what a training has left.

    Args:
        weights: A checkpoint, or the work dir of its training.
        vocabulary: What to detect; see :class:`OpenVocabularyDetector`.
        config_file: Config of the detector; None: the one beside the weights.
        options: Overrides of the config by key.
        text_pretrained: See :class:`OpenVocabularyDetector`.
        device: Where it runs.
        amp: See :class:`OpenVocabularyDetector`.
        exemplar_weight: See there.

    Raises:
        FileNotFoundError: A file does not exist.
        ValueError: A config or checkpoint that does not fit.
    """
    weights = Path(weights)
    if config_file is None or weights.is_dir():
        found, weights = trained_detector(weights)
        config_file = config_file or found
    config = load_config(config_file, dict(options or {}))
    with explaining_errors(config):
        return OpenVocabularyDetector(
            config,
            weights,
            vocabulary,
            text_pretrained=text_pretrained,
            device=device,
            amp=amp,
            exemplar_weight=exemplar_weight,
        )


class WordDetector:
    """A detector that is asked about other words each time, with its text tower at hand.

    Args:
        weights: See :func:`load_detector`.
        device: See there.

    Raises:
        FileNotFoundError: See there.
        ValueError: See there.
    """

    def __init__(self, weights: str | Path, device: str | torch.device = "cpu") -> None:
        self._detector = load_detector(weights, None, device=device)
        source = self._detector.text_source
        model, pretrained = source["model"], source.get("pretrained")
        clip = create_text_encoder(model, pretrained, device)
        self._embed = WordEmbedder(
            clip, source.get("templates", "vild"), cache=text_cache(model, pretrained)
        )

    def draw(self, image: Image.Image, words: Sequence[str], score_threshold: float) -> Image.Image:
        """A copy of an RGB image with boxes of what is found of the words."""
        self._detector.set_classes(words, self._embed([*words, BACKGROUND]))
        return _drawn(image, self._detector.detect(image, score_threshold))


def proposer_of(
    detector: OpenVocabularyDetector, score_threshold: float
) -> Callable[[Path, Image.Image], Tensor]:
    """Proposes what a detector finds, as regions that :mod:`fineclip.looking` asks about.

    Args:
        detector: What detects.
        score_threshold: What is less certain is left out.

    Returns:
        A function from a photograph's file and its RGB pixels to (n, 4) float32 boxes, xyxy in
        pixels, best first.
    """

    def propose(file: Path, image: Image.Image) -> Tensor:
        boxes = [item["bbox"] for item in detector.detect(image, score_threshold)]
        found = torch.tensor(boxes, dtype=torch.float32).view(-1, 4)
        found[:, 2:] += found[:, :2]
        return found

    return propose


def detect_images(
    detector: OpenVocabularyDetector,
    images: Iterable[tuple[int, Path, Image.Image]],
    out: Path,
    score_threshold: float,
    batch_size: int = 1,
) -> list[dict[str, Any]]:
    """Detects in images and writes them with their boxes, and all boxes as ``detections.json``.

    Args:
        detector: What detects.
        images: Number, file and RGB image of each.
        out: Folder to write, made if it is missing: ``NUMBER_NAME.png`` for each image, those of
            small images enlarged.
        score_threshold: What is less certain is left out.
        batch_size: Images at a time; it changes nothing but time and memory.

    Returns:
        What ``detections.json`` holds: COCO's results format with names beside the numbers. Images
        have their number, categories their place in the vocabulary counted from 1.
    """
    out.mkdir(parents=True, exist_ok=True)
    results: list[dict[str, Any]] = []
    for number, file, image, found in _found_in(detector, images, score_threshold, batch_size):
        save_png(_drawn(image, found), out / f"{number:04d}_{file.stem}.png")
        results += [
            {
                "image_id": number,
                "file_name": file.name,
                "category_id": item["index"] + 1,
                "category_name": item["category"],
                "bbox": [round(value, 2) for value in item["bbox"]],
                "score": round(item["score"], 5),
            }
            for item in found
        ]
    write_atomically(out / "detections.json", json.dumps(results, indent=1) + "\n")
    return results


def _drawn(image: Image.Image, found: Sequence[Detection]) -> Image.Image:
    """A small image is enlarged, so that letters fit on it."""
    times = enlargement(image.size)
    return draw_boxes(
        image.resize((times * image.width, times * image.height)),
        [[times * value for value in item["bbox"]] for item in found],
        [item["index"] for item in found],
        [f"{item['category']} {item['score']:.2f}" for item in found],
    )


def _found_in(
    detector: OpenVocabularyDetector,
    images: Iterable[tuple[int, Path, Image.Image]],
    score_threshold: float,
    batch_size: int,
) -> Iterator[tuple[int, Path, Image.Image, list[Detection]]]:
    images = iter(images)
    while batch := list(islice(images, batch_size)):
        found = detector.detect_batch([image for _, _, image in batch], score_threshold)
        for item, detections in zip(batch, found, strict=True):
            yield *item, detections
