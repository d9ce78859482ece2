"""One file, the same boxes: pretraining, evaluation, detection, and its metrics' ground truth."""

import contextlib
import io
import json

import damaged
import numpy as np
import pytest
import torch
from PIL import Image
from region_text import region_text_dataset

pytest.importorskip("mmdet")

from lvis import LVIS, LVISEval, LVISResults
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detection.datasets import (
    CocoAnnotations,
    OpenVocabularyCocoDataset,
    OpenVocabularyLVISDataset,
)
from detection.evaluation import OpenVocabularyCocoMetric, OpenVocabularyLVISMetric
from fineclip.datasets import InstanceRegionDataset
from fineclip.datasets.checking import check_data

CLASSES = ("cat", "dog", "owl")
SIZE = torch.tensor([damaged.WIDTH, damaged.HEIGHT] * 2)
VARIANTS = {
    **{name: change for name, (change, *_) in damaged.MENDED.items()},
    **{name: change for name, (change, _) in damaged.DROPPED.items()},
    "as it should be": damaged.nothing,
    "rounded": damaged.one(0, bbox=[80, 10, 40.6, 30]),
    "some crowds": damaged.boxes(lambda a, n: a.update(iscrowd=n % 2)),
}


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "val").mkdir()
    for name in (11, 12, 13, "é"):
        Image.new("RGB", (damaged.WIDTH, damaged.HEIGHT)).save(tmp_path / "val" / f"{name}.jpg")
    return tmp_path


def rows(image, boxes, labels):
    """What is compared: image, box xyxy cut to the image, label."""
    boxes = torch.as_tensor(boxes, dtype=torch.float64).reshape(-1, 4)
    boxes = boxes.clamp(min=0).minimum(SIZE)
    return [
        (image, *np.round(box, 3).tolist(), label)
        for box, label in zip(boxes.numpy(), labels, strict=True)
    ]


def in_detection(folder, file, cls=OpenVocabularyCocoDataset):
    found = []
    dataset = cls(
        ann_file=file.name, data_root=str(folder), pipeline=[], vocabulary=CLASSES, test_mode=False
    )
    for number in range(len(dataset)):
        boxes = dataset.get_data_info(number)["instances"]
        labels = [box["bbox_label"] for box in boxes]
        found += rows(number, [box["bbox"] for box in boxes], labels)
    return sorted(found)


def in_evaluation(folder, file):
    dataset = InstanceRegionDataset(file, folder, transform={"size": 16}, min_area=0)
    found = []
    for number in range(len(dataset)):
        item = dataset[number]
        assert item["skipped"] == []
        labels = item["data_sample"]["labels"].tolist()
        found += rows(number, item["boxes"].double() * SIZE, labels)
    return sorted(found)


def in_pretraining(folder, file):
    dataset = region_text_dataset(
        image_root=folder,
        annotations=file,
        tokenizer=lambda texts: torch.zeros(len(texts), 1, dtype=torch.int64),
        transform={"size": 16},
        fields=("boxes",),
        labels=True,
        include_crowd=True,
        min_area=0,
    )
    found = []
    for number in range(len(dataset)):
        sample = dataset[0, number]
        assert sample["skipped"] == []
        found += rows(number, sample["boxes"].double() * SIZE, sample["region_labels"].tolist())
    return sorted(found)


@pytest.mark.parametrize("name", VARIANTS)
def test_the_same_boxes_everywhere(folder, name):
    file = damaged.write(folder / "boxes.json", damaged.damage(VARIANTS[name]), name)
    boxes = in_detection(folder, file)
    assert len(boxes) == (7 if name in damaged.DROPPED else 8)
    assert in_pretraining(folder, file) == boxes
    assert in_evaluation(folder, file) == boxes
    truth = CocoAnnotations(file)
    assert len(truth.anns) == len(boxes)
    places = {id_: number for number, id_ in enumerate(truth.imgs)}
    found = []
    for annotation in truth.dataset["annotations"]:
        x, y, w, h = annotation["bbox"]
        label = CLASSES.index(truth.cats[annotation["category_id"]]["name"])
        found += rows(places[annotation["image_id"]], [[x, y, x + w, y + h]], [label])
    assert sorted(found) == boxes


def oracle(metric, truth, masks=False):
    """Hands the annotations to a metric as detections."""
    metric.dataset_meta = {"classes": CLASSES}
    name = {id_: category["name"] for id_, category in truth.cats.items()}
    for image_id, image in truth.imgs.items():
        own = truth.img_ann_map[image_id]
        boxes = torch.tensor([a["bbox"] for a in own], dtype=torch.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        prediction = {
            "bboxes": boxes,
            "scores": torch.ones(len(own), dtype=torch.float64),
            "labels": torch.tensor([CLASSES.index(name[a["category_id"]]) for a in own]),
        }
        if masks:
            prediction["masks"] = [mask(box, image) for box in boxes.round().int().tolist()]
        size = (image["height"], image["width"])
        metric.process({}, [{"img_id": image_id, "ori_shape": size, "pred_instances": prediction}])
    return metric.evaluate(len(truth.imgs))


def mask(box, image):
    pixels = np.zeros((image["height"], image["width"]), dtype=np.uint8, order="F")
    pixels[box[1] : box[3], box[0] : box[2]] = 1
    code = mask_utils.encode(pixels)
    return {"size": list(code["size"]), "counts": code["counts"]}


def as_results(data):
    keys = ("image_id", "category_id", "bbox")
    return [{**{key: a[key] for key in keys}, "score": 1.0} for a in data["annotations"]]


@pytest.mark.parametrize("name", {**damaged.MENDED, **damaged.DROPPED})
def test_annotations_as_detections_are_perfect_with_coco(folder, name):
    file = damaged.write(folder / "boxes.json", damaged.damage(VARIANTS[name]), name)
    metrics = oracle(OpenVocabularyCocoMetric(str(file)), CocoAnnotations(file))
    assert metrics["coco/bbox_mAP"] == pytest.approx(1)
    assert metrics["coco/all_ap50"] == pytest.approx(100)
    # What check_data writes needs nothing of ours.
    checked = check_data(file, fix=folder / "fixed.json")
    assert checked.written == folder / "fixed.json"
    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO(str(folder / "fixed.json"))
        found = truth.loadRes(as_results(truth.dataset))
        evaluation = COCOeval(truth, found, "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    assert evaluation.stats[0] == pytest.approx(1)


@pytest.mark.parametrize("name", {**damaged.MENDED, **damaged.DROPPED})
def test_annotations_as_detections_are_perfect_with_lvis(folder, monkeypatch, name):
    data = damaged.lvis(damaged.damage(VARIANTS[name]))
    file = damaged.write(folder / "lvis.json", data, name)
    dataset = OpenVocabularyLVISDataset(
        ann_file="lvis.json", data_root=str(folder), pipeline=[], vocabulary=CLASSES, test_mode=True
    )
    metric = OpenVocabularyLVISMetric(str(file))
    metrics = oracle(metric, dataset.COCOAPI(file))
    assert metrics["lvis/bbox_AP"] == pytest.approx(1)
    assert metrics["lvis/all_ap50"] == pytest.approx(100)
    check_data(file, fix=folder / "fixed.json")
    monkeypatch.setattr(np, "float", float, raising=False)  # lvis 0.5.3 is older than NumPy 1.24
    truth = LVIS(str(folder / "fixed.json"))
    evaluation = LVISEval(truth, LVISResults(truth, as_results(truth.dataset)), "bbox")
    evaluation.run()
    assert evaluation.results["AP"] == pytest.approx(1)


MASKS = {
    "one null": damaged.one(3, segmentation=None),
    "one empty": damaged.one(3, segmentation=[]),
    "half missing": damaged.boxes(lambda a, n: n % 2 and a.pop("segmentation")),
    "a line": damaged.one(3, segmentation=[[1, 2, 3, 4]]),
    "an empty code": damaged.one(3, segmentation={}),
}


@pytest.mark.parametrize("name", MASKS)
@pytest.mark.parametrize("kind", ["coco", "lvis"])
def test_boxes_without_a_mask_do_not_count_in_the_evaluation_of_masks(folder, name, kind):
    data = damaged.damage(MASKS[name])
    metric, index = OpenVocabularyCocoMetric, OpenVocabularyCocoDataset.COCOAPI
    if kind == "lvis":
        data = damaged.lvis(data)
        metric, index = OpenVocabularyLVISMetric, OpenVocabularyLVISDataset.COCOAPI
    file = damaged.write(folder / "boxes.json", data)
    truth = index(file)
    metrics = oracle(metric(str(file), ["bbox", "segm"]), truth, masks=True)
    ap = {"coco": "mAP", "lvis": "AP"}[kind]
    assert metrics[f"{kind}/bbox_{ap}"] == pytest.approx(1)
    assert metrics[f"{kind}/all_mask_ap50"] == pytest.approx(100)


def test_masks_of_no_box_at_all_cannot_be_evaluated(folder):
    file = damaged.write(folder / "boxes.json", damaged.damage(damaged.without("segmentation")))
    with pytest.raises(ValueError, match="'segm': none of its boxes has a mask"):
        oracle(OpenVocabularyCocoMetric(str(file), "segm"), CocoAnnotations(file), masks=True)


def with_masks(folder, change, **options):
    damaged.write(folder / "boxes.json", damaged.damage(change))
    return OpenVocabularyCocoDataset(
        ann_file="boxes.json",
        data_root=str(folder),
        vocabulary=CLASSES,
        pipeline=[
            {"type": "LoadImageFromFile"},
            {"type": "mmdet.LoadAnnotations", "with_bbox": True, "with_mask": True},
            {"type": "mmdet.PackDetInputs"},
        ],
        **options,
    )


@pytest.mark.parametrize("name", MASKS)
def test_mask_training_takes_boxes_without_a_mask(folder, name):
    dataset = with_masks(folder, MASKS[name])
    found = [dataset[number]["data_samples"].gt_instances for number in range(3)]
    assert sum(map(len, found)) == 8  # all of them train the boxes
    empty = sum(int((~sample.masks.masks.any(axis=(1, 2))).sum()) for sample in found)
    assert empty == (4 if name == "half missing" else 1)


def test_masks_of_no_box_at_all_cannot_be_trained(folder):
    with pytest.raises(ValueError, match="none of its 8 boxes has a mask to train on"):
        with_masks(folder, damaged.without("segmentation"))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["annotations"].clear(), "there is no box to train on"),
        (damaged.setting("bbox", [0, 0, 0, 5]), "there is no box to train on"),
        (damaged.setting("bbox", [3, 3, 0.5, 5]), "there is no box to train on"),
    ],
)
def test_training_on_no_box_is_refused(folder, change, message):
    file = damaged.write(folder / "boxes.json", damaged.damage(change))
    with pytest.raises(ValueError, match=message):
        in_detection(folder, file)


def test_a_filter_that_leaves_no_image_is_refused(folder):
    with pytest.raises(ValueError, match="leaves no image to train on"):
        with_masks(folder, damaged.nothing, filter_cfg={"min_size": 500})


@pytest.mark.parametrize("name", damaged.REFUSED)
def test_what_is_refused_is_refused_by_all(folder, name):
    file = damaged.write(folder / "boxes.json", damaged.damage(damaged.REFUSED[name][0]))
    for reader in (in_detection, in_evaluation, in_pretraining):
        with pytest.raises(ValueError, match=r"boxes\.json"):
            reader(folder, file)
    with pytest.raises(ValueError, match=r"boxes\.json"):
        OpenVocabularyCocoMetric(str(file))
    assert check_data(file, fix=folder / "fixed.json").refused
    assert not (folder / "fixed.json").exists()
    assert json.loads(file.read_text())  # as it was
