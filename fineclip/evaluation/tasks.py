"""The zero-shot tasks by name: which files each needs, its data set and its metric."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from functools import cached_property, partial
from pathlib import Path

from mmengine.evaluator import BaseMetric
from torch.utils.data import Dataset

from fineclip.datasets.coco_layout import EvaluationFiles, find_files, use_annotations
from fineclip.datasets.description import DataDescription, SplitFiles
from fineclip.datasets.evaluation import box_regions, image_captions
from fineclip.datasets.image_folder import ImageFolderDataset, draw_shots, find_image_folder
from fineclip.datasets.segmentation import (
    LabelledImages,
    SegmentationDataset,
    find_benchmark,
    find_label_maps,
)
from fineclip.datasets.transforms import ImageTransform
from fineclip.datasets.views import WholeView, WindowViews
from fineclip.evaluation.box_classification import BoxClassificationMetric
from fineclip.evaluation.classification import ClassificationMetric, FewShotMetric
from fineclip.evaluation.prediction import GuideFeatures, Step, predictor, view_predictor
from fineclip.evaluation.retrieval import RetrievalMetric
from fineclip.evaluation.segmentation import SegmentationMetric
from fineclip.models import DenseCLIP
from fineclip.text.vocabulary import Vocabulary, as_vocabulary

_DENSE_TASKS = ("segmentation", "box_classification", "mask_classification")

_READERS = {
    **dict.fromkeys(("dense_map", "guide"), _DENSE_TASKS),
    **dict.fromkeys(("benchmark", "label_root", "ignore_label"), ("segmentation",)),
    **dict.fromkeys(("background_threshold", "sliding_windows"), ("segmentation",)),
    "class_map": ("classification", "few_shot"),
    **dict.fromkeys(("train_split", "shots", "seeds"), ("few_shot",)),
}
"""Tasks that read an option; those that are not here are read by all."""


_DESCRIBED = {
    "box_classification": "annotations",
    "mask_classification": "annotations",
    "segmentation": "masks",
    "retrieval": "captions",
}
"""What each task needs of a description."""


def described_tasks(described: DataDescription, split: str | None = None) -> tuple[str, ...]:
    """Tasks that a described data set has the files for.

    Args:
        described: The description.
        split: Which part; None: the one to evaluate on.

    Raises:
        ValueError: There is no such part, or it has images alone.
    """
    files = described.require(split or described.evaluation_split)
    kinds = {"box_classification": "annotations", "segmentation": "masks", "retrieval": "captions"}
    found = tuple(task for task, kind in kinds.items() if getattr(files, kind) is not None)
    if not found:
        raise ValueError(
            f"{described.file}: {split or described.evaluation_split} has images alone: it needs "
            f"{', '.join(kinds.values())} or some of them to be evaluated on"
        )
    return found


@dataclass(frozen=True)
class TaskOptions:
    """What a user says of the data and the protocol; each task reads what concerns it.

    Args:
        data_root: Folder of the data set, or of data sets (``benchmark``).
        described: A description of the data set, which says where its files are and which classes
            it has; None: they are looked for in ``data_root``.
        split: Which part; None: the validation part.
        annotations: Annotation files in place of those found.
        templates: Prompts.
        vocabulary: Candidate classes; None: those of the annotations or folders.
        dense_map: What regions are pooled from and pixels labelled by, one of
            :data:`fineclip.models.dense_maps.DENSE_MAPS`.
        guide: A second model for the dense map that needs one.
        benchmark: Segmentation data set below ``data_root``, one of
            :data:`fineclip.datasets.segmentation.SEGMENTATION_SETS`.
        label_root: Folder of label maps, in place of ``annotations/semantic_<split>``.
        ignore_label: Value of pixels of such label maps that do not count.
        background_threshold: See :class:`SegmentationMetric`.
        sliding_windows: Shorter side in pixels of images that are segmented through windows of
            the model's input size; None: the whole image is the input.
        class_map: Names of class folders, see :func:`fineclip.datasets.image_folder
            .read_class_map`.
        train_split: Where the shots of ``few_shot`` are drawn from.
        shots: Numbers of training images per class.
        seeds: Number of draws.
    """

    data_root: Path
    described: DataDescription | None = None
    split: str | None = None
    annotations: Sequence[Path] = ()
    templates: str | Sequence[str] = "vild"
    vocabulary: str | Vocabulary | Sequence[str] | None = None
    dense_map: str = "value"
    guide: GuideFeatures | None = None
    benchmark: str | None = None
    label_root: Path | None = None
    ignore_label: int = 255
    background_threshold: float | None = None
    sliding_windows: int | None = None
    class_map: Path | None = None
    train_split: str = "train"
    shots: Sequence[int] = (1, 5, 10, 25)
    seeds: int = 3

    @cached_property
    def coco_files(self) -> EvaluationFiles:
        """The files of the COCO-format folder, or of the description."""
        if self.described is None:
            found = find_files(self.data_root, self.split)
        else:
            files = self.described_files
            found = EvaluationFiles(
                files.images, instances=files.annotations, captions=files.captions
            )
        return use_annotations(found, self.annotations)

    @cached_property
    def described_files(self) -> SplitFiles:
        """The files of the split in the description."""
        assert self.described is not None  # it was looked at before
        return self.described.require(self.split or self.described.evaluation_split)

    @cached_property
    def candidates(self) -> Vocabulary | None:
        """The vocabulary, if one was named or the data set describes its own."""
        if self.vocabulary is not None:
            return as_vocabulary(self.vocabulary)
        return None if self.described is None else self.described.vocabulary

    def check(self, tasks: Sequence[str]) -> None:
        """Refuses an option that none of some tasks reads, and a task without its files.

        Raises:
            ValueError: It names the option and the tasks that do, or what the description lacks.
            FileNotFoundError: A described file does not exist.
        """
        if self.described is not None:
            split = self.split or self.described.evaluation_split
            for task in tasks:
                if task not in _DESCRIBED:
                    raise ValueError(
                        f"--data: {task} needs a folder per class; name the folder of these with "
                        "--data-root"
                    )
                if not (self.annotations or self.label_root):
                    self.described.require(split, _DESCRIBED[task])
        for option in fields(self):
            readers = _READERS.get(option.name, tasks)
            if getattr(self, option.name) != option.default and not set(readers) & set(tasks):
                raise ValueError(
                    f"--{option.name.replace('_', '-')} is for --tasks {' or '.join(readers)}, "
                    f"not for {' and '.join(tasks)}"
                )


@dataclass(frozen=True)
class Task:
    """What :func:`fineclip.evaluation.runner.evaluate` needs for one task.

    Args:
        dataset: Items for ``collate_evaluation``.
        metric: Its metric.
        source: The annotation file, or the folder, that is evaluated.
        make_step: Makes what embeds a batch.
    """

    dataset: Dataset
    metric: BaseMetric
    source: Path | None
    make_step: Callable[[DenseCLIP], Step] = predictor


def _box_classification(
    options: TaskOptions, clip: DenseCLIP, transform: ImageTransform, region: str
) -> Task:
    """Panoptic annotations and, where there are none, instances."""
    files = options.coco_files
    regions = box_regions(
        files=files,
        transform=transform,
        vocabulary=options.candidates,
        mask_grid=None if region == "box" else clip.trunk.grid_size(transform.size, transform.size),
    )
    return Task(
        regions,
        BoxClassificationMetric(templates=options.templates, region=region),
        files.panoptic or files.instances,
        partial(predictor, dense_map=options.dense_map, guide=options.guide),
    )


def _retrieval(options: TaskOptions, clip: DenseCLIP, transform: ImageTransform) -> Task:
    files = options.coco_files
    captions = image_captions(files=files, transform=transform, tokenizer=clip.tokenizer)
    return Task(captions, RetrievalMetric(), files.captions)


def _segmentation(options: TaskOptions, clip: DenseCLIP, transform: ImageTransform) -> Task:
    files = _labelled_images(options)
    cut = (
        WholeView(transform)
        if options.sliding_windows is None
        else WindowViews(options.sliding_windows, transform.size)
    )
    metric = SegmentationMetric(
        files, options.templates, background_threshold=options.background_threshold
    )
    return Task(
        SegmentationDataset(files, cut),
        metric,
        files.pairs[0][1].parent,
        partial(view_predictor, dense_map=options.dense_map, guide=options.guide),
    )


def _labelled_images(options: TaskOptions) -> LabelledImages:
    if options.benchmark is not None:
        if options.candidates is not None or options.label_root is not None:
            raise ValueError(
                f"segmentation: {options.benchmark} has its own classes and label maps: leave out "
                "--vocabulary and --label-root, or --benchmark"
            )
        return find_benchmark(options.benchmark, options.data_root)
    images = options.coco_files.image_root
    labels = options.label_root or options.data_root / "annotations" / f"semantic_{images.name}"
    ignore_label = options.ignore_label
    if options.described is not None:
        labels = options.label_root or options.described_files.masks or labels
        ignore_label = options.described.ignore_label
    if options.candidates is None:
        raise ValueError(
            f"segmentation: name the classes that the label maps of {labels} count by place "
            "(--vocabulary), or a known data set (--benchmark)"
        )
    return find_label_maps(images, labels, options.candidates, ignore_label)


def _classification(options: TaskOptions, clip: DenseCLIP, transform: ImageTransform) -> Task:
    folder = find_image_folder(
        options.data_root,
        options.split,
        class_map=options.class_map,
        vocabulary=options.candidates,
    )
    images = ImageFolderDataset(folder.files, folder.vocabulary, transform.size)
    return Task(images, ClassificationMetric(folder.vocabulary, options.templates), folder.root)


def _few_shot(options: TaskOptions, clip: DenseCLIP, transform: ImageTransform) -> Task:
    train = find_image_folder(
        options.data_root,
        options.train_split,
        class_map=options.class_map,
        vocabulary=options.candidates,
    )
    test = find_image_folder(options.data_root, options.split, like=train)
    draws = [draw_shots(train, max(options.shots), seed) for seed in range(options.seeds)]
    wanted = {file for draw in draws for own in draw.train for file in own}
    wanted |= {file for draw in draws for file, _ in draw.held_out}
    files = [*test.files, *((path, label) for path, label in train.files if str(path) in wanted)]
    metric = FewShotMetric(
        {str(path): label for path, label in test.files},
        draws,
        options.shots,
        len(train.vocabulary),
    )
    return Task(ImageFolderDataset(files, train.vocabulary, transform.size), metric, test.root)


_BUILDERS: dict[str, Callable[[TaskOptions, DenseCLIP, ImageTransform], Task]] = {
    "box_classification": partial(_box_classification, region="box"),
    "retrieval": _retrieval,
    "segmentation": _segmentation,
    "classification": _classification,
    "few_shot": _few_shot,
    "mask_classification": partial(_box_classification, region="mask"),
}

TASKS = tuple(_BUILDERS)

COCO_TASKS = {"box_classification", "retrieval", "mask_classification"}
"""Those that read a folder of COCO's layout."""

DEFAULT_TASKS = ("box_classification", "retrieval")


def build_task(name: str, options: TaskOptions, clip: DenseCLIP, transform: ImageTransform) -> Task:
    """Builds a task on the files of a split.

    Args:
        name: One of :data:`TASKS`.
        options: The data and the protocol.
        clip: The model; its tokenizer and its grid are used.
        transform: Geometry of the network input.

    Returns:
        The task.

    Raises:
        ValueError: Unknown task, templates or vocabulary, or malformed files.
        FileNotFoundError: The files that the task needs are missing.
    """
    if name not in _BUILDERS:
        raise ValueError(f"unknown task {name!r}: expected one of {', '.join(TASKS)}")
    return _BUILDERS[name](options, clip, transform)
