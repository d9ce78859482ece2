"""Statistics of data sets of every form; pictures that look alike; recall."""

import json
from contextlib import nullcontext

import numpy as np
import pytest
from PIL import Image, ImageEnhance

from fineclip.annotation.dataset_report import ReportSettings, describe_data_set, report_lines
from fineclip.annotation.near_duplicates import near_duplicates_of
from fineclip.annotation.recall import ProposalRecall
from fineclip.annotation.statistics import collect, open_data_set
from fineclip.annotation.tallies import Tally
from fineclip.datasets.region_source import ImageRecord
from fineclip.datasets.shard_writer import make_shards

SIZES = [(64, 64), (64, 64), (64, 32)]
CATEGORIES = [{"id": 3, "name": "cat"}, {"id": 5, "name": "dog"}]
BOXES = [
    {"id": 1, "image_id": 1, "category_id": 3, "bbox": [0, 0, 32, 64]},
    {"id": 2, "image_id": 1, "category_id": 5, "bbox": [10, 10, 4, 4]},
    {"id": 3, "image_id": 3, "category_id": 3, "bbox": [0, 0, 64, 32]},
]
CAPTIONS = ["a cat and a dog", "a black cat", "a black cat"]
REGIONS = {"1": "two cats", "3": "a sofa"}


def write(file, data):
    file.write_text(json.dumps(data))
    return file


def bar(title, unit):
    return nullcontext(lambda done, total: None)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Three images, boxes, captions, region captions."""
    root = tmp_path_factory.mktemp("data")
    (root / "images").mkdir()
    rng = np.random.default_rng(0)
    images = []
    for number, (width, height) in enumerate(SIZES, 1):
        coarse = Image.fromarray(rng.integers(0, 256, (4, 4, 3), np.uint8))
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(root / f"images/{number}.png")
        images.append(
            {"id": number, "file_name": f"{number}.png"} | {"width": width, "height": height}
        )
    boxes = {"images": images, "categories": CATEGORIES, "annotations": BOXES}
    captions = [{"id": n, "image_id": n, "caption": text} for n, text in enumerate(CAPTIONS, 1)]
    write(root / "boxes.json", boxes)
    write(root / "captions.json", {"images": images, "annotations": captions})
    write(root / "regions.json", REGIONS)
    listed = [{"image": f"{n}.png", "caption": [text]} for n, text in enumerate(CAPTIONS, 1)]
    write(root / "list.json", listed)
    make_shards(
        root / "shards",
        image_root=root / "images",
        annotations=root / "boxes.json",
        captions=root / "captions.json",
        region_captions=root / "regions.json",
    )
    return root


def test_shards_and_files_say_the_same(folder):
    files = open_data_set(
        folder / "boxes.json",
        image_root=folder / "images",
        captions=folder / "captions.json",
        region_captions=folder / "regions.json",
    )
    found = collect(files).as_json()
    assert found == collect(open_data_set(folder / "shards")).as_json()
    counts = found["counts"]
    assert counts["images"], counts["boxes"] == (3, 3)
    assert (counts["captions"], counts["region captions"]) == (3, 2)
    assert (counts["images without boxes"], counts["images without captions"]) == (1, 0)
    assert (counts["small boxes"], counts["medium boxes"]) == (1, 2)
    assert found["categories"] == {"distinct": 2, "common": [("cat", 2), ("dog", 1)]}
    side = found["tallies"]["box side in percent of image's"]
    assert (side["count"], side["min"], side["max"]) == (3, 6, 100)
    assert found["captions"]["distinct"] == 2
    assert found["captions"]["common_words"] == [["cat", 3], ["black", 2], ["dog", 1]]
    assert found["captions"]["words_per_text"]["quantiles"]["0.5"] == 3


@pytest.mark.parametrize(
    ("file", "images", "captions", "regions"),
    [("captions.json", 3, 3, 0), ("list.json", 3, 3, 0), ("regions.json", 0, 0, 2)],
)
def test_files_of_captions_alone(folder, file, images, captions, regions):
    counts = collect(open_data_set(folder / file)).counts
    assert (counts["images"], counts["captions"]) == (images, captions)
    assert (counts["region captions"], counts["boxes"]) == (regions, 0)


def test_a_part_of_it(folder):
    part = open_data_set(folder / "shards", images=2)
    assert part.total == 2 and list(part.numbers) == [0, 1]
    assert collect(part).counts["images"] == 2


def test_other_files_are_refused(folder, tmp_path):
    for content in (3, "x"):
        with pytest.raises(ValueError, match="expected shards, COCO boxes"):
            open_data_set(write(tmp_path / "a.json", content))
    with pytest.raises(ValueError, match="must map to a string"):
        open_data_set(write(tmp_path / "a.json", {"1": 2}))
    with pytest.raises(FileNotFoundError):
        open_data_set(tmp_path / "b.json")
    with pytest.raises(ValueError, match="where its images are is not known"):
        settings = ReportSettings(benchmark_images=[folder / "images"])
        describe_data_set(folder / "boxes.json", tmp_path, settings, bar=bar)


def test_quantiles_are_exact():
    tally, values = Tally(), np.random.default_rng(0).integers(-50, 1000, 999)
    for value in values:
        tally.add(value)
    found = tally.as_json()
    assert found["mean"] == pytest.approx(values.mean(), abs=1e-3)
    for share, value in found["quantiles"].items():
        assert value == np.quantile(values, float(share), method="inverted_cdf")
    assert Tally().as_json() == {"count": 0}


def test_the_report(folder, tmp_path, monkeypatch):
    # tests/tools/test_dataset_statistics.py draws
    monkeypatch.setattr("fineclip.annotation.dataset_report.plot_statistics", lambda *_: None)
    settings = ReportSettings(
        vocabularies=["pc59"],
        benchmark_images=[folder / "images"],
        annotations=folder / "boxes.json",
        min_captions=2,
    )
    found = describe_data_set(folder / "shards", tmp_path / "out", settings, bar=bar)
    assert json.loads((tmp_path / "out/statistics.json").read_text()) == json.loads(
        json.dumps(found)
    )
    by_name = {one["name"]: one for one in found["coverage"]["pc59"]["categories"]}
    assert by_name["cat"]["captions"] == {"exact": 3, "inflected": 1, "synonym": 0}
    levels = [by_name[name]["level"] for name in ("cat", "dog", "sofa", "bus")]
    assert levels == ["relevant", "weakly relevant", "weakly relevant", "absent"]
    assert found["near_duplicates"]["images"] == 3
    assert found["recall"]["AR@100"] == 1.0
    assert any("recall of 3 annotated boxes" in line for line in report_lines(found))


def test_pictures_that_look_alike(folder, tmp_path):
    flat = tmp_path / "flat/grey.png"
    flat.parent.mkdir()
    Image.new("RGB", (64, 64), (90, 90, 90)).save(flat)
    near = near_duplicates_of([folder / "images", flat.parent])
    image = Image.open(folder / "images/1.png").convert("RGB")
    red = np.asarray(image) * 0.6 + (80, 0, 0)  # the same picture in other colours
    Image.fromarray(red.astype(np.uint8)).save(tmp_path / "red.png")
    image.resize((128, 128)).save(tmp_path / "larger.jpg", quality=90)
    ImageEnhance.Brightness(image).enhance(1.03).save(tmp_path / "brighter.png")
    image.transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(tmp_path / "mirrored.png")
    for name in ("larger.jpg", "brighter.png", "mirrored.png", "red.png", "flat/grey.png"):
        near.look_at(name, (tmp_path / name).read_bytes())
    near.look_at("broken.png", b"no image")
    assert [(own, other[-5:]) for own, other, _ in near.pairs] == [
        *[("larger.jpg", "1.png"), ("brighter.png", "1.png")]
    ]
    assert near.unreadable == 1
    (tmp_path / "empty").mkdir()
    with pytest.raises(ValueError, match="there is none"):
        near_duplicates_of([tmp_path / "empty"])
    with pytest.raises(FileNotFoundError, match="folder nowhere does not exist"):
        near_duplicates_of(["nowhere"])


def test_recall_counts_the_best_boxes(folder):
    def recall(*boxes, file="x/1.png"):
        found = ProposalRecall(folder / "boxes.json")
        found.add(ImageRecord({"file_name": file}, (), [{"bbox": box} for box in boxes], None))
        return found.as_json()

    wrong, right = [40, 40, 9, 9], [0, 0, 32, 64]
    assert recall(right)["AR@100"] == 0.5  # one of two annotated boxes
    found = recall(wrong, right)
    assert (found["AR@1"], found["AR@10"]) == (0, 0.5)
    # IoU 0.75: the thresholds 0.5 to 0.75 of ten.
    assert recall([0, 0, 24, 64])["AR@100"] == pytest.approx(0.5 * 0.6)
    assert recall()["AR@100"] == 0
    with pytest.raises(ValueError, match="none of the data set's images"):
        recall(right, file="other.png")
