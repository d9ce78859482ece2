"""CAT-Seg as one module: loss, whole-image and sliding-window inference (Cho et al., CVPR 2024).

Letters: B images, T classes, (H, W) pixels, (h, w) patch grid.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from segmentation.modeling.batches import run_in_batches
from segmentation.modeling.loss import choose_classes, class_loss
from segmentation.modeling.predictor import SegmentationHead
from segmentation.modeling.windows import SlidingWindows, WholeImage, resize

CLIP_PIXEL_MEAN = (122.7709383, 116.7460125, 104.09373615)
CLIP_PIXEL_STD = (68.5005327, 66.6321579, 70.323163)
# Classes whose full-resolution maps are held at a time while labels are chosen.
_CLASS_CHUNK = 16


@dataclass(frozen=True)
class Labels:
    """The best class of every pixel.

    Attributes:
        labels: (H, W) int64 class indices.
        scores: (H, W) float, the probability of that class.
    """

    labels: Tensor
    scores: Tensor


class Segmenter(nn.Module):
    """Assigns names to pixels.

    Images are RGB in 0..255. They are normalised, padded with zeros to a multiple of
    ``size_divisibility`` on the right and at the bottom, and resized to ``clip_resolution``,
    whatever their aspect. At inference every image is padded by itself, so its answer does not
    depend on its batch; in training all are padded to the largest.

    Args:
        sem_seg_head: CLIP and the aggregation network.
        upsample_dims: Channels of the two tapped maps once they are upsampled, to 2 and 4 times
            the grid.
        clip_resolution: (height, width) in pixels of CLIP's input, multiples of its patch.
        pixel_mean: Channel means.
        pixel_std: Channel standard deviations.
        size_divisibility: See above.
        ignored_as_negatives: Ignored pixels count as "none of the classes", as in the release.
            False: they are left out of the loss.
        classes_per_step: Training classes that a loss is computed over: those that occur in its
            labels, filled up with others at random, for time and memory grow with their number.
            0: all, as in the release.
        windows: Sliding windows of :meth:`predict`; None: the whole image only.
        memory_budget: Bytes that the inputs run at a time may take at inference, roughly, beside
            the weights and the result.

    Raises:
        ValueError: A resolution that is no multiple of the patch.
    """

    pixel_mean: Tensor
    pixel_std: Tensor

    def __init__(
        self,
        sem_seg_head: SegmentationHead,
        *,
        upsample_dims: Sequence[int] = (256, 128),
        clip_resolution: tuple[int, int] = (384, 384),
        pixel_mean: Sequence[float] = CLIP_PIXEL_MEAN,
        pixel_std: Sequence[float] = CLIP_PIXEL_STD,
        size_divisibility: int = 32,
        ignored_as_negatives: bool = True,
        classes_per_step: int = 0,
        windows: SlidingWindows | None = None,
        memory_budget: int = 2 * 1024**3,
    ) -> None:
        super().__init__()
        trunk = sem_seg_head.predictor.trunk
        trunk.grid_size(*clip_resolution)
        self.sem_seg_head = sem_seg_head
        self.upsample1 = nn.ConvTranspose2d(trunk.width, upsample_dims[0], 2, stride=2)
        self.upsample2 = nn.ConvTranspose2d(trunk.width, upsample_dims[1], 4, stride=4)
        self.clip_resolution = (clip_resolution[0], clip_resolution[1])
        self.size_divisibility = size_divisibility
        self.ignored_as_negatives = ignored_as_negatives
        self.classes_per_step = classes_per_step
        self.windows = windows
        self.memory_budget = memory_budget
        for name, values in (("pixel_mean", pixel_mean), ("pixel_std", pixel_std)):
            channels = torch.tensor(values, dtype=torch.float32).view(-1, 1, 1)
            self.register_buffer(name, channels, persistent=False)

    @property
    def device(self) -> torch.device:
        """Where the model lives."""
        return self.pixel_mean.device

    def forward(self, inputs: Tensor, names: Sequence[str] | None = None) -> Tensor:
        """See :meth:`logits`."""
        return self.logits(inputs, names)

    def logits(self, inputs: Tensor, names: Sequence[str] | None = None) -> Tensor:
        """Logits of normalised images.

        Args:
            inputs: (B, 3, H, W) of :meth:`prepare`, or of any size in multiples of the patch.
            names: Classes; None: those of training or of testing, by the module's mode.

        Returns:
            (B, T, 4h, 4w).
        """
        features = self.sem_seg_head.predictor.features(inputs)
        first, second = features.maps
        guidance = (self.upsample1(first), self.upsample2(second))
        return self.sem_seg_head(features.dense, guidance, names)

    def prepare(self, images: Sequence[Tensor]) -> Tensor:
        """Normalises, pads to one size, resizes.

        Args:
            images: (3, H, W) uint8 or float each, 0..255.

        Returns:
            (B, 3, *clip_resolution) on the model's device.
        """
        images = [self._normalize(image) for image in images]
        height, width = self._padded_size(
            max(image.shape[1] for image in images), max(image.shape[2] for image in images)
        )
        batch = torch.stack([_pad(image, height, width, 0) for image in images])
        return resize(batch, self.clip_resolution)

    def loss(
        self,
        images: Sequence[Tensor],
        labels: Sequence[Tensor],
        names: Sequence[str] | None = None,
    ) -> Tensor:
        """Binary cross-entropy of every class at every pixel.

        Args:
            images: (3, H, W) each, RGB in 0..255.
            labels: (H, W) integer each: indices of the training classes, or the ignore value.
            names: The training classes; None: the head's.

        Returns:
            () the loss.

        Raises:
            ValueError: A label that is no class, or of another size than its image.
        """
        for image, label in zip(images, labels, strict=True):
            if image.shape[-2:] != label.shape:
                raise ValueError(
                    f"an image of {tuple(image.shape[-2:])} pixels has labels of "
                    f"{tuple(label.shape)}"
                )
        names = tuple(names or self.sem_seg_head.train_classes)
        ignore = self.sem_seg_head.ignore_value
        labels = [label.to(self.device).long() for label in labels]
        if 0 < self.classes_per_step < len(names):
            chosen, labels = choose_classes(
                labels, len(names), self.classes_per_step, ignore_value=ignore
            )
            names = tuple(names[index] for index in chosen)
        logits = self.logits(self.prepare(images), names)
        height, width = self._padded_size(
            max(label.shape[0] for label in labels), max(label.shape[1] for label in labels)
        )
        target = torch.stack([_pad(label, height, width, ignore) for label in labels])
        return class_loss(
            resize(logits, (height, width)),
            target,
            ignore_value=ignore,
            ignored_as_negatives=self.ignored_as_negatives,
        )

    @torch.no_grad()
    def predict(
        self,
        images: Sequence[Tensor],
        sizes: Sequence[tuple[int, int] | None] | None = None,
        names: Sequence[str] | None = None,
    ) -> list[Tensor]:
        """Probabilities of every class.

        Args:
            images: (3, H, W) each, RGB in 0..255, of any sizes.
            sizes: (height, width) of each result; None: the image's, or with sliding windows the
                canvas's.
            names: T class names; None: the test classes.

        Returns:
            (T, height, width) float per image.
        """
        names = self.sem_seg_head.test_classes if names is None else tuple(names)
        return [answer.probabilities(slice(None)) for answer in self._answers(images, sizes, names)]

    @torch.no_grad()
    def predict_labels(
        self,
        images: Sequence[Tensor],
        sizes: Sequence[tuple[int, int] | None] | None = None,
        names: Sequence[str] | None = None,
    ) -> list[Labels]:
        """The best class of every pixel; equals the arg max of :meth:`predict`.

        All classes' maps at the size of the result are never held together, which for large
        vocabularies and images is most of the memory.

        Args:
            images: As for :meth:`predict`.
            sizes: As for :meth:`predict`.
            names: As for :meth:`predict`.
        """
        names = self.sem_seg_head.test_classes if names is None else tuple(names)
        results = []
        for answer in self._answers(images, sizes, names):
            scores, labels = answer.probabilities(slice(0, _CLASS_CHUNK)).max(dim=0)
            best = Labels(labels, scores)
            for start in range(_CLASS_CHUNK, len(names), _CLASS_CHUNK):
                scores, labels = answer.probabilities(slice(start, start + _CLASS_CHUNK)).max(dim=0)
                better = scores > best.scores
                best = Labels(
                    torch.where(better, labels + start, best.labels),
                    torch.where(better, scores, best.scores),
                )
            results.append(best)
        return results

    def inputs_at_a_time(self, num_classes: int) -> int:
        """How many inputs of the network fit into the memory budget."""
        predictor = self.sem_seg_head.predictor
        grid = predictor.trunk.grid_size(*self.clip_resolution)
        # Tokens, their MLP and attention; guidance maps.
        area = grid[0] * grid[1]
        of_clip = 4 * area * (12 * predictor.trunk.width + 16 * self.upsample2.out_channels)
        each = predictor.transformer.peak_bytes(num_classes, grid) + of_clip
        return max(1, self.memory_budget // each)

    def _answers(
        self,
        images: Sequence[Tensor],
        sizes: Sequence[tuple[int, int] | None] | None,
        names: tuple[str, ...],
    ) -> Iterator[_Answer]:
        """The answers image by image, while the inputs of several run at a time."""
        sizes = [None] * len(images) if sizes is None else list(sizes)
        views = (self._view(image, size) for image, size in zip(images, sizes, strict=True))

        def network(inputs: Tensor) -> Tensor:
            # Half precision is for the network: averages of probabilities need more.
            return self.logits(inputs, names).float()

        for (view, size), logits in run_in_batches(
            views, network, self.inputs_at_a_time(len(names))
        ):
            yield _Answer(view, size, logits)

    def _view(
        self, image: Tensor, size: tuple[int, int] | None
    ) -> tuple[tuple[WholeImage | SlidingWindows, tuple[int, int]], Tensor]:
        """How an image is looked at and the size of its answer; and the network's inputs."""
        if self.windows is not None:
            cut = self.windows.cut(image.to(self.device).float())
            inputs = resize(self._normalize(cut), self.clip_resolution)
            return (self.windows, size or self.windows.canvas), inputs
        inside = (image.shape[1], image.shape[2])
        view = WholeImage(self._padded_size(*inside), inside)
        return (view, size or inside), self.prepare([image])

    def _normalize(self, images: Tensor) -> Tensor:
        return (images.to(self.device) - self.pixel_mean) / self.pixel_std

    def _padded_size(self, height: int, width: int) -> tuple[int, int]:
        multiple = max(1, self.size_divisibility)
        return math.ceil(height / multiple) * multiple, math.ceil(width / multiple) * multiple


@dataclass(frozen=True)
class _Answer:
    """The logits of one image's inputs and how they become probabilities."""

    view: WholeImage | SlidingWindows
    size: tuple[int, int]
    logits: list[Tensor]

    def probabilities(self, classes: slice) -> Tensor:
        """(T', height, width) of some classes."""
        return self.view.combine([maps[classes] for maps in self.logits], self.size)


def _pad(maps: Tensor, height: int, width: int, value: float) -> Tensor:
    return F.pad(maps, (0, width - maps.shape[-1], 0, height - maps.shape[-2]), value=value)
