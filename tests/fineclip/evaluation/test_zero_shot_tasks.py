"""Segmentation, masks, classes and probes, each against a count of its own in NumPy."""

import json
import math

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image

from fineclip.datasets.image_folder import (
    ShotDraw,
    draw_shots,
    find_image_folder,
    read_class_map,
)
from fineclip.datasets.segmentation import LabelledImages
from fineclip.datasets.transforms import ImageTransform
from fineclip.datasets.views import Views, WindowViews
from fineclip.evaluation.classification import PENALTIES, FewShotMetric, fit_logistic
from fineclip.evaluation.folder import evaluate_folder
from fineclip.evaluation.segmentation import SegmentationMetric, label_pixels
from fineclip.images import UnusableImageError
from fineclip.models import DenseCLIP, build_class_embeddings
from fineclip.models.class_embeddings import encode_prompts
from fineclip.models.pooling import pool_masks

NAMES = ("cat", "sky", "owl", "wall")
MASKS = {(10, 12): [[1, 0], [0, 0]], (20, 24): [[1, 0], [1, 0]], (30, 12): [[1, 0.5], [0, 0]]}
"""Right and lower end of rectangles, and the share of each cell (12 x 20 pixels) in its weight."""
CLIP = "ViT-Ti-16"


def bilinear(grid, size):
    """(h, w) -> size, one pixel at a time; borders repeat."""
    (height, width), found = grid.shape, np.zeros(size)

    def place(index, old, new):
        at = min(max((index + 0.5) * old / new - 0.5, 0), old - 1)
        return int(at), min(int(at) + 1, old - 1), at - int(at)

    for y in range(size[0]):
        for x in range(size[1]):
            top, bottom, v = place(y, height, size[0])
            left, right, u = place(x, width, size[1])
            found[y, x] = (1 - v) * ((1 - u) * grid[top, left] + u * grid[top, right]) + v * (
                (1 - u) * grid[bottom, left] + u * grid[bottom, right]
            )
    return found


def unit(*shape, dim):
    return F.normalize(torch.randn(*shape, dtype=torch.float64), dim=dim)


def test_pixels_get_the_class_with_the_largest_resized_cosine():
    dense, classes = unit(1, 6, 2, 3, dim=1), unit(5, 6, dim=1)
    views = Views(32, (32, 32), (32, 32))
    labels, sure = label_pixels(dense, classes, views, (5, 7), scale=10.0)
    cosines = np.einsum("dhw,kd->khw", dense[0].numpy(), classes.numpy())
    resized = np.stack([bilinear(grid, (5, 7)) for grid in cosines])
    assert (labels.numpy() == resized.argmax(axis=0)).all()
    exps = np.exp(10 * resized)
    np.testing.assert_allclose(sure.numpy(), exps.max(axis=0) / exps.sum(axis=0), rtol=1e-6)


def test_windows_are_averaged_and_padding_is_cut_off(monkeypatch):
    monkeypatch.setattr("fineclip.evaluation.segmentation._MOST_SCORES", 1)  # a class at a time
    dense, classes = unit(2, 6, 2, 2, dim=1), unit(5, 6, dim=1)
    views = Views(8, (8, 12), (6, 12), ((0, 0), (0, 4)))
    labels, sure = label_pixels(dense, classes, views, (4, 9), scale=10.0)
    scores = []
    for name in classes.numpy():
        canvas, counts = np.zeros((8, 12)), np.zeros((8, 12))
        for left, own in zip((0, 4), dense.numpy(), strict=True):
            canvas[:, left : left + 8] += bilinear(np.einsum("dhw,d->hw", own, name), (8, 8))
            counts[:, left : left + 8] += 1
        scores.append(bilinear((canvas / counts)[:6], (4, 9)))
    assert (labels.numpy() == np.argmax(scores, axis=0)).all()
    exps = np.exp(10 * np.array(scores))
    np.testing.assert_allclose(sure.numpy(), exps.max(axis=0) / exps.sum(axis=0), rtol=1e-6)


def test_windows_cover_the_image():
    image = Image.new("RGB", (50, 30))
    inputs, views = WindowViews(40, 32)(image)
    assert (views.canvas, views.inside) == ((40, 67), (40, 67))
    assert views.offsets == tuple((y, x) for y in (0, 8) for x in (0, 16, 32, 35))
    assert inputs.shape == (8, 3, 32, 32)
    with pytest.raises(ValueError, match="do not fit"):
        WindowViews(16, 32)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    """Three images with label maps and masks; three folders of images in two splits."""
    root = tmp_path_factory.mktemp("zero_shot")
    rng = np.random.default_rng(0)

    def save(file, values):
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(values.astype(np.uint8)).save(file)

    for i in range(3):
        save(root / "val" / f"{i}.jpg", rng.integers(0, 255, (24, 40, 3)))
        labels = rng.integers(0, 3, (24, 40))  # no wall
        labels[:4] = 255
        save(root / "annotations/semantic_val" / f"{i}.png", labels)
    images = [{"id": i, "file_name": f"{i}.jpg", "width": 40, "height": 24} for i in range(3)]
    categories = [{"id": k + 1, "name": name} for k, name in enumerate(NAMES)]
    annotations = [
        {"id": 3 * i + k, "image_id": i, "category_id": k + 1, "bbox": [0, 0, 30, 24]}
        | {"segmentation": [[0, 0, right, 0, right, bottom, 0, bottom]]}
        for i in range(3)
        for k, (right, bottom) in enumerate(MASKS)
    ]
    content = {"images": images, "annotations": annotations, "categories": categories}
    (root / "annotations/instances_val.json").write_text(json.dumps(content))
    for split, count in (("train", 7), ("test", 2)):
        for name in ("n1", "n2", "n3"):
            for i in range(count):
                save(root / split / name / f"{i}.png", rng.integers(0, 255, (20, 30, 3)))
    return root


@pytest.fixture(scope="module")
def clip():
    with torch.random.fork_rng():
        torch.manual_seed(0)  # the weights of evaluate_folder
        return DenseCLIP.create(CLIP).eval()


def run(root, *tasks, **options):
    options = {"templates": "photo", "workers": 0, "device": "cpu", "image_size": 32, **options}
    weights = options.pop("weights", None)
    return evaluate_folder(CLIP, weights, root, tasks=tasks, **options)["metrics"]


def test_words_are_encoded_once(root, clip, tmp_path, monkeypatch):
    """By the first task of the first evaluation, in the precision of an evaluation."""
    encoded = []

    def counted(clip, prompts, *args, **kwargs):
        encoded.extend(prompts)
        return encode_prompts(clip, prompts, *args, **kwargs)

    monkeypatch.setenv("FINECLIP_CACHE_DIR", str(tmp_path))
    monkeypatch.setattr("fineclip.models.class_embeddings.encode_prompts", counted)
    torch.save(clip.clip.state_dict(), tmp_path / "clip.pt")
    options = {"vocabulary": NAMES, "weights": str(tmp_path / "clip.pt")}
    found = run(root, "segmentation", "box_classification", **options)
    assert len(encoded) == len(set(encoded)) == len(NAMES)
    assert run(root, "segmentation", "box_classification", **options) == found
    assert found == run(root, "segmentation", "box_classification", vocabulary=NAMES)
    assert len(encoded) == 3 * len(NAMES)  # random weights, which no file holds, are not cached
    run(root, "segmentation", amp="bf16", **options)
    assert len(encoded) == 4 * len(NAMES)


def embedded(clip, pixels):
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (clip.image_mean, clip.image_std))
    return ((pixels.float() / 255 - mean) / std)[None]


@torch.no_grad()
@pytest.mark.parametrize("dense_map", ["value", "naclip"])
def test_segmentation_equals_a_count_of_its_own(root, clip, dense_map):
    found = run(root, "segmentation", vocabulary=NAMES, dense_map=dense_map)
    classes = build_class_embeddings(clip, NAMES, "photo")
    hits, union, own = (dict.fromkeys(range(4), 0) for _ in range(3))
    for i in range(3):
        image = Image.open(root / "val" / f"{i}.jpg")
        dense = clip.encode_dense(embedded(clip, ImageTransform(32)(image)), dense_map=dense_map)
        cosines = torch.einsum("dhw,kd->khw", dense[0], classes).numpy()
        answer = np.stack([bilinear(grid, (24, 40)) for grid in cosines]).argmax(axis=0)
        labels = np.asarray(Image.open(root / "annotations" / "semantic_val" / f"{i}.png"))
        for k in range(4):
            counted = labels != 255
            hits[k] += ((labels == k) & (answer == k)).sum()
            union[k] += (((labels == k) | (answer == k)) & counted).sum()
            own[k] += (labels == k).sum()
    ious = [hits[k] / union[k] for k in range(3)]
    assert found["mIoU"] == pytest.approx(100 * sum(ious) / 3)
    assert found["mIoU-all"] == pytest.approx(100 * sum(ious) / 4)
    assert found["mAcc"] == pytest.approx(100 * sum(hits[k] / own[k] for k in range(3)) / 3)
    assert found["pACC"] == pytest.approx(100 * sum(hits.values()) / sum(own.values()))
    assert (found["segmentation_images"], found["segmentation_classes"]) == (3, 3)


def test_segmentation_says_what_is_missing(root):
    with pytest.raises(ValueError, match="name the classes that the label maps"):
        run(root, "segmentation")
    with pytest.raises(ValueError, match="no background class"):
        run(root, "segmentation", vocabulary=NAMES, background_threshold=0.5)
    with pytest.raises(ValueError, match="voc21 has its own classes and label maps: leave out"):
        run(root, "segmentation", benchmark="voc21", vocabulary=NAMES)
    with pytest.raises(ValueError, match="unknown segmentation set 'ade'"):
        run(root, "segmentation", benchmark="ade")
    with pytest.raises(FileNotFoundError, match=r"data set voc21: folder .* does not exist"):
        run(root, "segmentation", benchmark="voc21")
    with pytest.raises(ValueError, match="--benchmark is for --tasks segmentation, not for ret"):
        run(root, "retrieval", benchmark="voc21")
    with pytest.raises(ValueError, match="windows of 32 pixels do not fit"):
        run(root, "segmentation", vocabulary=NAMES, sliding_windows=30)


class OneHot:
    """Embeds the k-th letter of the alphabet as the k-th unit vector."""

    device = torch.device("cpu")
    logit_scale = torch.tensor(math.log(2.0))

    def tokenizer(self, texts):
        return torch.eye(4)[["abcd".index(text) for text in texts]]

    def encode_text(self, tokens, normalize=True):
        return tokens


def test_unusable_label_maps_are_left_out_unless_there_are_many(tmp_path):
    good, small, torn = (tmp_path / f"{name}.png" for name in ("good", "small", "torn"))
    Image.fromarray(np.array([[0, 1]], dtype=np.uint8)).save(good)
    Image.fromarray(np.array([[0]], dtype=np.uint8)).save(small)
    torn.write_bytes(b"torn")
    metric = SegmentationMetric(LabelledImages("toy", (), 2, (("a",), ("b",))), "name")
    metric.prepare(OneHot())

    def give(label, count=1):
        sample = {"label_file": str(label), "image_size": (1, 2), "views": Views(2, (1, 2), (1, 2))}
        sample["dense"] = torch.eye(4)[None, :2, None].transpose(1, 3)
        metric.process({}, [{**sample, "image_id": (label, i)} for i in range(count)])

    for label in (good, small, torn):
        give(label)
    found = metric.evaluate(3)
    assert (found["mIoU"], found["segmentation_images"], found["segmentation_skipped"]) == (
        100,
        1,
        2,
    )
    give(torn)
    with pytest.raises(UnusableImageError, match=r"torn\.png: .*all that there were"):
        metric.evaluate(1)
    Image.fromarray(np.array([[0, 2]], dtype=np.uint8)).save(good)
    with pytest.raises(ValueError, match=r"good\.png holds 2, which is neither one of the 2"):
        give(good)


def test_background_by_prompts_and_by_threshold(tmp_path):
    """Classes a and b, background 2; c and d stand for it."""
    label = tmp_path / "x.png"
    Image.fromarray(np.array([[0, 1, 2, 2]], dtype=np.uint8)).save(label)
    prompts = (("a",), ("b",), ("c",), ("d",))
    files = LabelledImages("toy", ((label, label),), 3, prompts, background=2)
    dense = torch.eye(4)[None, :, None]  # one pixel each: a, b, c, d
    sample = {"image_id": 1, "label_file": str(label), "image_size": (1, 4), "dense": dense}
    sample["views"] = Views(4, (1, 4), (1, 4))
    metric = SegmentationMetric(files, "name")
    metric.prepare(OneHot())
    metric.process({}, [sample])
    assert metric.evaluate(1)["mIoU"] == 100
    # a and b alone: their pixels have e^2 / (e^2 + 1) = 0.88, the others 0.5.
    for threshold, expected in ((0.8, 100), (0.4, 100 * (1 / 3 + 1) / 3), (0.9, 100 * 0.5 / 3)):
        metric = SegmentationMetric(files, "name", background_threshold=threshold)
        metric.prepare(OneHot())
        metric.process({}, [sample])
        assert metric.evaluate(1)["mIoU"] == pytest.approx(expected)


@pytest.mark.parametrize("resize", ["squash", "pad"])
def test_masks_cover_cells_by_their_area(resize):
    mask = np.random.default_rng(1).random((6, 10)) < 0.4
    found = ImageTransform(30, resize).map_mask(mask, (3, 3)).numpy()
    # 60 x 60 points on the output: every pixel and cell has a whole number of them.
    expected = np.zeros((3, 3))
    for y in range(60):
        for x in range(60):
            row, column = (y + 0.5) / 2, (x + 0.5) / 2
            i = row * 6 / (30 if resize == "squash" else 18)
            if i < 6 and mask[int(i), int(column * 10 / 30)]:
                expected[int(row / 10), int(column / 10)] += 1 / 400
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_masks_are_weighted_means():
    dense, shares = torch.randn(2, 4, 2, 3), torch.rand(3, 2, 3) * 0.1
    image = [0, 1, 1]
    pooled = pool_masks(dense, shares, torch.tensor(image))
    for row, share, i in zip(pooled, shares, image, strict=True):
        torch.testing.assert_close(row, (dense[i] * share).sum((1, 2)) / share.sum())


@torch.no_grad()
def test_mask_classification_equals_a_count_of_its_own(root, clip):
    found = run(root, "mask_classification", dense_map="kk-only")
    classes = build_class_embeddings(clip, NAMES, "photo")
    right = []
    for i in range(3):
        pixels = ImageTransform(32)(Image.open(root / "val" / f"{i}.jpg"))
        (dense,) = clip.encode_dense(embedded(clip, pixels), dense_map="kk-only")
        for k, weights in enumerate(MASKS.values()):
            mean = sum(weights[y][x] * dense[:, y, x] for y in range(2) for x in range(2))
            right.append((classes @ mean).argmax().item() == k)
    assert found["mask_top1"] == pytest.approx(100 * np.mean(right))
    assert (found["mask_regions"], found["mask_classes"]) == (9, 3)
    assert found["small_mask_top1"] == found["mask_top1"]


def test_classes_by_name_equal_a_count_of_their_own(root, clip, tmp_path):
    names = tmp_path / "names.txt"
    names.write_text("n1 cat, tom\nn2 sky\nn3 grey owl\n")
    found = run(root, "classification", split="test", class_map=names)
    classes = build_class_embeddings(clip, ("cat", "sky", "grey owl"), "photo").numpy()
    right = []
    for label, folder in enumerate(("n1", "n2", "n3")):
        for i in range(2):
            image = Image.open(root / "test" / folder / f"{i}.png")
            square = image.resize((32, 32), Image.Resampling.BICUBIC, box=(5, 0, 25, 20))
            pixels = torch.from_numpy(np.array(square)).permute(2, 0, 1)
            with torch.no_grad():
                embedding = clip.encode_image(embedded(clip, pixels))[0].numpy()
            right.append((classes @ embedding).argmax() == label)
    assert found["classification_top1"] == pytest.approx(100 * np.mean(right))
    assert found["classification_mean_top1"] == pytest.approx(100 * np.mean(right))  # equal sizes
    assert found["classification_top5"] == 100
    assert (found["classification_images"], found["classification_classes"]) == (6, 3)


def test_class_maps(root, tmp_path):
    file = tmp_path / "map.json"
    for text, expected in (
        ('{"n1": "cat"}', {"n1": ("cat",)}),
        ('{"0": ["n1", "cat"]}', {"n1": ("cat",)}),
        ('{"n1": ["cat", "tom"]}', {"n1": ("cat", "tom")}),
    ):
        file.write_text(text)
        assert read_class_map(file) == expected
    with pytest.raises(ValueError, match="has no name for the folder n2/"):
        find_image_folder(root, "test", class_map=file)
    file.write_text('{"n1": 3}')
    with pytest.raises(ValueError, match="'n1': expected a name"):
        read_class_map(file)
    with pytest.raises(FileNotFoundError, match="no folder nowhere/"):
        find_image_folder(root, "nowhere")


def test_shots_are_nested_and_apart_from_what_is_held_out(root):
    folder = find_image_folder(root, "train")
    draw, fewer = draw_shots(folder, 5, 0), draw_shots(folder, 2, 0)
    assert [own[:2] for own in draw.train] == list(fewer.train)
    held = {file for file, _ in draw.held_out}
    assert len(held) == 3  # a fifth of 7 images, of each of 3 classes
    assert not held & {file for own in draw.train for file in own}
    assert draw_shots(folder, 5, 1).train != draw.train


def test_regression_is_at_the_minimum():
    features, labels = torch.randn(12, 3), torch.arange(12) % 3
    weights = fit_logistic(features, labels, 3, 0.05).numpy()
    rows = np.hstack([features.double().numpy(), np.ones((12, 1))])
    logits = rows @ weights.T
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    gradient = (probabilities - np.eye(3)[labels.numpy()]).T @ rows / 12
    gradient[:, :-1] += 0.05 * weights[:, :-1]
    assert np.abs(gradient).max() < 1e-5


def test_probes_by_hand():
    """Two classes on the two axes; one test image of three lies on the wrong one."""
    draws = [ShotDraw((("a",), ("b",)), ()), ShotDraw((("b",), ("a",)), ())]
    test = {"x": 0, "y": 1, "z": 1}
    axis = {"a": 0, "b": 1, "x": 0, "y": 1, "z": 0}
    metric = FewShotMetric(test, draws, [1], 2)
    eye = torch.eye(2)
    metric.process({}, [{"image_id": k, "image_embedding": eye[v]} for k, v in axis.items()])
    found = metric.evaluate(5)
    # The second draw has its labels swapped: what was right is wrong.
    assert found["few_shot1_top1"] == pytest.approx(50)
    assert found["few_shot1_top1_sd"] == pytest.approx(np.std([200 / 3, 100 / 3], ddof=1))
    assert found["few_shot1_mean_top1"] == pytest.approx(50)
    assert found["few_shot1_mean_top1_sd"] == pytest.approx(np.std([75, 25], ddof=1))
    assert (found["few_shot_images"], found["few_shot_seeds"]) == (3, 2)


@torch.no_grad()
def test_few_shot_equals_probes_of_its_own(root, clip):
    found = run(root, "few_shot", split="test", shots=(1, 5), seeds=2)
    minimize = pytest.importorskip("scipy.optimize").minimize

    def embed(file):
        square = Image.open(file).resize((32, 32), Image.Resampling.BICUBIC, box=(5, 0, 25, 20))
        pixels = torch.from_numpy(np.array(square)).permute(2, 0, 1)
        return [*clip.encode_image(embedded(clip, pixels))[0].double().tolist(), 1.0]

    def probe(rows, labels, penalty):
        def loss(flat):
            weights = flat.reshape(3, -1)
            logits = rows @ weights.T
            exps = np.exp(logits - logits.max(axis=1, keepdims=True))
            exps /= exps.sum(axis=1, keepdims=True)
            gradient = (exps - np.eye(3)[labels]).T @ rows / len(rows)
            gradient[:, :-1] += penalty * weights[:, :-1]
            entropy = -np.log(exps[np.arange(len(rows)), labels]).mean()
            return entropy + penalty / 2 * (weights[:, :-1] ** 2).sum(), gradient.ravel()

        start, options = np.zeros(3 * rows.shape[1]), {"maxiter": 1000, "gtol": 1e-6}
        return minimize(loss, start, jac=True, method="L-BFGS-B", options=options).x.reshape(3, -1)

    test = find_image_folder(root, "test").files
    rows, labels = np.array([embed(file) for file, _ in test]), [label for _, label in test]
    for shots in (1, 5):
        scores = []
        for seed in range(2):
            draw = draw_shots(find_image_folder(root, "train"), shots, seed)
            features = np.array([embed(file) for own in draw.train for file in own])
            held = np.array([embed(file) for file, _ in draw.held_out])
            classes = np.repeat(np.arange(3), shots)
            probes = [probe(features, classes, penalty) for penalty in PENALTIES]
            right = [
                ((held @ w.T).argmax(1) == [k for _, k in draw.held_out]).sum() for w in probes
            ]
            best = probes[right.index(max(right))]
            scores.append(100 * ((rows @ best.T).argmax(1) == labels).mean())
        assert found[f"few_shot{shots}_top1"] == pytest.approx(np.mean(scores))
        assert found[f"few_shot{shots}_top1_sd"] == pytest.approx(np.std(scores, ddof=1))
    assert (found["few_shot_images"], found["few_shot_skipped"]) == (6, 0)
    with pytest.raises(ValueError, match=r"7 images of 'n1', too few for 25 shots and 1 apart"):
        run(root, "few_shot", split="test", shots=(25,))
