"""Detection data sets whose classes come from a vocabulary with a base/novel split."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
from mmdet.datasets import CocoDataset, LVISV1Dataset
from mmdet.registry import DATASETS
from mmdet.visualization import get_palette
from mmengine.fileio import get_local_path

from detection.datasets.indices import CocoAnnotations, LvisAnnotations
from detection.datasets.loading import LoadOrientedImage
from fineclip.annotations import FileReport, announce, file_name_of, mask_of, read_boxes
from fineclip.datasets.draws import draws_of
from fineclip.images import UnusableImageError, first_usable
from fineclip.text.vocabulary import Vocabulary, as_vocabulary

LABELLED = "labelled"
"""Entry of the metainfo of samples: places of the classes that were labelled in the image."""

_BLACK = np.zeros((32, 32, 3), dtype=np.uint8)


@DATASETS.register_module()
class OpenVocabularyCocoDataset(CocoDataset):
    """COCO-format boxes and masks with the classes, order and split of a vocabulary.

    The label of a box is the position of its class in the vocabulary, whatever the order of the
    file (stock ``CocoDataset`` numbers by the file). Classes are found in the file by name. The
    file may list fewer classes than the vocabulary, as training files of base classes do.

    ``metainfo`` holds ``classes`` (K names in label order), ``base_classes`` and
    ``novel_classes`` (names; both empty if the vocabulary has no split) and ``palette``.

    Args:
        ann_file: Annotation file, below ``data_root`` unless absolute.
        data_root: Root of the data set.
        data_prefix: ``img``: folder of the images below ``data_root``.
        vocabulary: Anything :func:`fineclip.text.vocabulary.as_vocabulary` takes: ``"ov_coco"``,
            ``"coco"``, ``"objects365v1"``, ``"scenes_things"``, a JSON file, a list of names.
            None: the categories of the annotation file in ascending order of ids.
        base_only: Leave out boxes of novel classes, for training with files that hold them.
        labelled: Names of the classes that were labelled in these images: what a detector knows
            elsewhere may be in them all the same (:class:`detection.models.FViTBBoxHead`). None:
            all that training sees.
        seed: Of the augmentation. With :class:`fineclip.datasets.EpochSampler` it depends on this,
            epoch and image alone, so that a resumed run repeats it.
        metainfo: Overrides of the entries above.
        **kwargs: As for ``CocoDataset``.

    Raises:
        FileNotFoundError: The annotation or vocabulary file does not exist.
        ValueError: A malformed file; a vocabulary that names a class twice, that lacks an
            annotated class, or that shares no class with the file; no box (or mask) to train on.
    """

    METAINFO: ClassVar[dict[str, Any]] = {}
    COCOAPI = CocoAnnotations

    def __init__(
        self,
        *,
        ann_file: str,
        data_root: str = "",
        data_prefix: Mapping[str, str] | None = None,
        vocabulary: str | Path | Vocabulary | Mapping[str, Any] | Sequence[Any] | None = None,
        base_only: bool = False,
        labelled: Sequence[str] | None = None,
        seed: int | None = None,
        metainfo: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        if vocabulary is None:
            # mmengine joins the two as well, but too late for the class list.
            self.vocabulary = _vocabulary_of(Path(data_root or "") / ann_file)
        else:
            self.vocabulary = as_vocabulary(vocabulary)
        self.base_only = base_only
        self._labelled = None if labelled is None else self._places_of(labelled)
        self.seed = seed or 0
        super().__init__(
            ann_file=ann_file,
            data_root=data_root,
            data_prefix=dict(data_prefix or {"img": ""}),
            metainfo={**metainfo_of(self.vocabulary), **(metainfo or {})},
            **kwargs,
        )

    @property
    def loads_masks(self) -> bool:
        """Whether samples hold masks."""
        return any(getattr(step, "with_mask", False) for step in self.pipeline.transforms)

    def _places_of(self, names: Sequence[str]) -> tuple[int, ...]:
        known = self.vocabulary.names
        if unknown := [name for name in names if name not in known]:
            raise ValueError(f"labelled: {unknown[0]!r} is no class of {self.vocabulary.name!r}")
        return tuple(known.index(name) for name in names)

    def load_data_list(self) -> list[dict[str, Any]]:
        """Reads the annotation file.

        Returns:
            One dict per image, in the order of the file, as ``CocoDataset`` makes them.

        Raises:
            FileNotFoundError: There is no such file.
            ValueError: See the class.
        """
        with get_local_path(self.ann_file, backend_args=self.backend_args) as path:
            annotations = self.COCOAPI(path)
        left_out = {category.name for category in self.vocabulary.unused}
        if self.base_only:
            left_out |= set(self.metainfo["novel_classes"])
        # By id, for parse_data_info and for filter_data.
        self.cat2label = match_categories(
            annotations.dataset["categories"],
            annotations.cat_img_map,
            self.metainfo["classes"],
            left_out,
            f"{self.ann_file}: vocabulary {self.vocabulary.name!r}",
        )
        self.cat_ids = list(self.cat2label)
        self.cat_img_map = {key: list(annotations.cat_img_map[key]) for key in self.cat_ids}
        data_list = [
            self.parse_data_info(
                {
                    "raw_img_info": {**image, "img_id": image_id},
                    "raw_ann_info": annotations.img_ann_map[image_id],
                }
            )
            for image_id, image in annotations.imgs.items()
        ]
        used = [a for a in annotations.anns.values() if a["category_id"] in self.cat2label]
        if not self.test_mode:
            self._check_training(used, annotations.report)
        announce(annotations.report)
        return data_list

    def parse_data_info(self, raw_data_info: dict[str, Any]) -> dict[str, Any]:
        """Makes the entry of one image as ``CocoDataset`` does.

        Args:
            raw_data_info: ``raw_img_info`` and ``raw_ann_info`` as the file has them.

        Returns:
            The entry. If samples hold masks, a box without one has an empty one: it is a box to
            train on, and :class:`detection.models.FViTRoIHead` takes no mask target from it.
        """
        info = super().parse_data_info(raw_data_info)
        if self.loads_masks:
            height, width = info["height"], info["width"]
            for instance in info["instances"]:
                nothing = {"size": [height, width], "counts": [height * width]}
                instance.setdefault("mask", nothing)
        return info

    def filter_data(self) -> list[dict[str, Any]]:
        """Leaves out images as ``filter_cfg`` says.

        Raises:
            ValueError: None is left to train on.
        """
        kept = super().filter_data()
        if not (self.test_mode or kept):
            raise ValueError(f"{self.ann_file}: filter_cfg leaves no image to train on")
        return kept

    def _check_training(self, annotations: Sequence[Mapping[str, Any]], report: FileReport) -> None:
        """Counts what ``CocoDataset`` leaves out without a word; refuses to train on nothing."""
        usable = []
        for annotation in annotations:
            if annotation.get("ignore"):
                report.add("dropped", "boxes marked 'ignore'")
            elif min(annotation["bbox"][2:]) < 1:
                report.add("dropped", "boxes with a side below one pixel", f"{annotation['bbox']}")
            else:
                usable.append(annotation)
        if not usable:
            raise ValueError(f"{self.ann_file}: there is no box to train on")
        if self.loads_masks:
            without = sum(mask_of(annotation) is None for annotation in usable)
            if without == len(usable):
                raise ValueError(
                    f"{self.ann_file}: none of its {without} boxes has a mask to train on; "
                    "with_mask=False trains on boxes alone"
                )
            if without:
                report.add("noted", "boxes that train no mask, as they have none", count=without)

    def __getitem__(self, idx: int | tuple[int, int]) -> Any:
        """Runs the pipeline on one image.

        In training, another image takes the place of one that cannot be used, as for one that
        augmentation left without boxes. In evaluation, which must not count one image twice, a
        black one without boxes does, which the metrics leave out. Either has ``skipped`` in its
        metainfo: (file, reason) of each image that it stands in for.

        Args:
            idx: Its place in the data set, or epoch and place: the augmentation is then drawn from
                the seed and these.

        Raises:
            UnusableImageError: So many images in a row cannot be used that hardly any can.
        """
        if isinstance(idx, tuple):
            with draws_of(self.seed, *idx):
                return self[idx[1]]
        load = super().__getitem__
        if self.test_mode:
            try:
                return load(idx)
            except UnusableImageError as error:
                data, skipped = self._without_image(idx), [(error.file, error.reason)]
        else:
            data, skipped = first_usable(load, idx, self._rand_another)
        if skipped:
            data["data_samples"].set_metainfo({"skipped": skipped})
        if self._labelled is not None:
            data["data_samples"].set_metainfo({LABELLED: self._labelled})
        return data

    def _without_image(self, idx: int) -> Any:
        """What the pipeline makes of a small black image without boxes in place of this one."""
        height, width = _BLACK.shape[:2]
        data: Any = {
            **self.get_data_info(idx),
            "img": _BLACK.copy(),
            "img_shape": (height, width),
            "ori_shape": (height, width),
            "height": height,
            "width": width,
            "instances": [],
        }
        for transform in self.pipeline.transforms:
            if not isinstance(transform, LoadOrientedImage):
                data = transform(data)
        return data


@DATASETS.register_module()
class OpenVocabularyLVISDataset(OpenVocabularyCocoDataset, LVISV1Dataset):
    """LVIS v1 boxes and masks; file names are the last two parts of an image's address.

    As :class:`OpenVocabularyCocoDataset`; ``"lvis_v1"`` is the vocabulary with the rare classes
    for novel.

    Raises:
        FileNotFoundError: See there.
        ValueError: See there.
    """

    COCOAPI = LvisAnnotations

    def parse_data_info(self, raw_data_info: dict[str, Any]) -> dict[str, Any]:
        """Makes the entry of one image.

        Args:
            raw_data_info: ``raw_img_info`` and ``raw_ann_info`` as the file has them.

        Returns:
            The entry; its path is ``<data_prefix>/train2017/000000391895.jpg`` for an address
            that ends so.
        """
        image = raw_data_info["raw_img_info"]
        file_name = file_name_of({"coco_url": image["coco_url"]})
        return super().parse_data_info(
            {**raw_data_info, "raw_img_info": {**image, "file_name": file_name}}
        )


def _vocabulary_of(path: Path) -> Vocabulary:
    """The categories of an annotation file."""
    data, _ = read_boxes(path, boxes=False)
    return Vocabulary.from_coco(data, path)


def metainfo_of(vocabulary: Vocabulary) -> dict[str, Any]:
    """What a data set of a vocabulary tells detector, metric and visualizer.

    Args:
        vocabulary: The vocabulary.

    Returns:
        ``classes``, ``base_classes``, ``novel_classes`` and ``palette``.

    Raises:
        ValueError: A name given twice; detections are exchanged by name.
    """
    names = vocabulary.names
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise ValueError(f"vocabulary {vocabulary.name!r}: several classes are called {twice[0]!r}")
    return {
        "classes": names,
        "base_classes": tuple(names[i] for i in vocabulary.indices("base")),
        "novel_classes": tuple(names[i] for i in vocabulary.indices("novel")),
        "palette": [tuple(map(int, color)) for color in get_palette("random", len(names))],
    }


def match_categories(
    categories: Sequence[Mapping[str, Any]],
    images_by_category: Mapping[int, Sequence[int]],
    classes: Sequence[str],
    left_out: set[str],
    where: str,
) -> dict[int, int]:
    """Finds the classes of a vocabulary in an annotation file.

    Args:
        categories: Category entries of the file.
        images_by_category: Images that each category id has annotations in.
        classes: Class names in label order.
        left_out: Names whose annotations are left out on purpose.
        where: File and vocabulary, for messages.

    Returns:
        Label by category id, in label order, without the classes left out.

    Raises:
        ValueError: No class is in the file, or an annotated one is neither a class nor left out.
    """
    label_of = {name: label for label, name in enumerate(classes) if name not in left_out}
    missing = [
        c["name"]
        for c in categories
        if c["name"] not in label_of
        and c["name"] not in left_out
        and images_by_category.get(c["id"])
    ]
    if missing:
        shown = ", ".join(map(repr, missing[:5])) + (", ..." if len(missing) > 5 else "")
        raise ValueError(
            f"{where} lacks {len(missing)} annotated categories ({shown}); add them to its "
            "'categories', or to 'unused_categories' if their boxes are to be left out"
        )
    found = {label_of[c["name"]]: c["id"] for c in categories if c["name"] in label_of}
    if not found:
        raise ValueError(
            f"{where} shares no class with the file, which has {categories[0]['name']!r} and "
            f"{len(categories) - 1} more; is it the right vocabulary?"
        )
    return {found[label]: label for label in sorted(found)}
