"""Adapters of detectors: real code of the libraries, tiny random models, no network."""

import numpy as np
import pytest
import tiny_transformers as tiny
import torch
import torchvision
from PIL import Image

from fineclip.annotation.interfaces import create_proposer
from fineclip.annotation.proposers.found import by_group, found_in
from fineclip.annotation.proposers.huggingface import _word_of

NAME, WORDS = "ssdlite320_mobilenet_v3_large", ["cat", "red umbrella", "dog"]


def pictures():
    """Of several sizes, two of them alike, tiny ones whose sides look like channels, a grey one."""
    rng = np.random.default_rng(0)
    sizes = [(60, 40), (40, 60), (60, 40), (1, 1), (2, 3), (3, 1)]
    noise = [rng.integers(0, 256, (h, w, 3), np.uint8) for w, h in sizes]
    return [*map(Image.fromarray, noise), Image.new("L", (30, 30), 90)]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """Folder of a tiny model by how it is made."""
    root = tmp_path_factory.mktemp("models")
    return lambda kind: tiny.make(kind, root / kind.__name__)


def check(proposer, names, images=None):
    """Boxes lie in their images, have known names, and are the same whatever is beside them."""
    images = images or pictures()
    together = proposer.propose(images, [""] * len(images), [])
    assert sum(len(found.boxes) for found in together) > len(images)
    for image, found in zip(images, together, strict=True):
        assert found.boxes.dtype == found.scores.dtype == np.float32
        assert (found.boxes[:, 2:] > found.boxes[:, :2]).all()
        assert (found.boxes >= 0).all() and (found.boxes[:, 2:] <= image.size).all()
        assert (np.diff(found.scores) <= 0).all()
        assert set(found.names) <= set(names)
    for place in (0, 1):
        (alone,) = proposer.propose([images[place]], [""], [])
        np.testing.assert_allclose(alone.boxes, together[place].boxes, atol=1e-4)
    assert proposer.propose([], [], []) == []
    assert proposer.needs_images


@pytest.mark.parametrize("kind", [tiny.owlv2, tiny.grounding_dino])
def test_detectors_of_words(models, kind):
    proposer = create_proposer(f"hf:{models(kind)}", vocabulary=WORDS, score_threshold=0.01)
    assert proposer.categories == tuple(WORDS)
    check(proposer, ["", *WORDS])  # where none of the tokens that fit is of a word
    with pytest.raises(ValueError, match="needs a vocabulary"):
        create_proposer(f"hf:{models(kind)}")


def test_more_words_than_fit_a_prompt(models, monkeypatch):
    from fineclip.annotation.proposers import huggingface

    one = create_proposer(f"hf:{models(tiny.owlv2)}", vocabulary=WORDS, score_threshold=0.0)
    (all_at_once,) = one.propose(pictures()[:1], [""], [])
    monkeypatch.setattr(huggingface, "_OTHER_WORDS", 2)
    (in_turn,) = one.propose(pictures()[:1], [""], [])
    assert set(in_turn.names) == {*WORDS}
    # OWLv2 gives each box its best word; asked in two turns, each box comes twice.
    assert len(in_turn.boxes) == 2 * len(all_at_once.boxes)


def test_detectors_of_classes(models):
    proposer = create_proposer(f"hf:{models(tiny.rt_detr)}", score_threshold=0.01)
    assert proposer.categories == tuple(f"thing {place}" for place in range(4))
    check(proposer, proposer.categories)
    assert proposer.identity.startswith("hf:rt_detr@sha256:")
    with pytest.raises(ValueError, match="has classes of its own"):
        create_proposer(f"hf:{models(tiny.rt_detr)}", vocabulary=WORDS)
    none = create_proposer(f"hf:{models(tiny.rt_detr)}", score_threshold=0.999, amp="bf16")
    assert [len(found.boxes) for found in none.propose(pictures()[:2], ["", ""], [])] == [0, 0]


def test_mask_generators(models):
    options = {"points_per_side": 2, "score_threshold": -1.0, "stability_threshold": 0.0}
    proposer = create_proposer(f"sam:{models(tiny.sam)}", **options)
    assert proposer.categories == ()
    check(proposer, [""])
    strict = create_proposer(f"sam:{models(tiny.sam)}", points_per_side=2, score_threshold=1.0)
    assert len(strict.propose(pictures()[:1], [""], [])[0].boxes) == 0
    with pytest.raises(ValueError, match="generates no masks"):
        create_proposer(f"sam:{models(tiny.owlv2)}")


def test_torchvision(tmp_path):
    torch.manual_seed(0)
    model = torchvision.models.get_model(NAME, weights=None, weights_backbone=None, num_classes=4)
    file = tmp_path / "ssd.pt"
    torch.save(model.state_dict(), file)
    proposer = create_proposer(f"torchvision:{NAME},{file}", vocabulary=WORDS)
    check(proposer, WORDS, pictures()[2:])
    # Label 1 is the first class: label 0 is torchvision's background.
    (own,) = model.eval()([torchvision.transforms.functional.to_tensor(pictures()[0])])
    best = own["labels"][own["scores"].argmax()]
    assert proposer.propose(pictures()[:1], [""], [])[0].names[0] == WORDS[best - 1]
    with pytest.raises(ValueError, match="does not fit"):
        create_proposer(f"torchvision:{NAME},{file}", vocabulary=WORDS[:2])
    with pytest.raises(ValueError, match="set a vocabulary"):
        create_proposer(f"torchvision:{NAME},{file}")
    with pytest.raises(ValueError, match="did you mean"):
        create_proposer("torchvision:ssdlite320_mobilenet")


class Network:
    """Answers as OpenCV's networks do."""

    def __init__(self, *rows):
        self.rows = np.array(rows, np.float32).reshape(1, 1, -1, 7)

    def setInput(self, blob):
        self.blob = blob

    def forward(self):
        return self.rows


def test_opencv(tmp_path, monkeypatch):
    for name in ("a.pb", "a.pbtxt"):
        (tmp_path / name).touch()
    network = Network(
        [0, 18, 0.4, 0.5, 0.25, 1.5, 0.5],  # COCO's id of dog; beyond the right edge
        [0, 1, 0.9, 0.0, 0.0, 0.5, 0.5],
        [0, 1, 0.01, 0.0, 0.0, 0.5, 0.5],  # below the threshold
        [0, 12, 0.3, 0.0, 0.0, 0.1, 0.1],  # an id that COCO does not use
    )
    monkeypatch.setattr("cv2.dnn.readNet", lambda model, config: network)
    spec = f"opencv:{tmp_path}/a.pb,{tmp_path}/a.pbtxt"
    proposer = create_proposer(spec, vocabulary="coco", side=20)
    red = Image.new("RGB", (40, 20), (255, 0, 0))
    (found,) = proposer.propose([red], [""], [])
    assert found.names == ("person", "dog", "")
    np.testing.assert_allclose(found.boxes[:2], [[0, 0, 20, 10], [20, 5, 40, 10]])
    assert network.blob.shape == (1, 3, 20, 20)
    assert network.blob.mean((0, 2, 3)).tolist() == [255, 0, 0]  # RGB
    network.rows = np.zeros((5, 84), np.float32)
    with pytest.raises(ValueError, match="list of detections"):
        proposer.propose([red], [""], [])


def test_files_that_opencv_cannot_read(tmp_path):
    (tmp_path / "a.pb").write_bytes(b"nothing of the kind")
    with pytest.raises(ValueError, match=r"a\.pb cannot be read"):
        create_proposer(f"opencv:{tmp_path}/a.pb")
    with pytest.raises(FileNotFoundError, match=r"b\.pb does not exist"):
        create_proposer(f"opencv:{tmp_path}/b.pb")


def test_nothing_of_a_model_is_unpickled_or_run(tmp_path):
    pickled = tiny.pickled(tiny.make(tiny.owlv2, tmp_path / "pickled"))
    with pytest.raises(ValueError, match="pickles are never loaded"):
        create_proposer(f"hf:{pickled}", vocabulary=WORDS)
    with pytest.raises(ValueError, match="never run"):
        create_proposer(f"hf:{tiny.with_code(tmp_path / 'code')}")
    with pytest.raises(ValueError, match="pickles, which are never loaded"):
        create_proposer("ultralytics:yolov9e.pt")


def test_words_are_missing(tmp_path):
    for spec in ("hf", "hf:", "torchvision", "sam: ", "opencv", "ultralytics"):
        with pytest.raises(ValueError, match="a model is missing"):
            create_proposer(spec)
    with pytest.raises(ValueError, match=r"expected ARCHITECTURE\.yaml,WEIGHTS"):
        create_proposer("ultralytics:yolov9e")
    with pytest.raises(ValueError, match=r"model .*/nothing: "):
        create_proposer(f"hf:{tmp_path}/nothing")
    with pytest.raises(ValueError, match="no option 'threshold'; did you mean score_threshold"):
        create_proposer("hf:x", threshold=0.5)
    with pytest.raises(ValueError, match="score_threshold: expected a number from -1 to 1"):
        create_proposer("hf:x", score_threshold="high")
    with pytest.raises(ValueError, match="amp: expected bf16"):
        create_proposer("hf:x", amp="half")


def test_boxes_are_cut_to_their_image():
    boxes = [[-5, -5, 10, 10], [5, 5, 5, 9], [float("nan")] * 4, [30, 0, 50, 9], [1, 1, 99, 99]]
    found = found_in(Image.new("RGB", (20, 10)), boxes, [0.1, 1, 1, 1, 1.5], "abcde")
    assert found.boxes.tolist() == [[1, 1, 20, 10], [0, 0, 10, 10]]
    assert found.names == ("e", "a") and found.captions == (None, None)
    np.testing.assert_allclose(found.scores, [1, 0.1])


def test_phrases_stand_for_words():
    words = ["Cat", "red umbrella", "red"]
    phrases = ["cat", "red", "umbrella", "a red umbrella dog", "[CLS] .", "", None]
    found = [_word_of(phrase, words) for phrase in phrases]
    assert found == ["Cat", "red", "red umbrella", "red umbrella", "", "", ""]


def test_groups_keep_their_order():
    runs = []

    def run(items):
        runs.append(items)
        return [item * 10 for item in items]

    assert by_group([1, 2, 3, 4], lambda item: item % 2, run) == [10, 20, 30, 40]
    assert runs == [[1, 3], [2, 4]]
