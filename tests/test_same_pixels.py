"""Same file, same pixels, same boxes: through every door by which images come in."""

import json

import numpy as np
import pytest
import torch
from image_files import BOX, HEIGHT, ORIENTED, WIDTH, other_files, write_lossy, write_oriented
from PIL import Image
from region_text import region_text_dataset

from fineclip.command_line.images import readable_images
from fineclip.datasets.panoptic_regions import InstanceRegionDataset
from fineclip.datasets.retrieval import RetrievalDataset
from fineclip.datasets.shard_writer import make_shards
from fineclip.images import read_image

TRANSFORM = {"size": WIDTH, "resize": "pad"}  # the longer side as it is, black below
XYXY = [BOX[0], BOX[1], BOX[0] + BOX[2], BOX[1] + BOX[3]]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """All kinds in all orientations, as a data set with a box and its mask."""
    folder = tmp_path_factory.mktemp("kinds")
    paths = [write_oriented(folder, kind, o)[0] for kind in ORIENTED for o in range(1, 9)]
    paths += [write_lossy(folder, mode, o)[0] for mode in ("RGB", "CMYK") for o in range(1, 9)]
    paths += [path for _, path, _ in other_files(folder)]
    left, top, right, bottom = XYXY
    data = {"categories": [{"id": 1, "name": "box"}], "images": [], "annotations": []}
    captions = {"images": data["images"], "annotations": []}
    for number, path in enumerate(paths, 1):
        data["images"].append(
            {"id": number, "file_name": path.name, "width": WIDTH, "height": HEIGHT}
        )
        data["annotations"].append(
            {
                "id": number,
                "image_id": number,
                "category_id": 1,
                "bbox": list(BOX),
                "area": BOX[2] * BOX[3],
                "iscrowd": 0,
                "segmentation": [[left, top, right, top, right, bottom, left, bottom]],
            }
        )
        captions["annotations"].append({"id": number, "image_id": number, "caption": "a box"})
    (folder / "boxes.json").write_text(json.dumps(data))
    (folder / "captions.json").write_text(json.dumps(captions))
    return folder, paths


@pytest.fixture(scope="module")
def expected(files):
    """(H, W, 3) uint8 by file, which tests of the reader compare with what was drawn."""
    return {path: np.asarray(read_image(path)) for path in files[1]}


def check(found, expected, paths):
    for path, pixels in zip(paths, found, strict=True):
        assert np.array_equal(pixels, expected[path]), path.name


def top_of(tensor):
    """(..., 3, S, S) of TRANSFORM -> (H, W, 3)."""
    assert not tensor.reshape(3, WIDTH, WIDTH)[:, HEIGHT:].any()
    return tensor.reshape(3, WIDTH, WIDTH)[:, :HEIGHT].permute(1, 2, 0).numpy()


def tokens(texts):
    return torch.zeros(len(texts), 4, dtype=torch.int64)


@pytest.mark.parametrize("backend", ["pil", "tensor"])
@pytest.mark.parametrize("source", ["files", "shards"])
def test_pretraining(files, expected, tmp_path, source, backend):
    folder, paths = files
    where = {"image_root": folder, "annotations": folder / "boxes.json"}
    where["captions"] = folder / "captions.json"
    if source == "shards":
        make_shards(tmp_path / "shards", **where)
        where = {"folder": tmp_path / "shards"}
    dataset = region_text_dataset(
        **where, transform=TRANSFORM, backend=backend, tokenizer=tokens, min_area=1, max_boxes=1
    )
    samples = [dataset[index] for index in range(len(dataset))]
    check([top_of(sample["images"]) for sample in samples], expected, paths)
    for sample in samples:
        assert (sample["boxes"] * WIDTH).round(decimals=3).tolist() == [XYXY]


def test_evaluation(files, expected):
    folder, paths = files
    options = {"image_root": folder, "transform": TRANSFORM}
    retrieval = RetrievalDataset(folder / "captions.json", tokenizer=tokens, **options)
    check([top_of(item["image"]) for item in retrieval], expected, paths)
    boxes = InstanceRegionDataset(folder / "boxes.json", **options)
    items = [boxes[index] for index in range(len(boxes))]
    check([top_of(item["image"]) for item in items], expected, paths)
    assert all((item["boxes"] * WIDTH).round(decimals=3).tolist() == [XYXY] for item in items)


def test_commands(files, expected):
    unusable = []
    found = [np.asarray(image) for _, _, image in readable_images(files[1], unusable)]
    check(found, expected, files[1])
    assert not unusable


def test_detection(files, expected):
    pytest.importorskip("mmdet")
    from mmcv.transforms import Compose
    from mmengine.registry import DefaultScope

    from detection.datasets import OpenVocabularyCocoDataset

    folder, paths = files
    steps = [
        {"type": "LoadImageFromFile"},
        {"type": "LoadAnnotations", "with_bbox": True, "with_mask": True},
        {"type": "PackDetInputs"},
    ]
    options = {"ann_file": "boxes.json", "data_root": str(folder), "vocabulary": ["box"]}
    with DefaultScope.overwrite_default_scope("mmdet"):
        dataset = OpenVocabularyCocoDataset(pipeline=steps, **options)
        inferencer = Compose([{"type": "mmdet.InferencerLoader"}])  # DetInferencer's
    items = [dataset[index] for index in range(len(dataset))]
    check([item["inputs"].permute(1, 2, 0).numpy()[..., ::-1] for item in items], expected, paths)
    check([inferencer(str(path))["img"][..., ::-1] for path in paths], expected, paths)
    left, top, right, bottom = XYXY
    for item in items:
        sample = item["data_samples"]
        assert sample.ori_shape == (HEIGHT, WIDTH)
        assert sample.gt_instances.bboxes.tensor.tolist() == [XYXY]
        mask = sample.gt_instances.masks.to_ndarray()[0].astype(bool)
        assert mask.shape == (HEIGHT, WIDTH) and mask[top:bottom, left:right].mean() > 0.9
        assert mask.sum() <= 1.2 * BOX[2] * BOX[3]


def test_segmentation(files, expected, tmp_path):
    pytest.importorskip("detectron2")
    from segmentation.data import MaskFormerSemanticDatasetMapper

    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[XYXY[1] : XYXY[3], XYXY[0] : XYXY[2]] = 1
    Image.fromarray(labels).save(tmp_path / "labels.png")
    for is_train in (True, False):
        mapper = MaskFormerSemanticDatasetMapper(is_train, augmentations=[], num_classes=2)
        outputs = [
            mapper({"file_name": str(path), "sem_seg_file_name": str(tmp_path / "labels.png")})
            for path in files[1]
        ]
        found = [output["image"].permute(1, 2, 0).numpy() for output in outputs]
        check(found, expected, files[1])
        if is_train:
            assert all(np.array_equal(output["sem_seg"], labels) for output in outputs)
        else:
            assert {(o["height"], o["width"]) for o in outputs} == {(HEIGHT, WIDTH)}
