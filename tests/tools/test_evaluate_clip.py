import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from fineclip.annotations.predictions import read_predictions
from fineclip.datasets.segmentation import SEGMENTATION_SETS
from fineclip.evaluation.tasks import DEFAULT_TASKS, TASKS
from fineclip.models.dense_maps import DENSE_MAPS

_SCRIPT = Path(__file__).parents[2] / "tools" / "evaluate_clip.py"
_spec = importlib.util.spec_from_file_location("evaluate_clip", _SCRIPT)
evaluate_clip = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(evaluate_clip)

CATEGORIES = [{"id": 1, "name": "cat", "isthing": 1}, {"id": 2, "name": "sky", "isthing": 0}]


@pytest.fixture
def root(tmp_path):
    root = tmp_path / "data"
    rng = np.random.default_rng(0)
    for folder in ("val", "annotations/panoptic_val"):
        (root / folder).mkdir(parents=True)
    images, panoptic, instances, captions = [], [], [], []
    for i in range(3):
        Image.fromarray(rng.integers(0, 255, (48, 64, 3), dtype=np.uint8)).save(
            root / "val" / f"{i}.png"
        )
        ids = np.zeros((48, 64, 3), dtype=np.uint8)
        ids[:16, :, 0] = 7
        Image.fromarray(ids).save(root / "annotations" / "panoptic_val" / f"{i}.png")
        images.append({"id": i, "file_name": f"{i}.png", "width": 64, "height": 48})
        segments = [
            {"id": 7, "category_id": 2, "bbox": [0, 0, 64, 16]},
            {"id": 8, "category_id": 1, "bbox": [4, 20, 20, 20]},
        ]
        panoptic.append({"image_id": i, "file_name": f"{i}.png", "segments_info": segments})
        instances.append({"image_id": i, "category_id": 1, "bbox": [4, 20, 20, 20]})
        captions += [{"image_id": i, "caption": text} for text in (f"cat {i}", f"a sky, {i}")]
    for name, entries in (
        ("panoptic_val", panoptic),
        ("instances_val", instances),
        ("captions_val", captions),
    ):
        content = {"images": images, "annotations": entries, "categories": CATEGORIES}
        (root / "annotations" / f"{name}.json").write_text(json.dumps(content))
    return root


def call(root, *more):
    fixed = ["--model", "ViT-Ti-16", "--workers", "0", "--device", "cpu", "--templates", "photo"]
    return evaluate_clip.main([*fixed, "--data-root", str(root), *map(str, more)])


def test_evaluates_both_tasks_and_writes_json(root, tmp_path, capsys):
    out, kept = tmp_path / "results.json", tmp_path / "kept.json"
    assert call(root, "--out", out, "--save-predictions", kept) == 0
    predictions = read_predictions(kept)
    assert predictions.image_root == str(root / "val") and predictions.categories == ("cat", "sky")
    assert predictions.images.keys() == {"0.png", "1.png", "2.png"}
    for sky, cat in predictions.images.values():
        assert (sky.true, cat.true) == (1, 0)
        assert cat.box == (4, 20, 20, 20) and -1 <= cat.score <= 1
    kept.unlink()
    report = json.loads(out.read_text())
    assert list(report) == ["model", "pretrained", "data_root", "tasks", "metrics"]
    assert report["tasks"]["box_classification"]["annotations"].endswith("panoptic_val.json")
    metrics = report["metrics"]
    assert metrics["box_regions"] == 6
    assert metrics["box_top5"] == metrics["i2t_r5"] == metrics["t2i_r5"] == 100.0
    assert {"thing_box_top1", "stuff_box_top1", "i2t_r1", "t2i_r10"} <= set(metrics)
    assert set(tmp_path.iterdir()) == {root, out}  # no temporary file is left
    table = capsys.readouterr().out
    assert "box_top1" in table
    assert "t2i_r1" in table


def test_all_tasks_in_one_run(root, tmp_path):
    """Label maps, and folders of classes beside the images."""
    (root / "annotations" / "semantic_val").mkdir()
    for i in range(3):
        Image.fromarray(np.full((48, 64), i % 2, np.uint8)).save(
            root / "annotations" / "semantic_val" / f"{i}.png"
        )
        for folder in ("train/cat", "train/sky", "val/cat", "val/sky"):
            (root / folder).mkdir(parents=True, exist_ok=True)
            (root / folder / f"{i}.png").write_bytes((root / "val" / f"{i}.png").read_bytes())
    out = tmp_path / "results.json"
    options = ("--vocabulary", "cat", "sky", "--shots", 2, 1, "--seeds", 1, "--image-size", 32)
    assert call(root, "--tasks", *TASKS, *options, "--dense-map", "sclip", "--out", out) == 0
    tasks = json.loads(out.read_text())["tasks"]
    assert list(tasks) == list(TASKS)
    for task, metric in (
        ("box_classification", "box_top1"),
        ("retrieval", "i2t_r1"),
        ("segmentation", "mIoU"),
        ("classification", "classification_top1"),
        ("few_shot", "few_shot2_top1"),
        ("mask_classification", "mask_top1"),
    ):
        assert 0 <= tasks[task]["metrics"][metric] <= 100


def test_masks_of_panoptic_segments_and_of_instances(root, tmp_path, capsys):
    """Sky covers the upper third, the cat all of the rest that has its id."""
    for name, regions in (("panoptic", 3), ("instances", 3)):
        out = tmp_path / f"{name}.json"
        assert call(root, "--tasks", "mask_classification", "--out", out) == 0
        metrics = json.loads(out.read_text())["metrics"]
        assert (metrics["mask_regions"], metrics["mask_top5"]) == (regions, 100.0)
        file = root / "annotations" / "instances_val.json"
        content = json.loads(file.read_text())
        for annotation in content["annotations"]:
            annotation["segmentation"] = [[4, 20, 24, 20, 24, 40]]
        file.write_text(json.dumps(content))
        (root / "annotations" / "panoptic_val.json").unlink(missing_ok=True)
    assert "classifying the masks of" in capsys.readouterr().out


def test_names_in_help_are_those_of_the_package():
    assert tuple(DENSE_MAPS) == evaluate_clip.DENSE_MAPS
    assert set(evaluate_clip.TASKS) == set(TASKS)
    assert evaluate_clip.DEFAULT_TASKS == DEFAULT_TASKS
    assert ", ".join(sorted(SEGMENTATION_SETS)[:3]) == "ade150, ade847, coco-stuff"


def test_runs_repeat_and_do_not_depend_on_the_batch_size(root, tmp_path):
    for size in (1, 3):
        assert call(root, "--batch-size", size, "--out", tmp_path / f"{size}.json") == 0
    one, three = (json.loads((tmp_path / f"{size}.json").read_text()) for size in (1, 3))
    assert one == three


def test_skipped_images_are_counted(root, tmp_path):
    (root / "val" / "1.png").write_bytes(b"broken")
    assert call(root, "--batch-size", 1, "--out", tmp_path / "f.json") == 0
    metrics = json.loads((tmp_path / "f.json").read_text())["metrics"]
    assert (metrics["box_skipped"], metrics["retrieval_skipped"]) == (1, 1)
    assert (metrics["box_regions"], metrics["retrieval_images"]) == (4, 2)


def test_falls_back_to_instances_and_says_so(root, tmp_path, capsys):
    (root / "annotations" / "panoptic_val.json").unlink()
    assert call(root, "--tasks", "box_classification", "--out", tmp_path / "f.json") == 0
    assert "no panoptic annotations: classifying the boxes of" in capsys.readouterr().out
    report = json.loads((tmp_path / "f.json").read_text())
    assert report["metrics"]["box_regions"] == 3
    assert list(report["tasks"]) == ["box_classification"]


def test_given_annotations_win(root, tmp_path):
    other = tmp_path / "mine.json"
    content = json.loads((root / "annotations" / "instances_val.json").read_text())
    content["annotations"] = content["annotations"][:1]
    other.write_text(json.dumps(content))
    out = tmp_path / "f.json"
    tasks = ("--tasks", "box_classification")
    assert call(root, *tasks, "--annotations", other, "--out", out) == 0
    assert json.loads(out.read_text())["metrics"]["box_regions"] == 1


def test_larger_padded_input(root, tmp_path):
    options = ("--image-size", 96, "--resize", "pad", "--tasks", "box_classification")
    assert call(root, *options, "--out", tmp_path / "f.json") == 0
    task = json.loads((tmp_path / "f.json").read_text())["tasks"]["box_classification"]
    assert (task["image_size"], task["resize"]) == (96, "pad")


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (["--split", "test"], "has no image folder test/"),
        (["--image-size", "50"], "not a multiple of the patch size 16"),
        (["--vocabulary", "no_such_list"], "unknown vocabulary 'no_such_list'"),
        (["--vocabulary", "voc20"], "but 'aeroplane' in the vocabulary 'voc20'"),
        (["--templates", "vidl"], "unknown templates 'vidl'"),
        (["--pretrained", "nowhere/weights.pt"], "nowhere/weights.pt does not exist"),
        (["--model", "ViT-Ti-17"], "unknown model 'ViT-Ti-17'"),
        (["--dense-map", "proxyclip"], "needs a second model: --guide and --guide-weights"),
        (["--guide", "test_vit", "--guide-weights", __file__], "--guide is for --dense-map proxy"),
        (["--benchmark", "voc20"], "--benchmark is for --tasks segmentation, not for box_class"),
        (["--tasks", "segmentation"], "name the classes that the label maps of"),
        (["--tasks", "segmentation", "--vocabulary", "cat", "sky"], "semantic_val should hold the"),
        (["--tasks", "classification"], "val should hold a folder of images for each class"),
        (["--tasks", "few_shot"], "has no folder train/ with a folder for each class"),
        (["--class-map", "nowhere.txt"], "--class-map: nowhere.txt does not exist"),
        (["--device", "quantum"], "device quantum"),
        (["--tasks", "retrieval", "--save-predictions", "p.json"], "expected one task"),
        (
            ["--tasks", "box_classification", "mask_classification", "--save-predictions", "p"],
            "expected one task whose answers it keeps (box_classification, mask_class",
        ),
        (["--annotations", "missing.json"], "annotations: missing.json does not exist"),
        (["--out", "no/such/folder/f.json"], "no/such/folder does not exist"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2(root, capsys, more, message):
    assert call(root, *more) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert message in error
    assert "\n" not in error


def test_missing_data(root, tmp_path, capsys):
    assert call(tmp_path / "nowhere") == 2
    assert "nowhere does not exist" in capsys.readouterr().err
    (root / "annotations" / "captions_val.json").unlink()
    assert call(root, "--tasks", "retrieval") == 2
    assert "retrieval needs captions_val.json" in capsys.readouterr().err


def test_nothing_usable_is_an_error_and_writes_nothing(root, tmp_path, capsys):
    for file in (root / "val").iterdir():
        file.write_bytes(b"broken")
    assert call(root, "--out", tmp_path / "f.json") == 2
    error = capsys.readouterr().err
    assert error.startswith(f"error: {root / 'val'}") and "images cannot be used" in error
    assert not (tmp_path / "f.json").exists()


@pytest.mark.parametrize(
    "more",
    [["--tasks", "detection"], ["--batch-size", "0"], ["--amp", "x"], ["--guide", "test_vit"]],
)
def test_bad_usage(root, more):
    with pytest.raises(SystemExit) as exit_:
        call(root, *more)
    assert exit_.value.code == 2


def test_candidates_from_names_and_text_files(root, tmp_path):
    file = tmp_path / "names.txt"
    file.write_text("sky\nowl\ncat\n")
    metrics = []
    for words in (["sky", "owl", "cat"], [file]):
        out = tmp_path / "results.json"
        options = ["--tasks", "box_classification", "--out", out]
        assert call(root, *options, "--vocabulary", *words) == 0
        metrics.append(json.loads(out.read_text())["metrics"])
    assert metrics[0] == metrics[1]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["cat", "cat", "sky"], "name 1 and name 2 are both 'cat'"),
        (["cat", "sky", "background"], "'background' is no class"),
        (["owl", "cat"], "category 2 ('sky') is not in the vocabulary"),
    ],
)
def test_candidates_that_are_no_vocabulary(root, capsys, words, message):
    assert call(root, "--tasks", "box_classification", "--vocabulary", *words) == 2
    assert message in capsys.readouterr().err


DESCRIBED = """
classes: [cat, sky]
ignore_label: 7
test:
  images: val
  annotations: annotations/instances_val.json
  captions: annotations/captions_val.json
  masks: maps
"""


def test_a_described_data_set(root, tmp_path, capsys):
    (root / "maps").mkdir()
    for i in range(3):
        labels = np.full((48, 64), 7, np.uint8)
        labels[20:40, 4:24] = i % 2
        Image.fromarray(labels).save(root / "maps" / f"{i}.png")
    (root / "data.yaml").write_text(DESCRIBED)
    fixed = ["--model", "ViT-Ti-16", "--workers", "0", "--device", "cpu", "--templates", "photo"]
    out = tmp_path / "out.json"
    assert evaluate_clip.main([*fixed, "--data", str(root), "--out", str(out)]) == 0
    report = json.loads(out.read_text())
    assert set(report["tasks"]) == {"box_classification", "segmentation", "retrieval"}
    metrics = report["metrics"]
    assert metrics["box_regions"] == 3 and metrics["retrieval_texts"] == 6
    assert metrics["segmentation_images"] == 3 and metrics["segmentation_classes"] == 2
    assert report["tasks"]["segmentation"]["annotations"] == str(root / "maps")
    capsys.readouterr()
    for more, message in (
        (["--tasks", "few_shot"], "few_shot needs a folder per class"),
        (["--split", "val"], "has no split 'val'"),
    ):
        assert evaluate_clip.main([*fixed, "--data", str(root), *more]) == 2
        assert message in capsys.readouterr().err
