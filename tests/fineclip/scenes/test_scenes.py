"""The synthetic world: what its scenes promise, and that its files agree with each other."""

import dataclasses
import importlib.util
import itertools
import json
import re
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as mask_utils
from pycocotools.coco import COCO

from fineclip.scenes import (
    BASE_CATEGORIES,
    COLORS,
    NOVEL_CATEGORIES,
    SHAPES,
    SIZES,
    STUFF_CATEGORIES,
    TEXTURES,
    THING_CATEGORIES,
    make_scenes,
    region_phrases,
    render_scene,
    sample_scene,
    scene_captions,
    true_relations,
)

SETTINGS = {"images": 8, "val_images": 3, "seed": 5, "size": 48}
PHRASE = re.compile(
    rf"(?:({'|'.join(SIZES)}) )?(?:({'|'.join(TEXTURES)}) )?"
    rf"({'|'.join(COLORS)}) ({'|'.join(SHAPES)})"
)
# How a sentence says "subject relation object": the relation stands between, or after both.
BETWEEN = {" left of a ": 0, " right of a ": 1, " above a ": 2, " below a ": 3}
AFTER = {" on its left": 0, " on its right": 1, " above it": 2, " below it": 3}


@pytest.fixture(scope="module")
def root(tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("scenes") / "out"
    make_scenes(out, **SETTINGS)
    return out


@pytest.fixture(scope="module")
def scenes() -> list:
    return [sample_scene(1, "train", index) for index in range(60)]


def load(root: Path, name: str) -> dict:
    return json.loads((root / "annotations" / name).read_text())


def files(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


# --- categories


def test_each_color_and_shape_has_two_novel_and_four_base_combinations():
    assert [c.id for c in THING_CATEGORIES] == list(range(1, 37))
    assert len({c.name for c in THING_CATEGORIES}) == 36
    for key, values in (("color", COLORS), ("shape", SHAPES)):
        assert Counter(getattr(c, key) for c in NOVEL_CATEGORIES) == dict.fromkeys(values, 2)
        assert Counter(getattr(c, key) for c in BASE_CATEGORIES) == dict.fromkeys(values, 4)
    assert Counter(c.frequency for c in NOVEL_CATEGORIES) == {"r": 12}
    assert Counter(c.frequency for c in BASE_CATEGORIES) == {"c": 12, "f": 12}
    assert [c.id for c in STUFF_CATEGORIES] == list(range(37, 43))


# --- sampling and rendering


def test_a_scene_depends_on_seed_split_and_index_alone():
    scene = sample_scene(3, "train", 7)
    assert scene == sample_scene(3, "train", 7)
    others = [(4, "train", 7), (3, "val", 7), (3, "train", 8)]
    assert all(sample_scene(*other).objects != scene.objects for other in others)
    first, second = render_scene(scene, 40), render_scene(scene, 40)
    assert np.array_equal(first[0], second[0])
    assert np.array_equal(first[1], second[1])


def test_objects_are_inside_the_image_and_mostly_visible(scenes):
    counts = Counter(len(scene.objects) for scene in scenes)
    assert set(counts) == {2, 3, 4, 5}
    for scene in scenes:
        _, together = render_scene(scene, 96)
        for number, item in enumerate(scene.objects):
            alone = dataclasses.replace(scene, objects=(item,))
            mask = render_scene(alone, 96)[1] == 0
            visible = (together == number).sum() / mask.sum()
            assert visible >= 0.7, (scene.index, item)
            # Nothing is cut off: the outline never touches the border of the image.
            assert not mask[[0, -1]].any()
            assert not mask[:, [0, -1]].any()
            low, high = SIZES[item.size]
            assert low <= item.side <= high


def test_a_scene_is_the_same_picture_at_every_size(scenes):
    for scene in scenes[:10]:
        small, large = render_scene(scene, 32)[1], render_scene(scene, 128)[1]
        assert set(np.unique(small)) == set(np.unique(large)) == set(range(len(scene.segments)))
        # Pixel (r, c) of the small map covers rows 4r to 4r+3 of the large one.
        assert (small == large[2::4, 2::4]).mean() > 0.95


def test_the_color_of_a_plain_object_is_its_named_color(scenes):
    names, palette = list(COLORS), np.array(list(COLORS.values()), dtype=float)
    palette /= palette.max(1, keepdims=True)
    checked = 0
    for scene in scenes:
        image, segments = render_scene(scene, 64)
        for number, item in enumerate(scene.objects):
            if item.texture == "plain":
                color = np.median(image[segments == number], axis=0)
                nearest = np.abs(palette - color / color.max()).sum(1).argmin()
                assert names[nearest] == item.category.color
                checked += 1
    assert checked > 20


@pytest.mark.parametrize(
    ("arguments", "message"),
    [((0, "training", 0), "train, val, test"), ((-1, "train", 0), "at least 0")],
)
def test_a_bad_scene_is_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        sample_scene(*arguments)


def test_a_picture_too_small_is_refused():
    with pytest.raises(ValueError, match="at least 32 pixels, got 31"):
        render_scene(sample_scene(0, "train", 0), 31)


# --- captions


def visible_centers(scene) -> list[tuple[float, float]]:
    """Box centres of the visible masks, as fractions of the image."""
    _, segments = render_scene(scene, 128)
    centers = []
    for number in range(len(scene.objects)):
        rows, columns = np.nonzero(segments == number)
        centers.append(
            ((columns.min() + columns.max() + 1) / 256, (rows.min() + rows.max() + 1) / 256)
        )
    return centers


def test_captions_say_what_is_there(scenes):
    for scene in scenes:
        captions = scene_captions(scene)
        assert len({c.text for c in captions}) == 2
        for caption in captions:
            phrases = PHRASE.findall(caption.text)
            assert len(phrases) == len(caption.objects) in (2, 3)
            assert len(set(caption.objects)) == len(caption.objects)
            for (size, texture, color, shape), number in zip(phrases, caption.objects, strict=True):
                item = scene.objects[number]
                assert f"{color} {shape}" == item.category.name
                assert size in ("", item.size)
                assert texture in ("", item.texture)
            for surface in scene.background.surfaces:
                assert (surface.name in caption.text) == caption.mentions_background


def test_relations_read_back_from_the_text_are_true_in_the_picture(scenes):
    checked = 0
    for scene in scenes:
        centers = visible_centers(scene)
        for caption in scene_captions(scene):
            matches = list(PHRASE.finditer(caption.text))
            found = []
            for k, (left, right) in enumerate(itertools.pairwise(matches)):
                between = caption.text[left.end() : right.start()]
                after = caption.text[right.end() :]
                first, second = caption.objects[k], caption.objects[k + 1]
                if between in BETWEEN:
                    found.append((first, BETWEEN[between], second))
                elif between == " with a ":
                    code = next(v for text, v in AFTER.items() if after.startswith(text))
                    found.append((second, code, first))
            names = ("left of", "right of", "above", "below")
            stated = [(r.subject, names.index(r.name), r.object) for r in caption.relations]
            assert found == stated, caption.text
            for subject, code, other in found:
                axis, sign = divmod(code, 2)
                difference = centers[subject][axis] - centers[other][axis]
                assert (difference < 0) if sign == 0 else (difference > 0), caption.text
                checked += 1
    assert checked > 50


def test_relations_need_a_margin():
    item = sample_scene(0, "train", 0).objects[0]

    def relations(dx: float, dy: float) -> tuple[str, ...]:
        other = dataclasses.replace(item, center=(item.center[0] + dx, item.center[1] + dy))
        return true_relations(item, other)

    assert relations(0.1, -0.1) == ()
    assert relations(0.2, 0.05) == ("left of",)
    assert relations(-0.3, -0.3) == ("right of", "below")
    assert relations(0.2, 0.5) == ("above",)  # far below: "left of" would be true but odd


def test_captions_fit_32_positions_of_clip(scenes):
    open_clip = pytest.importorskip("open_clip")
    tokens = open_clip.get_tokenizer("ViT-B-32")(
        [caption.text for scene in scenes for caption in scene_captions(scene, 6)]
    )
    lengths = (tokens != 0).sum(1)
    assert lengths.max() < 30
    assert lengths.max() > 20  # otherwise this test would not look at long captions


def test_region_phrases_name_the_category(scenes):
    for scene in scenes:
        texts = [phrase.text for phrase in region_phrases(scene)]
        surfaces = texts[len(scene.objects) :]
        assert surfaces == [f"a {surface.name}" for surface in scene.background.surfaces]
        for item, text in zip(scene.objects, texts[: len(scene.objects)], strict=True):
            assert item.category.name in text
            size, texture, color, shape = PHRASE.search(text).groups()
            assert f"{color} {shape}" == item.category.name
            assert size in (None, item.size)
            assert texture in (None, item.texture)
            noun = {"stripes": "striped", "dots": "dotted", "checks": "checkered"}
            if " with " in text:
                assert noun[text.rsplit(maxsplit=1)[-1]] == item.texture


# --- files


def test_a_second_run_writes_the_same_files(root, tmp_path):
    make_scenes(tmp_path / "again", **SETTINGS)
    assert files(tmp_path / "again") == files(root)


def test_images_do_not_depend_on_how_many_are_made(root, tmp_path):
    fewer = tmp_path / "fewer"
    make_scenes(fewer, **{**SETTINGS, "images": 3, "val_images": 1})
    all_files = files(root)
    pictures = {k: v for k, v in files(fewer).items() if k.endswith((".jpg", ".png"))}
    assert len(pictures) == 4 * 3
    assert all(all_files[name] == content for name, content in pictures.items())
    for name in ("instances_train.json", "captions_val.json", "panoptic_train.json"):
        few, many = load(fewer, name), load(root, name)
        ids = {image["id"] for image in few["images"]}
        assert few["annotations"] == [a for a in many["annotations"] if a["image_id"] in ids]
    few, many = (load(f, "region_captions_train.json") for f in (fewer, root))
    assert few.items() < many.items()


def test_workers_do_not_change_the_files(tmp_path):
    settings = {"images": 20, "val_images": 1, "size": 32}
    make_scenes(tmp_path / "one", **settings)
    make_scenes(tmp_path / "two", **settings, workers=2)
    assert files(tmp_path / "one") == files(tmp_path / "two")


@pytest.mark.parametrize("split", ["train", "val"])
def test_boxes_are_tight_around_the_masks(root, split):
    coco = COCO(str(root / "annotations" / f"instances_{split}.json"))
    assert len(coco.getCatIds()) == 36
    for annotation in coco.dataset["annotations"]:
        mask = coco.annToMask(annotation)
        rows, columns = np.nonzero(mask)
        x, y, w, h = annotation["bbox"]
        assert (columns.min(), rows.min()) == (x, y)
        assert (columns.max() + 1, rows.max() + 1) == (x + w, y + h)
        assert annotation["area"] == mask.sum()
        assert annotation["iscrowd"] == 0
        with Image.open(root / split / coco.imgs[annotation["image_id"]]["file_name"]) as image:
            assert image.size == (mask.shape[1], mask.shape[0])


@pytest.mark.parametrize("split", ["train", "val"])
def test_panoptic_instances_and_semantic_agree(root, split):
    panoptic = load(root, f"panoptic_{split}.json")
    instances = {a["id"]: a for a in load(root, f"instances_{split}.json")["annotations"]}
    things = {c["id"] for c in panoptic["categories"] if c["isthing"]}
    classes = [c["id"] for c in panoptic["categories"]]
    seen = set()
    for annotation in panoptic["annotations"]:
        folder = root / "annotations"
        rgb = np.array(Image.open(folder / f"panoptic_{split}" / annotation["file_name"]), int)
        ids = rgb[..., 0] + 256 * rgb[..., 1] + 256**2 * rgb[..., 2]
        semantic = np.array(Image.open(folder / f"semantic_{split}" / annotation["file_name"]))
        assert semantic.dtype == np.uint8
        assert {s["id"] for s in annotation["segments_info"]} == set(np.unique(ids))
        for segment in annotation["segments_info"]:
            mask = ids == segment["id"]
            assert segment["area"] == mask.sum()
            assert set(semantic[mask]) == {classes.index(segment["category_id"])}
            if segment["category_id"] in things:
                instance = instances[segment["id"]]
                seen.add(segment["id"])
                assert instance["image_id"] == annotation["image_id"]
                for key in ("category_id", "bbox", "area", "iscrowd"):
                    assert instance[key] == segment[key]
                assert np.array_equal(mask_utils.decode(instance["segmentation"]), mask)
    assert seen == set(instances)


def test_every_pixel_of_a_small_map_comes_from_the_scene(root):
    """The files show the scene that the API gives for the same seed, split and index."""
    scene = sample_scene(SETTINGS["seed"], "train", 2)
    _, segments = render_scene(scene, SETTINGS["size"])
    stored = np.array(Image.open(root / "annotations" / "semantic_train" / "000000000003.png"))
    assert np.array_equal(np.array([c.id - 1 for c in scene.segments])[segments], stored)


@pytest.mark.parametrize("split", ["train", "val"])
def test_novel_categories_are_in_captions_but_never_among_base_labels(root, split):
    full, base = load(root, f"instances_{split}.json"), load(root, f"instances_{split}_base.json")
    novel = {c.id for c in NOVEL_CATEGORIES}
    assert base["categories"] == full["categories"]
    assert {c["id"] for c in base["categories"] if c["split"] == "novel"} == novel
    expected = [a for a in full["annotations"] if a["category_id"] not in novel]
    assert base["annotations"] == expected
    assert {i["id"] for i in base["images"]} == {a["image_id"] for a in expected}
    assert len(expected) < len(full["annotations"])
    names = {c.name for c in NOVEL_CATEGORIES}
    texts = [a["caption"] for a in load(root, f"captions_{split}.json")["annotations"]]
    assert any(name in text for name in names for text in texts)


@pytest.mark.parametrize("split", ["train", "val"])
def test_captions_cover_every_image_and_every_region(root, split):
    captions, instances = (
        load(root, f"captions_{split}.json"),
        load(root, f"instances_{split}.json"),
    )
    per_image = Counter(a["image_id"] for a in captions["annotations"])
    assert per_image == dict.fromkeys((i["id"] for i in instances["images"]), 2)
    assert len({a["id"] for a in captions["annotations"]}) == len(captions["annotations"])
    regions = load(root, f"region_captions_{split}.json")
    panoptic = load(root, f"panoptic_{split}.json")
    names = {c["id"]: c["name"] for c in panoptic["categories"]}
    segments = [s for a in panoptic["annotations"] for s in a["segments_info"]]
    assert set(regions) == {str(s["id"]) for s in segments}
    if split == "val":  # those of training are a captioner's
        for segment in segments:
            assert names[segment["category_id"]] in regions[str(segment["id"])]


@pytest.mark.parametrize("split", ["train", "val"])
def test_proposals_are_all_segments_without_their_categories(root, split):
    proposals = load(root, f"proposals_{split}.json")["annotations"]
    panoptic = load(root, f"panoptic_{split}.json")["annotations"]
    assert {(p["image_id"], p["id"], tuple(p["bbox"])) for p in proposals} == {
        (a["image_id"], s["id"], tuple(s["bbox"])) for a in panoptic for s in a["segments_info"]
    }
    assert all("category_id" not in p for p in proposals)


def test_lvis_file_works_with_the_lvis_package(root, monkeypatch):
    lvis = pytest.importorskip("lvis")
    # lvis 0.5.3 still says np.float, which NumPy no longer has.
    monkeypatch.setattr(np, "float", float, raising=False)
    truth = lvis.LVIS(str(root / "annotations" / "lvis_train.json"))
    assert len(truth.get_cat_ids()) == 36
    for annotation in truth.dataset["annotations"]:
        assert truth.ann_to_mask(annotation).sum() == annotation["area"]
    for image in truth.dataset["images"]:
        present = {a["category_id"] for a in truth.img_ann_map[image["id"]]}
        assert present | set(image["neg_category_ids"]) == set(truth.get_cat_ids())
        assert not present & set(image["neg_category_ids"])
        assert (root / image["coco_url"]).is_file()
    perfect = [
        {
            "image_id": a["image_id"],
            "category_id": a["category_id"],
            "bbox": a["bbox"],
            "segmentation": a["segmentation"],
            "score": 0.9,
        }
        for a in truth.dataset["annotations"]
    ]
    for kind in ("bbox", "segm"):
        evaluation = lvis.LVISEval(truth, lvis.LVISResults(truth, perfect), kind)
        evaluation.run()
        results = evaluation.get_results()
        assert [results[key] for key in ("AP", "APr", "APc", "APf")] == pytest.approx([1.0] * 4)


def test_vocabulary_lists_the_classes_of_the_semantic_maps(root):
    vocabulary = json.loads((root / "vocabulary.json").read_text())
    assert set(vocabulary) == {"name", "source", "notes", "categories"}
    panoptic = load(root, "panoptic_train.json")["categories"]
    keys = ("id", "name", "split", "isthing")
    assert vocabulary["categories"] == [{k: c[k] for k in keys} for c in panoptic]
    assert [c["id"] for c in vocabulary["categories"]] == list(range(1, 43))


# --- writing


def test_the_same_scenes_are_left_alone(root):
    before = {p: p.stat().st_mtime_ns for p in root.rglob("*")}
    calls = []
    statistics = make_scenes(root, **SETTINGS, progress=lambda *args: calls.append(args))
    assert calls == []
    assert {p: p.stat().st_mtime_ns for p in root.rglob("*")} == before
    assert statistics["train"]["images"] == 8
    assert statistics["val"]["captions"] == 6


def test_other_scenes_are_replaced_only_on_request(tmp_path):
    out = tmp_path / "out"
    make_scenes(out, images=2, size=32)
    (out / "cache.txt").write_text("of another tool")
    with pytest.raises(FileExistsError, match=r"size=32.*size=40.*--overwrite"):
        make_scenes(out, images=2, size=40)
    make_scenes(out, images=1, size=40, overwrite=True)
    assert [p.name for p in (out / "train").iterdir()] == ["000000000001.jpg"]
    assert (out / "cache.txt").is_file()
    make_scenes(out, images=1, size=40)  # recognised as complete


def test_a_damaged_data_set_is_noticed(tmp_path):
    make_scenes(tmp_path / "out", images=2, size=32)
    (tmp_path / "out" / "train" / "000000000002.jpg").unlink()
    with pytest.raises(FileExistsError, match="train holds 1 of 2 files"):
        make_scenes(tmp_path / "out", images=2, size=32)


def test_a_folder_with_other_files_is_never_touched(tmp_path):
    (tmp_path / "train").mkdir()
    (tmp_path / "train" / "holiday.jpg").write_bytes(b"precious")
    with pytest.raises(FileExistsError, match="no scenes"):
        make_scenes(tmp_path, images=1, size=32, overwrite=True)
    assert (tmp_path / "train" / "holiday.jpg").read_bytes() == b"precious"


def test_an_interruption_leaves_nothing_behind(tmp_path):
    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        make_scenes(tmp_path / "out", images=1, size=32, progress=stop)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": 0}, "images must be from 1 to"),
        ({"val_images": 0}, "val_images must be from 1 to"),
        ({"size": 31}, "size must be from 32 to"),
        ({"seed": -1}, "seed must be from 0 to"),
        ({"workers": 0}, "workers must be from 1 to"),
        ({"twins": 1.5}, "twins must be from 0 to 1"),
        ({"captioner": {"wrong_color": 2}}, "rate wrong_color: expected a number from 0 to 1"),
        ({"captioner": {"wrong_colour": 0.1}}, "no captioner rate wrong_colour; did you mean wro"),
    ],
)
def test_bad_numbers_are_refused_before_anything_is_written(tmp_path, arguments, message):
    with pytest.raises(ValueError, match=message):
        make_scenes(tmp_path / "out", **arguments)
    assert list(tmp_path.iterdir()) == []


# --- the command


@pytest.fixture(scope="module")
def tool():
    path = Path(__file__).parents[3] / "tools" / "make_scenes.py"
    spec = importlib.util.spec_from_file_location("make_scenes_tool", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_command_writes_and_then_recognises_its_scenes(tool, tmp_path, capsys):
    out = tmp_path / "out"
    command = [str(out), "--images", "7", "--size", "32", "--workers", "1"]
    assert tool.main(command) == 0
    assert "train: 7 images" in capsys.readouterr().out
    assert len(list((out / "val").iterdir())) == 1  # a sixth of the training images
    written = files(out)
    assert tool.main(command) == 0
    assert files(out) == written


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--images", "0"], "argument --images: expected an integer from 1 on"),
        (["--size", "16"], "size must be from 32"),
        (["--seed", "-3"], "argument --seed: expected an integer from 0 on"),
        (["--captioner", "synonym"], "argument --captioner: expected none or ERROR=RATE"),
        (["--captioner", "spelling=1"], "there is no captioner rate spelling; known: added_object"),
        (["--twins", "2"], "argument --twins: expected a number from 0 to 1"),
    ],
)
def test_the_command_refuses_bad_values_in_one_line(tool, tmp_path, capsys, options, message):
    try:
        code = tool.main([str(tmp_path / "out"), *options])
    except SystemExit as stop:  # of the parser
        code = stop.code
    assert code == 2
    captured = capsys.readouterr()
    assert captured.err.strip().splitlines()[-1].startswith(f"error: {message}")
    assert captured.err.count("error") == 1
    assert captured.out == ""
    assert list(tmp_path.iterdir()) == []
