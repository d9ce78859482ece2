"""Renders one scene and describes it in the file formats of real data sets.

Ids depend on the scene alone, never on how many scenes are made: image id = index + 1; the j-th
annotation or segment of an image has the id ``10 * image_id + j``, j counting objects from 0
(back to front), then surfaces; captions count the same way in their own file. A thing's panoptic
segment id is its annotation id.
"""

from __future__ import annotations

from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from PIL import Image
from pycocotools import mask as mask_utils

from fineclip.scenes.captioner import CaptionerRates, captioner_captions
from fineclip.scenes.categories import STUFF_CATEGORIES, THING_CATEGORIES
from fineclip.scenes.language import scene_captions
from fineclip.scenes.render import render_scene
from fineclip.scenes.twins import SceneDifference
from fineclip.scenes.world import Scene

MAX_IMAGES = 1_000_000
"""Most images per split: ten ids per image must fit the 24 bits of a panoptic PNG."""

_IDS_PER_IMAGE = 10
_LICENSES = [{"id": 1, "name": "Apache License 2.0", "url": ""}]
_STUFF_COLORS = (
    *((122, 122, 126), (218, 220, 220), (206, 188, 164)),
    *((132, 92, 58), (196, 166, 112), (62, 60, 66)),
)


class SceneRecord(NamedTuple):
    """Everything that the files say about one scene.

    Attributes:
        image: COCO image entry.
        annotations: COCO instance annotations.
        region_captions: Captions of the regions, things and surfaces, by segment id.
        region_errors: What a captioner has done to them, see `CaptionerRates`: the errors of one
            caption after those of another.
        difference: In what the scene differs from its twin, a kind of `SceneDifference`; None
            without a twin.
        captions: COCO caption annotations.
        panoptic: COCO panoptic annotation of the image.
        jpeg: Encoded image.
        panoptic_png: Encoded RGB map of segment ids (id = R + 256 G + 65536 B).
        semantic_png: Encoded 8-bit map of class indices.
    """

    image: dict[str, Any]
    annotations: list[dict[str, Any]]
    region_captions: dict[str, str]
    region_errors: tuple[str, ...]
    difference: str | None
    captions: list[dict[str, Any]]
    panoptic: dict[str, Any]
    jpeg: bytes
    panoptic_png: bytes
    semantic_png: bytes


def _encode(image: np.ndarray, **options: Any) -> bytes:
    buffer = BytesIO()
    Image.fromarray(image).save(buffer, **options)
    return buffer.getvalue()


def export_scene(
    scene: Scene,
    size: int,
    *,
    captioner: CaptionerRates | None = None,
    difference: SceneDifference | None = None,
) -> SceneRecord:
    """Renders a scene and describes it.

    Args:
        scene: The scene.
        size: Side of the image in pixels.
        captioner: Who describes the regions; None: true descriptions.
        difference: In what the scene differs from its twin; every caption of the image states it.

    Returns:
        The record. Boxes are xywh in pixels, tight around the visible mask.
    """
    image, segments = render_scene(scene, size)
    image_id = scene.index + 1
    stem = f"{image_id:012d}"

    numbers = np.arange(len(scene.segments))
    masks = np.asfortranarray(segments[..., None] == numbers, dtype=np.uint8)  # (S, S, segments)
    rles = mask_utils.encode(masks)
    areas = mask_utils.area(rles).tolist()
    boxes = mask_utils.toBbox(rles).tolist()
    described = captioner_captions(scene, captioner or CaptionerRates.from_options(None))

    annotations, segments_info = [], []
    texts: dict[str, str] = {}
    errors: list[str] = []
    for number, category in enumerate(scene.segments):
        if areas[number] == 0:
            continue
        segment = {
            "id": _IDS_PER_IMAGE * image_id + number,
            "category_id": category.id,
            "bbox": [int(v) for v in boxes[number]],
            "area": int(areas[number]),
            "iscrowd": 0,
        }
        segments_info.append(segment)
        texts[str(segment["id"])] = described[number].text
        errors += described[number].errors
        if number < len(scene.objects):
            rle = rles[number]
            annotations.append(
                {
                    **segment,
                    "image_id": image_id,
                    "segmentation": {"size": rle["size"], "counts": rle["counts"].decode("ascii")},
                }
            )

    segment_ids = (_IDS_PER_IMAGE * image_id + numbers)[segments]
    panoptic = np.stack([segment_ids >> shift & 255 for shift in (0, 8, 16)], axis=-1)
    semantic = np.array([category.id - 1 for category in scene.segments])[segments]
    return SceneRecord(
        image={
            "id": image_id,
            "file_name": f"{stem}.jpg",
            "width": size,
            "height": size,
            "license": 1,
        },
        annotations=annotations,
        region_captions=texts,
        region_errors=tuple(errors),
        difference=difference.kind if difference else None,
        captions=[
            {"id": _IDS_PER_IMAGE * image_id + i, "image_id": image_id, "caption": caption.text}
            for i, caption in enumerate(scene_captions(scene, difference=difference))
        ],
        panoptic={
            "image_id": image_id,
            "file_name": f"{stem}.png",
            "segments_info": segments_info,
        },
        jpeg=_encode(image, format="JPEG", quality=95, subsampling=0),
        panoptic_png=_encode(panoptic.astype(np.uint8), format="PNG"),
        semantic_png=_encode(semantic.astype(np.uint8), format="PNG"),
    )


def _info(split: str) -> dict[str, str]:
    return {"description": f"FineCLIP scenes, {split} split", "version": "1"}


def _thing_categories() -> list[dict[str, Any]]:
    return [
        {"id": c.id, "name": c.name, "supercategory": c.shape, "split": c.split}
        for c in THING_CATEGORIES
    ]


def _instances(
    split: str, images: list[dict[str, Any]], annotations: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "info": _info(split),
        "licenses": _LICENSES,
        "images": images,
        "annotations": annotations,
        "categories": _thing_categories(),
    }


def _panoptic_categories() -> list[dict[str, Any]]:
    things = [
        {**category, "isthing": 1, "color": _display_color(index)}
        for index, category in enumerate(_thing_categories())
    ]
    stuff = [
        {
            "id": c.id,
            "name": c.name,
            "supercategory": c.kind,
            "split": "base",
            "isthing": 0,
            "color": list(_STUFF_COLORS[index]),
        }
        for index, c in enumerate(STUFF_CATEGORIES)
    ]
    return things + stuff


def _display_color(index: int) -> list[int]:
    """Distinct colours for drawing panoptic results; not the colour of the thing."""
    return [(37 * index + 20) % 256, (101 * index + 90) % 256, (173 * index + 160) % 256]


def _lvis(
    split: str, images: list[dict[str, Any]], annotations: list[dict[str, Any]]
) -> dict[str, Any]:
    present: dict[int, set[int]] = {image["id"]: set() for image in images}
    for annotation in annotations:
        present[annotation["image_id"]].add(annotation["category_id"])
    image_counts = {c.id: sum(c.id in p for p in present.values()) for c in THING_CATEGORIES}
    instance_counts = dict.fromkeys(image_counts, 0)
    for annotation in annotations:
        instance_counts[annotation["category_id"]] += 1
    return {
        "info": _info(split),
        "licenses": _LICENSES,
        "images": [
            {
                "id": image["id"],
                "width": image["width"],
                "height": image["height"],
                "license": 1,
                # LVIS has no file_name: readers take the last two parts of the address.
                "coco_url": f"{split}/{image['file_name']}",
                # Scenes are labelled completely, so whatever is absent is known to be absent.
                "neg_category_ids": [
                    c.id for c in THING_CATEGORIES if c.id not in present[image["id"]]
                ],
                "not_exhaustive_category_ids": [],
            }
            for image in images
        ],
        "annotations": [
            {key: value for key, value in annotation.items() if key != "iscrowd"}
            for annotation in annotations
        ],
        "categories": [
            {
                "id": c.id,
                "name": c.name,
                "synset": f"{c.name.replace(' ', '_')}.n.01",
                "synonyms": [c.name],
                "def": f"a {c.shape} of {c.color} colour",
                "frequency": c.frequency,
                "image_count": image_counts[c.id],
                "instance_count": instance_counts[c.id],
            }
            for c in THING_CATEGORIES
        ],
    }


def annotation_files(split: str, records: list[SceneRecord]) -> dict[str, Any]:
    """The annotation files of one split.

    Args:
        split: Name of the split.
        records: Its scenes in order of their index (encoded images are not read).

    Returns:
        File name -> content to be written as JSON.
    """
    images = [r.image for r in records]
    annotations = [a for r in records for a in r.annotations]
    regions = [(r, segment) for r in records for segment in r.panoptic["segments_info"]]
    base_ids = {c.id for c in THING_CATEGORIES if c.split == "base"}
    base = [a for a in annotations if a["category_id"] in base_ids]
    with_base = {a["image_id"] for a in base}
    return {
        f"instances_{split}.json": _instances(split, images, annotations),
        f"instances_{split}_base.json": _instances(
            split, [image for image in images if image["id"] in with_base], base
        ),
        # What a proposer would give: every region, things and surfaces, without a category.
        f"proposals_{split}.json": {
            "info": _info(split),
            "licenses": _LICENSES,
            "images": images,
            "annotations": [
                {
                    "image_id": record.image["id"],
                    **{key: segment[key] for key in ("id", "bbox", "area", "iscrowd")},
                }
                for record, segment in regions
            ],
        },
        f"captions_{split}.json": {
            "info": _info(split),
            "licenses": _LICENSES,
            "images": images,
            "annotations": [c for r in records for c in r.captions],
        },
        f"region_captions_{split}.json": {
            number: text for record in records for number, text in record.region_captions.items()
        },
        f"panoptic_{split}.json": {
            "info": _info(split),
            "licenses": _LICENSES,
            "images": images,
            "annotations": [r.panoptic for r in records],
            "categories": _panoptic_categories(),
        },
        f"lvis_{split}.json": _lvis(split, images, annotations),
    }


_SPLIT_DESCRIPTION = """\
{split}:
  images: {split}
  annotations: annotations/instances_{split}.json
  masks: annotations/semantic_{split}
  captions: annotations/captions_{split}.json
  region_captions: annotations/region_captions_{split}.json
"""


def split_description(split: str) -> str:
    """Where the files of a split are, as a ``data.yaml`` beside them says it."""
    return _SPLIT_DESCRIPTION.format(split=split)


def description() -> str:
    """The scenes as a ``data.yaml``: things, a third of them novel, and surfaces."""
    names = [*(c.name for c in THING_CATEGORIES), *(c.name for c in STUFF_CATEGORIES)]
    classes = [f"  - {name}\n" for name in names]
    novel = [f"  - {c.name}\n" for c in THING_CATEGORIES if c.split == "novel"]
    splits = [split_description(split) for split in ("train", "val")]
    return "".join(("name: scenes\nclasses:\n", *classes, "novel:\n", *novel, *splits))


def vocabulary() -> dict[str, Any]:
    """All 42 categories as a vocabulary file; position = class index of the semantic maps."""
    return {
        "name": "scenes",
        "source": "FineCLIP's built-in synthetic world (fineclip.scenes)",
        "notes": [
            "id = id in the annotation files; class index in the semantic maps = id - 1",
            "novel things appear in images and captions, never in instances_*_base.json; "
            "all stuff is base",
        ],
        "categories": [
            {
                "id": c["id"],
                "name": c["name"],
                "split": c["split"],
                "isthing": c["isthing"],
            }
            for c in _panoptic_categories()
        ],
    }
