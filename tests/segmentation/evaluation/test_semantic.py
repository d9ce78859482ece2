"""The evaluator: against detectron2's own, seen and unseen classes, background, messages."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

pytest.importorskip("detectron2")

from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import SemSegEvaluator
from detectron2.utils import comm

from fineclip.images import UnusableImageError
from segmentation.evaluation import SemanticSegmentationEvaluator, per_class_table

NAME = "evaluator_test_sem_seg"
CLASSES = ["cat", "dog, hound", "grass", "sky", "unicorn"]


@pytest.fixture
def dataset(tmp_path):
    """Registers three random label maps of some number of classes; returns them."""

    def register(classes=CLASSES, ignore_label=255, dtype=np.uint8, suffix=".png", **metadata):
        random = np.random.default_rng(0)
        maps, records = [], []
        for i, size in enumerate([(9, 13), (16, 16), (1, 5)]):
            # The last class never occurs.
            labels = random.integers(0, len(classes) - 1, size)
            labels[random.random(size) < 0.2] = ignore_label
            Image.fromarray(labels.astype(dtype)).save(tmp_path / f"{i}{suffix}")
            maps.append(labels)
            records.append(
                {
                    "file_name": str(tmp_path / f"{i}.jpg"),
                    "sem_seg_file_name": str(tmp_path / f"{i}{suffix}"),
                }
            )
        DatasetCatalog.register(NAME, lambda: records)
        MetadataCatalog.get(NAME).set(
            stuff_classes=list(classes), ignore_label=ignore_label, **metadata
        )
        return records, maps

    yield register
    if NAME in DatasetCatalog:
        DatasetCatalog.remove(NAME)
        MetadataCatalog.remove(NAME)


def guesses(maps, classes):
    """Scores whose best class is the label more often than not."""
    generator = torch.Generator().manual_seed(1)
    for labels in maps:
        scores = torch.rand((classes, *labels.shape), generator=generator)
        right = torch.from_numpy(np.where(labels < classes, labels, 0))[None]
        yield scores.scatter_add(0, right, torch.full(right.shape, 0.6))


def results_of(evaluator, records, outputs):
    evaluator.reset()
    evaluator.process(records, outputs)
    return evaluator.evaluate()["sem_seg"]


@pytest.mark.parametrize(
    "layout",
    [
        {},
        {
            "classes": [f"class {i}" for i in range(300)],
            "ignore_label": 65535,
            "dtype": np.uint16,
            "suffix": ".tif",
        },
        {
            "classes": [f"class {i}" for i in range(459)],
            "ignore_label": 459,
            "dtype": np.uint16,
            "suffix": ".tif",
        },
    ],
    ids=["8 bit", "16 bit", "ignore label behind the classes"],
)
def test_equals_detectron2_s_evaluator(dataset, layout):
    records, maps = dataset(**layout)
    classes = len(layout.get("classes", CLASSES))
    outputs = [{"sem_seg": scores} for scores in guesses(maps, classes)]
    ours = results_of(SemanticSegmentationEvaluator(NAME), records, outputs)

    theirs = SemSegEvaluator(NAME, distributed=False, sem_seg_loading_fn=load)
    theirs.reset()
    theirs.process(records, outputs)
    expected = theirs.evaluate()["sem_seg"]
    expected["mAcc"] = expected.pop("mACC")
    expected["mIoU-all"] = np.nansum([ours[k] for k in ours if k.startswith("IoU-")]) / classes
    assert 0 < ours["mIoU-all"] < ours["mIoU"]
    assert 0 < ours["mIoU"] < 100
    for key, value in ours.items():
        assert value == pytest.approx(expected[key], rel=1e-12, nan_ok=True), key
    assert {k for k in expected if "ound" not in k and "min(" not in k} == {
        k for k in ours if "ound" not in k
    }


def load(filename, dtype):
    # detectron2's own uses an argument that numpy 2 gave another meaning.
    with Image.open(filename) as image:
        return np.array(image, dtype=dtype)


def test_equals_a_direct_computation(dataset):
    records, maps = dataset()
    scores = list(guesses(maps, 5))
    results = results_of(
        SemanticSegmentationEvaluator(NAME), records, [{"sem_seg": s} for s in scores]
    )
    true = np.concatenate([m.ravel() for m in maps])
    found = np.concatenate([s.argmax(0).numpy().ravel() for s in scores])[true != 255]
    true = true[true != 255]
    ious = [
        ((true == k) & (found == k)).sum() / ((true == k) | (found == k)).sum() for k in range(4)
    ]
    accuracies = [(found[true == k] == k).mean() for k in range(4)]
    assert results["mIoU"] == pytest.approx(100 * np.mean(ious), rel=1e-12)
    assert results["mAcc"] == pytest.approx(100 * np.mean(accuracies), rel=1e-12)
    assert results["pACC"] == pytest.approx(100 * (true == found).mean(), rel=1e-12)
    assert results["IoU-dog, hound"] == pytest.approx(100 * ious[1], rel=1e-12)
    assert math.isnan(results["IoU-unicorn"]) and math.isnan(results["ACC-unicorn"])


def test_images_and_label_maps_that_cannot_be_read_do_not_count(dataset, caplog):
    records, maps = dataset()
    outputs = [{"sem_seg": s} for s in guesses(maps, 5)]
    evaluator = SemanticSegmentationEvaluator(NAME)
    expected = results_of(evaluator, records[:1], outputs[:1])
    Path(records[2]["sem_seg_file_name"]).write_bytes(b"no image")
    skipped = {**records[1], "skipped": (records[1]["file_name"], "no such file")}
    found = results_of(evaluator, [records[0], skipped, records[2]], [outputs[0], {}, outputs[2]])
    assert found == pytest.approx(expected, nan_ok=True)
    assert f"skipped {records[1]['file_name']}: no such file" in caplog.text
    assert "2 images were skipped" in caplog.text
    with pytest.raises(UnusableImageError, match="no such file"):
        results_of(evaluator, [skipped], [{}])


def test_labels_give_what_scores_give_and_order_does_not_matter(dataset):
    records, maps = dataset()
    scores = list(guesses(maps, 5))
    evaluator = SemanticSegmentationEvaluator(NAME, distributed=False)
    whole = results_of(evaluator, records, [{"sem_seg": s} for s in scores])
    evaluator.reset()
    for record, s in reversed(list(zip(records, scores, strict=True))):
        evaluator.process([record], [{"sem_seg_labels": s.argmax(0)}])
    parts = evaluator.evaluate()["sem_seg"]
    assert {k: repr(v) for k, v in parts.items()} == {k: repr(v) for k, v in whole.items()}


def test_seen_and_unseen(dataset):
    records, maps = dataset(seen_classes=["grass"])
    outputs = [{"sem_seg": scores} for scores in guesses(maps, 5)]
    results = results_of(SemanticSegmentationEvaluator(NAME), records, outputs)
    assert results["mIoU-seen"] == results["IoU-grass"]
    rest = [results[f"IoU-{name}"] for name in ("cat", "dog, hound", "sky")]
    assert results["mIoU-unseen"] == pytest.approx(np.mean(rest), rel=1e-12)
    # An argument overrides the metadata.
    evaluator = SemanticSegmentationEvaluator(NAME, training_names=["Hound", "cat_", "sky"])
    results = results_of(evaluator, records, outputs)
    seen = [results["ACC-dog, hound"], results["ACC-cat"], results["ACC-sky"]]
    assert results["mAcc-seen"] == pytest.approx(np.mean(seen), rel=1e-12)
    assert results["mAcc-unseen"] == results["ACC-grass"]
    # The group of the one class without pixels is absent.
    evaluator = SemanticSegmentationEvaluator(NAME, training_names=CLASSES[:4])
    results = results_of(evaluator, records, outputs)
    assert results["mIoU-seen"] == results["mIoU"]
    assert not any("unseen" in key for key in results)


def test_without_training_names_there_are_no_groups(dataset):
    records, maps = dataset()
    outputs = [{"sem_seg": scores} for scores in guesses(maps, 5)]
    results = results_of(SemanticSegmentationEvaluator(NAME), records, outputs)
    assert not any("seen" in key for key in results)


def test_everything_from_the_background_on_is_background(dataset):
    records, maps = dataset(["cat", "dog", "background"], background_class=2)
    maps = [np.where(labels == 1, 2, labels) for labels in maps]  # cats and background
    for record, labels in zip(records, maps, strict=True):
        Image.fromarray(labels.astype(np.uint8)).save(record["sem_seg_file_name"])
    predictions = [
        np.where(labels == 2, 2 + np.arange(labels.size).reshape(labels.shape) % 5, 0)
        for labels in maps
    ]
    results = results_of(
        SemanticSegmentationEvaluator(NAME, training_names=["cat"]),
        records,
        [{"sem_seg_labels": torch.from_numpy(p)} for p in predictions],
    )
    assert results["mIoU"] == results["IoU-background"] == 100
    assert "mIoU-unseen" not in results  # the background belongs to neither group
    # Scores of more classes, or of the objects alone, are fine; of fewer they are not.
    evaluator = SemanticSegmentationEvaluator(NAME)
    for classes in (2, 3, 9):
        evaluator.process(records[:1], [{"sem_seg": torch.rand(classes, 9, 13)}])
    with pytest.raises(ValueError, match="answered with 1 classes"):
        evaluator.process(records[:1], [{"sem_seg": torch.rand(1, 9, 13)}])


def test_results_of_all_processes_are_summed_up(dataset, monkeypatch):
    records, maps = dataset()
    outputs = [{"sem_seg": scores} for scores in guesses(maps, 5)]
    whole = results_of(SemanticSegmentationEvaluator(NAME), records, outputs)
    first, second = SemanticSegmentationEvaluator(NAME), SemanticSegmentationEvaluator(NAME)
    first.process(records[:1], outputs[:1])
    second.process(records[1:], outputs[1:])
    sent = []
    monkeypatch.setattr(comm, "gather", lambda data: sent.append(data) or [])
    monkeypatch.setattr(comm, "is_main_process", lambda: False)
    assert second.evaluate() is None
    monkeypatch.setattr(comm, "gather", lambda data: [data, *sent])
    monkeypatch.setattr(comm, "is_main_process", lambda: True)
    assert first.evaluate()["sem_seg"]["mIoU"] == whole["mIoU"]


def test_json_and_table(dataset, tmp_path):
    records, maps = dataset(seen_classes=["cat"])
    evaluator = SemanticSegmentationEvaluator(NAME, output_dir=tmp_path / "out")
    evaluator.process(records, [{"sem_seg": scores} for scores in guesses(maps, 5)])
    results = evaluator.evaluate()
    (file,) = (tmp_path / "out").iterdir()
    written = json.loads(file.read_text(), parse_constant=pytest.fail)
    assert file.name == "sem_seg_evaluation.json"
    assert (written["dataset"], written["images"]) == (NAME, 3)
    assert written["sem_seg"]["mIoU-seen"] == results["sem_seg"]["mIoU-seen"]
    assert written["sem_seg"]["IoU-unicorn"] is None
    assert written["confused"]
    assert all(pair["true"] != pair["predicted"] for pair in written["confused"])
    lines = per_class_table(results).splitlines()
    assert lines == per_class_table(results["sem_seg"]).splitlines()
    assert lines[0].split() == ["class", "IoU", "Acc"]
    assert [line[:10].strip() for line in lines[1:]] == CLASSES
    assert lines[-1].split() == ["unicorn", "-", "-"]
    assert lines[1].split()[1:] == [
        f"{results['sem_seg']['IoU-cat']:.2f}",
        f"{results['sem_seg']['ACC-cat']:.2f}",
    ]


def test_bad_input_is_named(dataset, tmp_path):
    records, _ = dataset()
    evaluator = SemanticSegmentationEvaluator(NAME)
    with pytest.raises(ValueError, match=r"answered with 3 classes, .* has 5 classes"):
        evaluator.process(records[:1], [{"sem_seg": torch.rand(3, 9, 13)}])
    with pytest.raises(ValueError, match=r"answered with class 5"):
        evaluator.process(records[:1], [{"sem_seg_labels": torch.full((9, 13), 5)}])
    with pytest.raises(ValueError, match=r"0\.jpg has 9 x 13 pixels, .*0\.png 13 x 9"):
        evaluator.process(records[:1], [{"sem_seg": torch.rand(5, 13, 9)}])
    with pytest.raises(KeyError, match=r"other\.jpg is no image of the data set"):
        evaluator.process([{"file_name": "other.jpg"}], [{"sem_seg": torch.rand(5, 9, 13)}])
    Image.fromarray(np.full((9, 13), 77, np.uint8)).save(tmp_path / "0.png")
    with pytest.raises(ValueError, match=r"0\.png holds 77, .* 5 classes"):
        evaluator.process(records[:1], [{"sem_seg": torch.rand(5, 9, 13)}])


def test_a_warning_where_nothing_is_labelled(dataset, caplog):
    dataset()
    results = SemanticSegmentationEvaluator(NAME).evaluate()["sem_seg"]
    assert math.isnan(results["mIoU"]) and math.isnan(results["mIoU-all"])
    assert "no labelled pixel" in caplog.text
