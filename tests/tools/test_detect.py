"""A tiny detector from training to named boxes on pictures, through the command line."""

import json
import subprocess
import sys
from dataclasses import replace

import pytest
import torch
from PIL import Image
from tool_runs import opens_with_ten_lines_and_warns_of_nothing

from fineclip.annotation.interfaces import create_proposer
from fineclip.datasets.description import read_description, write_description
from fineclip.images import read_image
from fineclip.models import DenseCLIP
from fineclip.text import Vocabulary, as_vocabulary
from fineclip.text.exemplars import Exemplar
from fineclip.text.vocabulary import Category
from fineclip.visualization import draw_boxes

pytest.importorskip("mmdet")

CONFIG = "configs/detection/scenes_fvit.py"
OPTIONS = ["pretrained=None", "max_epochs=1", "warmup_iters=1", "batch_size=4", "image_size=64"]


@pytest.fixture(scope="module")
def options(scenes):
    return ["--cfg-options", f"data_root={scenes}", *OPTIONS]


@pytest.fixture(scope="module")
def checkpoint(run_tool, options, tmp_path_factory):
    folder = tmp_path_factory.mktemp("detector")
    done = run_tool("train.py", CONFIG, "--work-dir", folder, *options)
    assert done.returncode == 0, done.stderr
    opens_with_ten_lines_and_warns_of_nothing(done, but="come from random weights")
    return folder / "epoch_1.pth"


def detect(run_tool, checkpoint, options, *args):
    return run_tool("detect.py", *args, "--config", CONFIG, "--checkpoint", checkpoint, *options)


def test_metrics_of_a_checkpoint(run_tool, checkpoint, options, tmp_path):
    done = run_tool(
        "test.py", CONFIG, checkpoint, "--amp", "bf16", "--out", tmp_path / "r.json", *options
    )
    assert done.returncode == 0, done.stderr
    metrics = json.loads((tmp_path / "r.json").read_text())
    assert {"coco/novel_ap50", "coco/base_ap50", "coco/all_ap50"} <= metrics.keys()


def test_names_are_found_and_drawn(run_tool, checkpoint, options, scenes, tmp_path):
    images = sorted((scenes / "val").iterdir())[:2]
    broken = tmp_path / "broken.jpg"
    broken.write_bytes(images[0].read_bytes()[:300])
    done = detect(
        run_tool,
        checkpoint,
        options,
        *images,
        broken,
        *["--vocabulary", "a red ring", "a zebra", "--score-threshold", "0"],
        *["--batch-size", 3, "--amp", "bf16", "--out", tmp_path / "out"],
    )
    # The other images are done all the same.
    assert done.returncode == 2
    assert f"error: {broken}: cannot be decoded" in done.stderr
    found = json.loads((tmp_path / "out/detections.json").read_text())
    assert {item["image_id"] for item in found} == {1, 2}
    names = {1: "a red ring", 2: "a zebra"}
    assert all(item["category_name"] == names[item["category_id"]] for item in found)
    for item in found:
        x, y, width, height = item["bbox"]
        assert x >= 0 and y >= 0 and x + width <= 64.1 and y + height <= 64.1
    scores = [item["score"] for item in found if item["image_id"] == 1]
    assert scores == sorted(scores, reverse=True)
    drawn = Image.open(tmp_path / "out" / f"0001_{images[0].stem}.png")
    assert drawn.size == (512, 512)  # of 64 x 64: letters need room


def test_the_config_lies_beside_the_weights(run_tool, checkpoint, scenes, tmp_path):
    image = sorted((scenes / "val").iterdir())[0]
    done = run_tool(
        *["detect.py", "--vocabulary", "a red ring", image, "--weights", checkpoint.parent],
        *["--out", tmp_path / "out"],
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert len(done.stdout.splitlines()) == 1
    assert (tmp_path / "out/detections.json").is_file()


def test_words_that_change(checkpoint, scenes):
    """One detector finds what a detector of its own would, for each set of words."""
    from detection.inference import WordDetector, load_detector

    image = read_image(sorted((scenes / "val").iterdir())[0])
    asked = WordDetector(checkpoint)
    for words in (["a zebra"], ["a red ring", "a zebra"]):
        found = load_detector(checkpoint, as_vocabulary(words)).detect(image, 0.3)
        drawn = draw_boxes(
            image.resize((512, 512)),
            [[8 * value for value in item["bbox"]] for item in found],
            [item["index"] for item in found],
            [f"{item['category']} {item['score']:.2f}" for item in found],
        )
        assert drawn.tobytes() == asked.draw(image, words, 0.3).tobytes()
        assert found


def test_classes_by_pictures(run_tool, checkpoint, scenes, tmp_path):
    """A region of a picture is seen as the region head sees a proposal there."""
    from detection.inference import load_detector

    image, other = sorted((scenes / "val").iterdir())[:2]
    done = run_tool(
        *["detect.py", image, "--weights", checkpoint.parent, "--vocabulary", "a zebra"],
        *["--exemplar", f"my part={other}@4,8,20,30", "--exemplar", f"a zebra={other}"],
        *["--score-threshold", "0", "--out", tmp_path],
    )
    assert (done.returncode, done.stderr) == (0, "")
    found = json.loads((tmp_path / "detections.json").read_text())
    assert {item["category_name"] for item in found} <= {"a zebra", "my part"}
    part = Category("my part", exemplars=(Exemplar(other, (4, 8, 20, 30)),), exemplar_weight=1)
    zebra = Category("a zebra", exemplars=(Exemplar(other),))
    detector = load_detector(checkpoint, Vocabulary("v", (zebra, part)))
    same = detector.detect(read_image(image))
    assert [item["score"] for item in found] == pytest.approx(
        [item["score"] for item in same], abs=1e-4
    )
    # The image is resized from 64 to 64 pixels, so a box has its numbers in the input as well.
    seen = {}
    pool = detector.model.roi_head.clip_features

    def remember(dense, rois, patch_size):
        seen["map"] = dense
        return pool(dense, rois, patch_size)

    detector.model.roi_head.clip_features = remember
    detector.detect(read_image(other))
    wanted = pool(seen["map"], torch.tensor([[0.0, 4, 8, 24, 38]]), (8, 8))[0]
    region, dense = detector.encode_region(
        read_image(other), torch.tensor([4, 8, 24, 38]) / torch.tensor(64.0)
    )
    torch.testing.assert_close(region, wanted / wanted.norm(), atol=1e-5, rtol=0)
    assert dense.shape == (128, 8, 8)


def test_exemplars_against_names(run_tool, checkpoint, scenes, tmp_path):
    known = read_description(scenes)
    train, val = (
        json.loads(known.splits[split].annotations.read_text())["annotations"]
        for split in ("train", "val")
    )
    looked_for = {box["category_id"] for box in val}
    large = next(
        box["category_id"]
        for box in train
        if min(box["bbox"][2:]) >= 12 and box["category_id"] in looked_for
    )
    categories = [
        replace(category, split="novel" if place == large else "base")
        for place, category in enumerate(known.vocabulary.categories, 1)
    ]
    data = tmp_path / "data.yaml"
    vocabulary = replace(known.vocabulary, categories=tuple(categories))
    write_description(replace(known, file=data, vocabulary=vocabulary))
    done = run_tool(
        *["evaluate_exemplars.py", "--weights", checkpoint, "--data", data],
        *["--shots", 2, "--exemplar-weights", 1, "--out", tmp_path / "t.json"],
    )
    assert done.returncode == 0, done.stderr
    (table,) = json.loads((tmp_path / "t.json").read_text())
    assert table.keys() == {"1"}
    assert all(0 <= value <= 100 for value in table["1"].values())
    assert "1 (crops alone)" in done.stdout


def test_detections_are_regions_of_look(run_tool, checkpoint, scenes, tmp_path):
    image, out = sorted((scenes / "val").iterdir())[0], tmp_path / "out"
    words = ["a red ring", "a zebra"]
    given = [image, "--score-threshold", 0.4, "--out", out]
    done = run_tool("detect.py", *given, "--vocabulary", *words, "--weights", checkpoint.parent)
    assert done.returncode == 0, done.stderr
    clip = tmp_path / "clip.pt"
    torch.save(DenseCLIP.create("ViT-Ti-8-scenes").clip.state_dict(), clip)
    done = run_tool(
        *("look.py", *given, "--words", *words, "--detector", checkpoint.parent),
        *("--model", "ViT-Ti-8-scenes", "--weights", clip, "--no-relevance"),
    )
    assert (done.returncode, done.stderr) == (0, "")
    detected = [item["bbox"] for item in json.loads((out / "detections.json").read_text())]
    looked = json.loads((out / f"0001_{image.stem}.json").read_text())
    assert [region["bbox"] for region in looked["regions"]] == [
        pytest.approx(box, abs=0.02) for box in detected
    ]
    assert detected


@pytest.mark.parametrize(
    ("images", "names", "message"),
    [
        ("empty", ["--vocabulary", "a ring"], "holds no images"),
        ("missing.jpg", ["--vocabulary", "a ring"], "missing.jpg does not exist"),
        (".", ["--vocabulary-file", "no_such_list"], "unknown vocabulary 'no_such_list'"),
        ("image.png", ["--vocabulary", "a ring"], "nowhere.pth does not exist"),
    ],
)
def test_bad_input(run_tool, options, tmp_path, images, names, message):
    (tmp_path / "empty").mkdir()
    Image.new("RGB", (8, 8)).save(tmp_path / "image.png")
    done = detect(
        run_tool, "nowhere.pth", options, tmp_path / images, *names, "--out", tmp_path / "out"
    )
    assert done.returncode == 2
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith("error: ") and message in last
    assert not (tmp_path / "out").exists()


def of_a_segmenter(state):
    prefix = "sem_seg_head.predictor.clip_model."
    visual = {k: v for k, v in state.items() if k.startswith("backbone.visual.")}
    return {k.replace("backbone.", prefix): v for k, v in visual.items()}, "(CAT-Seg naming)"


def with_40_keys_missing(state):
    return dict(list(state.items())[40:]), "40 missing keys: backbone."


def of_another_shape(state):
    key = "rpn_head.rpn_cls.weight"
    return state | {key: state[key][:, :9].clone()}, f"1 wrong shape: {key}"


def of_another_vocabulary(state):
    key = "roi_head.bbox_head.all_embeddings"
    return state | {key: state[key][:, :9].clone()}, "set keep_vocabulary=True"


@pytest.mark.parametrize(
    "make", [of_a_segmenter, with_40_keys_missing, of_another_shape, of_another_vocabulary]
)
def test_checkpoints_of_other_models(run_tool, checkpoint, options, scenes, tmp_path, make):
    trained = torch.load(checkpoint, weights_only=True)
    path = tmp_path / "other.pth"
    trained["state_dict"], message = make(dict(trained["state_dict"]))
    torch.save(trained, path)
    image = sorted((scenes / "val").iterdir())[0]
    out = tmp_path / "out"
    for done in (
        detect(run_tool, path, options, image, "--vocabulary", "a ring", "--out", out),
        run_tool("test.py", CONFIG, path, "--work-dir", tmp_path / "w", *options),
        run_tool("train.py", CONFIG, "--resume", path, "--work-dir", tmp_path / "w", *options),
    ):
        assert done.returncode == 2, done.stderr
        (line,) = [line for line in done.stderr.splitlines() if line.startswith("error: ")]
        assert line.startswith(f"error: {path}")
        assert message in line
    assert not out.exists()


def test_mmdets_own_interfaces(checkpoint, scenes):
    """In a process of its own: what mmdet's users call, with nothing of ours imported first."""
    code = """
import sys
from mmengine.config import Config
from mmdet.apis import DetInferencer, inference_detector, init_detector
from mmdet.registry import MODELS

folder, image = sys.argv[1:]
config = Config.fromfile(f"{folder}/scenes_fvit.py")
model = init_detector(config, f"{folder}/epoch_1.pth", device="cpu")
assert type(model) is MODELS.get("FViT")
one = inference_detector(model, image).pred_instances
inferencer = DetInferencer(f"{folder}/scenes_fvit.py", f"{folder}/epoch_1.pth", device="cpu")
other = inferencer(image, no_save_vis=True)["predictions"][0]
assert len(one.scores) == len(other["scores"]) > 0
assert abs(float(one.scores.max()) - max(other["scores"])) < 1e-5
assert len(inferencer.model.dataset_meta["classes"]) == 36
"""
    image = sorted((scenes / "val").iterdir())[0]
    done = subprocess.run(
        [sys.executable, "-c", code, str(checkpoint.parent), str(image)],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr


def test_time_split(run_tool, options, tmp_path):
    modes = "float32,own_padding,one_by_one,mmdet_heads"
    done = run_tool(
        *["benchmark_detection.py", "--config", CONFIG, "--image-size", 48, 64, "--classes", 5],
        *["--modes", modes, "--repeats", 1, "--batch", 2, "--out", tmp_path / "split.json"],
        *options,
    )
    assert done.returncode == 0, done.stderr
    assert "| trunk |" in done.stdout and "| fusion |" in done.stdout
    found = json.loads((tmp_path / "split.json").read_text())["modes"]
    assert ",".join(found) == modes
    for split in found.values():
        assert sum(split["shares"].values()) == pytest.approx(1)
        assert all(seconds > 0 for seconds in split["seconds"].values())
        assert 0 < split["proposals"] <= 50
    for mode in ("one_by_one", "mmdet_heads"):  # these change time alone
        assert found[mode]["speed"] > 0
        assert found[mode]["score_difference"] < 1e-3 and found[mode]["box_difference"] < 1e-2
    assert found["own_padding"]["score_difference"] > 1e-3


def test_as_a_proposer_of_the_data_engine(checkpoint, scenes):
    words = ["a red ring", "a zebra"]
    proposer = create_proposer(f"fvit:{checkpoint.parent}", vocabulary=words, score_threshold=0.0)
    assert list(proposer.categories) == words
    image = read_image(sorted((scenes / "val").iterdir())[0])
    found, narrow = proposer.propose([image, image.crop((0, 0, 9, 60))], ["", ""], [])
    assert len(found.boxes) and set(found.names) <= set(words)
    assert (found.boxes >= 0).all() and (found.boxes[:, 2:] <= image.size).all()
    assert (narrow.boxes[:, 2:] <= (9, 60)).all()
    with pytest.raises(ValueError, match="needs a vocabulary"):
        create_proposer(f"fvit:{checkpoint.parent}")
