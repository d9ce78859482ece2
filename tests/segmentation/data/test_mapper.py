"""The mapper: geometry stays in step, filling, settings, messages."""

import random

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("detectron2")

from detectron2.config import get_cfg
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.data import transforms as T

from fineclip.images import UnusableImageError
from segmentation import add_cat_seg_config
from segmentation.data import MaskFormerSemanticDatasetMapper, build_dataset_mapper

NAME = "mapper_test_sem_seg"


@pytest.fixture(autouse=True)
def seeds():
    random.seed(0)
    np.random.seed(0)  # noqa: NPY002 - what detectron2 draws from


@pytest.fixture
def pair(tmp_path):
    """An image whose red channel is ten times its label, 60 high and 90 wide."""
    labels = np.repeat(np.repeat(np.arange(6, dtype=np.uint8).reshape(2, 3), 30, 0), 30, 1)
    image = np.stack([labels * 10, labels * 0, labels * 0 + 200], axis=-1)
    Image.fromarray(image).save(tmp_path / "a.png")
    Image.fromarray(labels).save(tmp_path / "labels.png")
    return {
        "file_name": str(tmp_path / "a.png"),
        "sem_seg_file_name": str(tmp_path / "labels.png"),
        "image_id": 7,
    }


@pytest.fixture
def cfg(pair, tmp_path):
    DatasetCatalog.register(NAME, lambda: [pair])
    MetadataCatalog.get(NAME).set(stuff_classes=list("abcdef"), ignore_label=255)
    cfg = get_cfg()
    add_cat_seg_config(cfg)
    (tmp_path / "names.json").write_text('["a", "b", "c", "d", "e", "f"]')
    cfg.MODEL.SEM_SEG_HEAD.TRAIN_CLASS_JSON = str(tmp_path / "names.json")
    cfg.DATASETS.TRAIN = (NAME,)
    cfg.INPUT.FORMAT = "RGB"
    cfg.INPUT.MIN_SIZE_TRAIN = (60,)
    cfg.INPUT.SIZE_DIVISIBILITY = 48
    cfg.INPUT.CROP.ENABLED = True
    cfg.INPUT.CROP.TYPE = "absolute"
    cfg.INPUT.CROP.SIZE = [48, 48]
    yield cfg
    DatasetCatalog.remove(NAME)
    MetadataCatalog.remove(NAME)


def plain(**options):
    return MaskFormerSemanticDatasetMapper(augmentations=[], num_classes=6, **options)


def test_image_and_labels_as_they_are(pair):
    output = plain()(pair)
    assert output["image"].dtype == torch.uint8 and output["image"].shape == (3, 60, 90)
    assert output["sem_seg"].dtype == torch.int64 and output["sem_seg"].shape == (60, 90)
    assert torch.equal(output["image"][0].long(), output["sem_seg"] * 10)
    assert (output["image"][2] == 200).all()  # RGB
    assert output["image_id"] == 7
    assert "sem_seg_file_name" in pair  # the record stays as it was


def test_crops_and_flips_move_labels_with_pixels(cfg, pair):
    mapper = build_dataset_mapper(cfg)
    seen = set()
    for _ in range(8):
        output = mapper(pair)
        assert output["image"].shape == (3, 48, 48)
        assert torch.equal(output["image"][0].long(), output["sem_seg"] * 10)
        seen.add(tuple(output["sem_seg"][24].unique_consecutive().tolist()))
    assert any(list(row) != sorted(row) for row in seen)  # flipped
    assert any(list(row) == sorted(row) and len(row) > 1 for row in seen)  # and not


def test_enlarged_labels_keep_to_their_pixels(pair):
    resize = T.ResizeShortestEdge(240, 1333)
    for classes, ignore_label in ((6, 255), (847, 65535)):  # 8 bit, and more
        mapper = MaskFormerSemanticDatasetMapper(
            augmentations=[resize], num_classes=classes, ignore_label=ignore_label
        )
        output = mapper(pair)
        assert output["sem_seg"].shape == (240, 360)
        assert output["sem_seg"].dtype == torch.int64
        assert output["sem_seg"].unique().tolist() == list(range(6))
        inside = output["sem_seg"][60::120, 60::120]
        assert inside.tolist() == [[0, 1, 2], [3, 4, 5]]


def test_small_images_are_filled_up_on_the_right_and_at_the_bottom(pair):
    output = plain(pad_to=80)(pair)
    assert output["image"].shape == (3, 80, 90)
    assert (output["image"][:, 60:] == 128).all()
    assert (output["sem_seg"][60:] == 255).all()
    assert (output["sem_seg"][:60] != 255).all()
    output = plain(pad_to=100)(pair)
    assert output["sem_seg"].shape == (100, 100)
    assert (output["image"][:, :, 90:] == 128).all() and (output["sem_seg"][:, 90:] == 255).all()


def test_colours_change_and_labels_do_not(cfg, pair):
    cfg.INPUT.COLOR_AUG_SSD = True
    cfg.INPUT.CROP.ENABLED = False
    cfg.INPUT.RANDOM_FLIP = "none"
    mapper = build_dataset_mapper(cfg)
    labels = plain()(pair)["sem_seg"]
    outputs = [mapper(pair) for _ in range(4)]
    assert all(torch.equal(output["sem_seg"], labels) for output in outputs)
    assert any(not torch.equal(output["image"], outputs[0]["image"]) for output in outputs[1:])


def test_no_class_fills_a_crop(cfg, pair):
    cfg.INPUT.CROP.SIZE = [28, 28]
    cfg.INPUT.SIZE_DIVISIBILITY = -1
    cfg.INPUT.CROP.SINGLE_CATEGORY_MAX_AREA = 0.9
    mapper = build_dataset_mapper(cfg)
    for _ in range(12):
        labels = mapper(pair)["sem_seg"]
        assert labels.unique(return_counts=True)[1].max() < 0.9 * labels.numel()


def test_labels_are_mapped(pair):
    output = plain()({**pair, "label_map": (5, 255, 3, 2, 1, 0)})
    assert set(output) == {"file_name", "image_id", "image", "sem_seg"}
    assert output["sem_seg"][::30, ::30].tolist() == [[5, 255, 3], [2, 1, 0]]


def test_testing_needs_no_labels(cfg, pair):
    cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST = 120, 1000
    output = build_dataset_mapper(cfg, is_train=False)({**pair, "sem_seg_file_name": "nowhere"})
    assert output["image"].shape == (3, 120, 180)
    assert (output["height"], output["width"]) == (60, 90)
    assert "sem_seg" not in output


def test_unusable_files_are_named(pair, tmp_path):
    (tmp_path / "bad.jpg").write_text("no image")
    with pytest.raises(ValueError, match=r"image .*bad\.jpg: cannot be decoded"):
        plain()({**pair, "file_name": str(tmp_path / "bad.jpg")})
    with pytest.raises(ValueError, match=r"label map .*bad\.jpg: cannot be decoded"):
        plain()({**pair, "sem_seg_file_name": str(tmp_path / "bad.jpg")})
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (60, 90, 3), np.uint8)).save(
        tmp_path / "whole.jpg"
    )
    (tmp_path / "half.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:2000])
    with pytest.raises(ValueError, match=r"half\.jpg: cannot be decoded \(image file is truncated"):
        plain()({**pair, "file_name": str(tmp_path / "half.jpg")})
    with pytest.raises(UnusableImageError, match=r"gone\.png: no such file"):
        plain()({**pair, "file_name": str(tmp_path / "gone.png")})
    with pytest.raises(FileNotFoundError, match=r"gone\.png"):
        plain()({**pair, "sem_seg_file_name": str(tmp_path / "gone.png")})
    Image.fromarray(np.zeros((60, 80), np.uint8)).save(tmp_path / "narrow.png")
    with pytest.raises(ValueError, match=r"narrow\.png has 80 x 60 pixels, .*a\.png 90 x 60"):
        plain()({**pair, "sem_seg_file_name": str(tmp_path / "narrow.png")})
    with pytest.raises(ValueError, match="no 'sem_seg_file_name'"):
        plain()({"file_name": pair["file_name"]})
    mapper = MaskFormerSemanticDatasetMapper(augmentations=[], num_classes=5)
    with pytest.raises(ValueError, match=r"labels\.png holds 5, .*5 classes"):
        mapper(pair)


def test_settings_that_do_not_fit(cfg):
    cfg.INPUT.DATASET_MAPPER_NAME = "other"
    with pytest.raises(ValueError, match="known: mask_former_semantic"):
        build_dataset_mapper(cfg)
    cfg.INPUT.DATASET_MAPPER_NAME = "mask_former_semantic"
    cfg.INPUT.FORMAT = "BGR"
    with pytest.raises(ValueError, match=r"INPUT\.FORMAT is 'BGR'"):
        build_dataset_mapper(cfg)
    cfg.INPUT.FORMAT = "RGB"
    cfg.MODEL.SEM_SEG_HEAD.TRAIN_CLASS_JSON = "voc20"
    with pytest.raises(ValueError, match=r"20 names, data set mapper_test_sem_seg .* 6 classes"):
        build_dataset_mapper(cfg)
    cfg.DATASETS.TRAIN = ()
    with pytest.raises(ValueError, match="TRAIN is empty"):
        build_dataset_mapper(cfg)
