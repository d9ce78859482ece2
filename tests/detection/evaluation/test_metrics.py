"""The metrics against recorded figures, pycocotools and lvis run by hand, and cases by hand."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

pytest.importorskip("mmdet")

import lvis.eval
from lvis import LVIS, LVISEval, LVISResults
from mmdet.registry import METRICS
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from detection.evaluation import (
    OpenVocabularyCocoMetric,
    OpenVocabularyLVISMetric,
    ap50_of_groups,
    evaluate_lvis,
)
from fineclip.images import UnusableImageError

REFERENCE = Path(__file__).parents[2] / "data" / "reference"
CLASSES = ("dog", "cat", "owl", "fox", "yak")
BASE, NOVEL = ("dog", "owl", "yak"), ("cat", "fox")
META = {"classes": CLASSES, "base_classes": BASE, "novel_classes": NOVEL}
SIDE = 120


def read(name):
    return json.loads((REFERENCE / name).read_text())


def box_mask(box):
    mask = np.zeros((SIDE, SIDE), dtype=np.uint8, order="F")
    x, y, w, h = (round(v) for v in box)
    mask[y : y + h, x : x + w] = 1
    rle = mask_utils.encode(mask)
    return {"size": list(rle["size"]), "counts": rle["counts"].decode()}


def made_up(seed=0, images=12):
    """Annotations and detections: jittered ground truth, wrong classes, crowds, false alarms.

    The file lists its categories out of order, and no image shows a fox.
    """
    rng = np.random.default_rng(seed)
    ids = {"yak": 9, "dog": 4, "fox": 7, "cat": 2, "owl": 5}
    frequency = {"yak": "f", "dog": "c", "fox": "r", "cat": "r", "owl": "f"}
    categories = [{"id": i, "name": n, "frequency": frequency[n]} for n, i in ids.items()]
    data = {"images": [], "annotations": [], "categories": categories}
    detections = []

    def detect(image_id, category_id, box):
        detections.append(
            {
                "image_id": image_id,
                "category_id": category_id,
                "bbox": box,
                "score": float(rng.random()),
                "segmentation": box_mask(box),
            }
        )

    for image_id in range(1, images + 1):
        data["images"].append(
            {
                "id": image_id,
                "file_name": f"{image_id}.jpg",
                "coco_url": f"val/{image_id}.jpg",
                "width": SIDE,
                "height": SIDE,
                "neg_category_ids": [7, 2],
                "not_exhaustive_category_ids": [9],
            }
        )
        for _ in range(int(rng.integers(0, 5))):
            category_id = int(rng.choice([9, 4, 2, 5]))
            box = [int(v) for v in (*rng.integers(0, 60, 2), *rng.integers(12, 55, 2))]
            data["annotations"].append(
                {
                    "id": len(data["annotations"]) + 1,
                    "image_id": image_id,
                    "category_id": category_id,
                    "bbox": box,
                    "area": box[2] * box[3],
                    "iscrowd": int(rng.random() < 0.1),
                    "segmentation": box_mask(box),
                }
            )
            for _ in range(int(rng.integers(0, 3))):
                moved = [float(v + rng.integers(-4, 5)) for v in box]
                moved[:2] = [max(v, 0.0) for v in moved[:2]]
                detect(image_id, category_id, moved)
            if rng.random() < 0.3:
                detect(image_id, int(rng.choice(list(ids.values()))), [float(v) for v in box])
        detect(image_id, int(rng.choice(list(ids.values()))), [5.0, 5.0, 30.0, 30.0])
    return data, detections


def samples(data, detections, classes, masks=False):
    """What a detector hands to the metric."""
    name = {category["id"]: category["name"] for category in data["categories"]}
    result = []
    for image in data["images"]:
        own = [d for d in detections if d["image_id"] == image["id"]]
        boxes = torch.tensor([d["bbox"] for d in own], dtype=torch.float64).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]  # xywh -> xyxy
        prediction = {
            "bboxes": boxes,
            "scores": torch.tensor([d["score"] for d in own], dtype=torch.float64),
            "labels": torch.tensor([classes.index(name[d["category_id"]]) for d in own]).long(),
        }
        if masks:
            prediction["masks"] = [d["segmentation"] for d in own]
        size = (image["height"], image["width"])
        result.append({"img_id": image["id"], "ori_shape": size, "pred_instances": prediction})
    return result


def measured(metric, data, detections, meta=META, masks=False):
    metric.dataset_meta = meta
    metric.process({}, samples(data, detections, meta["classes"], masks))
    return metric.evaluate(len(data["images"]))


@pytest.fixture
def written(tmp_path):
    def write(data, name="annotations.json"):
        (tmp_path / name).write_text(json.dumps(data))
        return str(tmp_path / name)

    return write


@pytest.mark.parametrize(
    ("kind", "cls", "metric"),
    [
        ("coco", OpenVocabularyCocoMetric, "bbox"),
        ("lvis", OpenVocabularyLVISMetric, ["bbox", "segm"]),
    ],
)
def test_recorded_figures(kind, cls, metric):
    recorded = read("fvit_metric_results.json")
    file = REFERENCE / f"fvit_metric_{kind}_annotations.json"
    meta = {
        "classes": recorded["all_classes"],
        "base_classes": recorded["base_classes"],
        "novel_classes": recorded["novel_classes"],
    }
    results = measured(
        cls(str(file), metric),
        read(file.name),
        read(f"fvit_metric_{kind}_detections.json"),
        meta,
        masks=kind == "lvis",
    )
    expected = {k: v for k, v in recorded[kind]["result"].items() if not isinstance(v, str)}
    assert len(expected) == {"coco": 9, "lvis": 21}[kind]
    assert {k: round(results[f"{kind}/{k}"], 3) for k in expected} == expected


@pytest.mark.parametrize("kind", ["bbox", "segm"])
@pytest.mark.parametrize("seed", [0, 1])
def test_pycocotools_by_hand(written, kind, seed):
    data, detections = made_up(seed)
    file = written(data)
    results = measured(
        OpenVocabularyCocoMetric(file, kind, classwise=True), data, detections, masks=kind == "segm"
    )
    truth = COCO(file)
    unused = "bbox" if kind == "segm" else "segmentation"
    found = truth.loadRes([{k: v for k, v in d.items() if k != unused} for d in detections])
    ap50 = {}
    for category in data["categories"]:  # one class at a time: no index to get wrong
        by_hand = COCOeval(truth, found, kind)
        by_hand.params.catIds = [category["id"]]
        by_hand.params.iouThrs = np.array([0.5])
        by_hand.params.maxDets = [1, 10, 1000]
        by_hand.evaluate()
        by_hand.accumulate()
        precision = by_hand.eval["precision"][0, :, 0, 0, -1]
        precision = precision[precision > -1]
        if len(precision):
            ap50[category["name"]] = 100 * precision.mean()
    assert sorted(ap50) == ["cat", "dog", "owl", "yak"]
    infix = "mask_ap50" if kind == "segm" else "ap50"
    for name, value in ap50.items():
        assert results[f"coco/{name}_{infix}"] == pytest.approx(value, abs=1e-6)
    assert math.isnan(results[f"coco/fox_{infix}"])
    # fox has no ground truth: the novel mean is over cat alone
    assert results[f"coco/novel_{infix}"] == pytest.approx(ap50["cat"], abs=1e-6)
    base = np.mean([ap50[name] for name in BASE])
    assert results[f"coco/base_{infix}"] == pytest.approx(base, abs=1e-6)
    assert results[f"coco/all_{infix}"] == pytest.approx(np.mean(list(ap50.values())), abs=1e-6)
    assert 0 < results[f"coco/novel_{infix}"] < 100
    whole = COCOeval(truth, found, kind)
    whole.evaluate()
    whole.accumulate()
    whole.summarize()
    assert results[f"coco/{kind}_mAP"] == pytest.approx(whole.stats[0], abs=1e-6)
    # the mean over classes of AP50 is COCO's own AP50
    assert results[f"coco/all_{infix}"] == pytest.approx(100 * whole.stats[1], abs=1e-6)


@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_lvis_by_hand(written, monkeypatch, kind):
    data, detections = made_up(2, images=20)
    file = written(data)
    results = measured(OpenVocabularyLVISMetric(file, kind), data, detections, masks=kind == "segm")
    monkeypatch.setattr(np, "float", float, raising=False)  # lvis 0.5.3 is older than NumPy 1.24
    truth = LVIS(file)
    by_hand = LVISEval(truth, LVISResults(truth, [dict(d) for d in detections]), kind)
    by_hand.run()
    for name in ("AP", "AP50", "AP75", "APs", "APm", "APl", "APr", "APc", "APf"):
        assert results[f"lvis/{kind}_{name}"] == pytest.approx(by_hand.results[name], abs=1e-6)
    infix = "mask_ap50" if kind == "segm" else "ap50"
    assert results[f"lvis/all_{infix}"] == pytest.approx(100 * by_hand.results["AP50"], abs=1e-6)
    cat = by_hand.eval["precision"][0, :, by_hand.params.cat_ids.index(2), 0].mean()
    assert results[f"lvis/novel_{infix}"] == pytest.approx(100 * cat, abs=1e-6)
    assert 0 < results[f"lvis/{kind}_APr"] < 1


@pytest.mark.parametrize("cls", [OpenVocabularyCocoMetric, OpenVocabularyLVISMetric])
def test_images_that_could_not_be_read_do_not_count(written, cls):
    data, detections = made_up(3)
    gone = data["images"][4]["id"]
    metric = cls(written(data))
    metric.dataset_meta = META
    found = samples(data, detections, CLASSES)
    found[4] |= {"skipped": [("5.jpg", "no such file")]}
    metric.process({}, found)
    results = metric.evaluate(len(found))
    for key, name in (("images", "id"), ("annotations", "image_id")):
        data[key] = [entry for entry in data[key] if entry[name] != gone]
    detections = [d for d in detections if d["image_id"] != gone]
    expected = measured(cls(written(data, "without.json")), data, detections)
    assert results == pytest.approx(expected, nan_ok=True)

    metric.process({}, [{**sample, "skipped": found[4]["skipped"]} for sample in found])
    with pytest.raises(UnusableImageError, match=r"5\.jpg: no such file \(nor can any other"):
        metric.evaluate(len(found))


def test_lvis_numpy_alias_is_local_to_the_call(written):
    data, detections = made_up()
    truth = LVIS(written(data))
    evaluate_lvis(truth, detections, "bbox")
    with pytest.raises(ValueError, match="not supported"):
        evaluate_lvis(truth, detections, "keypoints")
    assert lvis.eval.np is np
    assert not hasattr(np, "float")


def test_one_box_by_hand(written):
    data, _ = made_up(images=1)
    owl = {"id": 1, "image_id": 1, "category_id": 5, "bbox": [10, 10, 40, 40], "area": 1600}
    data["annotations"] = [{**owl, "iscrowd": 0}]
    hit = {"image_id": 1, "category_id": 5, "bbox": [10.0, 10.0, 40.0, 30.0], "score": 0.5}
    miss = {**hit, "bbox": [60.0, 60.0, 40.0, 30.0], "score": 0.9}
    results = measured(OpenVocabularyCocoMetric(written(data)), data, [hit])
    assert results["coco/base_ap50"] == results["coco/all_ap50"] == pytest.approx(100)
    assert results["coco/bbox_mAP"] == pytest.approx(0.6)  # IoU 0.75: 0.5, 0.55, ..., 0.75
    assert math.isnan(results["coco/novel_ap50"])  # no novel class has ground truth
    # a better scored false alarm halves the precision at every recall
    results = measured(OpenVocabularyCocoMetric(written(data)), data, [hit, miss])
    assert results["coco/base_ap50"] == pytest.approx(50)


def test_a_false_alarm_of_a_base_class_does_not_touch_a_novel_one(written):
    data, detections = made_up(3)
    novel = measured(OpenVocabularyCocoMetric(written(data)), data, detections)["coco/novel_ap50"]
    detections += [{**d, "category_id": 4} for d in detections if d["category_id"] == 2]
    again = measured(OpenVocabularyCocoMetric(written(data)), data, detections)
    assert again["coco/novel_ap50"] == novel


@pytest.mark.parametrize("cls", [OpenVocabularyCocoMetric, OpenVocabularyLVISMetric])
@pytest.mark.parametrize("kind", ["bbox", "segm"])
def test_no_detection_at_all_is_zero(written, cls, kind):
    data, _ = made_up()
    results = measured(cls(written(data), kind), data, [], masks=kind == "segm")
    infix = "mask_ap50" if kind == "segm" else "ap50"
    prefix = cls.default_prefix
    assert [results[f"{prefix}/{g}_{infix}"] for g in ("base", "novel", "all")] == [0, 0, 0]


def test_without_a_split_only_all_is_reported(written):
    data, detections = made_up()
    results = measured(
        OpenVocabularyCocoMetric(written(data)), data, detections, {"classes": CLASSES}
    )
    assert "coco/all_ap50" in results
    assert not {"coco/base_ap50", "coco/novel_ap50"} & set(results)


def test_classes_that_the_file_lacks_are_left_out(written):
    data, detections = made_up()
    classes = ("unicorn", *CLASSES)
    expected = measured(OpenVocabularyCocoMetric(written(data)), data, detections)
    metric = OpenVocabularyCocoMetric(written(data))
    metric.dataset_meta = {**META, "classes": classes}
    batch = samples(data, detections, classes)
    unicorn = batch[0]["pred_instances"]
    unicorn["labels"] = torch.cat([unicorn["labels"], torch.tensor([0])])
    unicorn["scores"] = torch.cat([unicorn["scores"], torch.tensor([1.0]).double()])
    unicorn["bboxes"] = torch.cat([unicorn["bboxes"], torch.tensor([[0.0, 0, 9, 9]]).double()])
    metric.process({}, batch)
    results = metric.evaluate(len(batch))
    assert results["coco/all_ap50"] == expected["coco/all_ap50"]


def test_format_only_writes_results_that_pycocotools_reads(written, tmp_path):
    data, detections = made_up()
    prefix = tmp_path / "new" / "results"
    metric = OpenVocabularyCocoMetric(
        written(data), ["bbox", "segm"], format_only=True, outfile_prefix=str(prefix)
    )
    assert measured(metric, data, detections, masks=True) == {}
    assert sorted(f.name for f in prefix.parent.iterdir()) == [
        "results.bbox.json",
        "results.segm.json",
    ]
    saved = json.loads((prefix.parent / "results.segm.json").read_text())
    key = lambda d: (d["image_id"], d["score"])  # noqa: E731
    assert sorted(saved, key=key) == sorted(detections, key=key)
    boxes = json.loads((prefix.parent / "results.bbox.json").read_text())
    assert set(boxes[0]) == {"image_id", "category_id", "bbox", "score"}
    COCO(written(data)).loadRes(str(prefix.parent / "results.bbox.json"))


def test_detections_are_exported_beside_the_evaluation(written, tmp_path):
    data, detections = made_up()
    metric = OpenVocabularyLVISMetric(written(data), outfile_prefix=str(tmp_path / "r"))
    assert "lvis/bbox_APr" in measured(metric, data, detections)
    assert len(json.loads((tmp_path / "r.bbox.json").read_text())) == len(detections)


def test_registered_for_configs(written):
    data, _ = made_up()
    for cls in (OpenVocabularyCocoMetric, OpenVocabularyLVISMetric):
        built = METRICS.build({"type": cls.__name__, "ann_file": written(data)})
        assert type(built) is cls


def test_group_means():
    ap50 = {"a": 10.0, "b": 30.0, "c": float("nan")}
    means = ap50_of_groups(ap50, {"x": ["a", "b", "c"], "y": ["c"], "z": ["a", "unknown"]})
    assert means["x"] == 20.0
    assert math.isnan(means["y"])
    assert means["z"] == 10.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"metric": "proposal"}, "'bbox' or 'segm', got 'proposal'"),
        ({"metric": []}, "'bbox' or 'segm'"),
        ({"format_only": True}, "give outfile_prefix"),
    ],
)
def test_bad_settings(written, options, message):
    with pytest.raises(ValueError, match=message):
        OpenVocabularyCocoMetric(written(made_up()[0]), **options)


def test_masks_must_be_there(written):
    data, detections = made_up()
    with pytest.raises(ValueError, match="gives no masks"):
        measured(OpenVocabularyCocoMetric(written(data), "segm"), data, detections)


@pytest.mark.parametrize(
    ("meta", "message"),
    [
        ({}, "must hold 'classes'"),
        ({"classes": ("unicorn", "griffin")}, "none of its categories.*'unicorn' and 1 more"),
    ],
)
def test_classes_must_fit(written, meta, message):
    data, _ = made_up()
    metric = OpenVocabularyCocoMetric(written(data))
    metric.dataset_meta = meta
    metric.process({}, samples(data, [], CLASSES))
    with pytest.raises(ValueError, match=message):
        metric.evaluate(len(data["images"]))


def test_annotations_must_be_there(written):
    data, detections = made_up()
    del data["annotations"]
    with pytest.raises(ValueError, match=r"annotations\.json: no annotations to evaluate"):
        measured(OpenVocabularyCocoMetric(written(data)), data, detections)
    with pytest.raises(FileNotFoundError, match=r"nothing\.json"):
        OpenVocabularyCocoMetric("nothing.json")
    with pytest.raises(ValueError, match="images: the list is empty"):
        OpenVocabularyCocoMetric(written({**data, "images": []}))


def test_coco_annotations_are_no_lvis_annotations(written):
    data, _ = made_up()
    for image in data["images"]:
        del image["neg_category_ids"]
    with pytest.raises(ValueError, match=r"images\[0\]: missing key 'neg_category_ids'"):
        OpenVocabularyLVISMetric(written(data))
