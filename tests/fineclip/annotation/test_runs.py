"""Whole runs: what comes out can be trained on, and is the same however it came about."""

import hashlib
import json
import random
import shutil
from functools import partial
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from corrupt_inputs import photograph, write_tar
from PIL import Image
from region_text import region_text_dataset

from fineclip.annotation.dry_run import estimate
from fineclip.annotation.engines import LocalEngine
from fineclip.annotation.interfaces import CAPTIONERS, PROPOSERS, CaptionFailure, Proposals
from fineclip.annotation.ray_engine import _Annotator, _Scanner
from fineclip.annotation.report import outcome_lines
from fineclip.annotation.run import Inputs, annotate_regions
from fineclip.annotation.settings import AnnotationSettings
from fineclip.datasets.shards import Shards

WORDS = ("dog", "cat", "cup")


def characters(texts):
    return torch.tensor([[ord(c) for c in text.ljust(24)[:24]] for text in texts])


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    """Ten images of which three are repeated, in whole or nearly, in other shards."""
    folder = tmp_path_factory.mktemp("source")
    (folder / "images").mkdir()
    images, boxes, captions = [], [], []
    for number in range(13):
        content = photograph({10: 2, 11: 3, 12: 9}.get(number, number), (96, 64))
        name = f"{number:02d}.jpg"
        (folder / "images" / name).write_bytes(content)
        if number > 10:  # saved anew
            with Image.open(folder / "images" / name) as image:
                image.resize((192, 128)).save(folder / "images" / name, quality=80)
        size = {"width": 192, "height": 128} if number > 10 else {"width": 96, "height": 64}
        images.append({"id": 7 * number, "file_name": name, **size})
        for place in range(0 if number == 4 else 1 + number % 3):
            box = [5 + 20 * place, 6, 18, 20.5 + number]
            boxes.append({"id": len(boxes) + 1, "image_id": 7 * number, "bbox": box})
            boxes[-1]["category_id"] = 10 + place
        for words in ("a picture", "number"):
            captions.append({"image_id": 7 * number, "caption": f"{words} {number}"})
    categories = [{"id": 10 + place, "name": name} for place, name in enumerate(WORDS)]
    data = {"images": images, "annotations": boxes, "categories": categories}
    (folder / "boxes.json").write_text(json.dumps(data))
    (folder / "captions.json").write_text(json.dumps({"images": images, "annotations": captions}))
    return Inputs(folder / "images", folder / "captions.json", folder / "boxes.json")


SETTINGS, FOURS = (AnnotationSettings(shard_size=size) for size in (5, 4))


def files(folder):
    """Digests of the files of a result."""
    return {
        file.name: hashlib.sha256(file.read_bytes()).hexdigest()
        for file in sorted(folder.iterdir())
        if file.is_file()
    }


@pytest.fixture(scope="module")
def whole(inputs, tmp_path_factory):
    out = tmp_path_factory.mktemp("whole") / "out"
    return out, annotate_regions(inputs, out, SETTINGS, coco=True)


@pytest.fixture(scope="module")
def fours(inputs, tmp_path_factory):
    """The same in shards of which one has some images that are repeated."""
    out = tmp_path_factory.mktemp("fours") / "out"
    return out, annotate_regions(inputs, out, FOURS, coco=True)


def test_what_is_counted(whole):
    out, outcome = whole
    counts = outcome.manifest["counts"]
    assert counts["images"] == {"read": 13, "kept": 9}
    assert counts["images left out"] == {
        "exact duplicate of an image": 1,
        "near duplicate of an image": 2,
        "no box": 1,
    }
    assert counts["boxes"]["kept"] == sum(1 + n % 3 for n in range(10) if n != 4)
    assert outcome.manifest["proposer"] == ["existing"]
    assert outcome.manifest["files"].keys() == files(out).keys() - {"manifest.json"}
    for name, digest in files(out).items():
        if name != "manifest.json":
            assert outcome.manifest["files"][name]["sha256"] == digest
    assert outcome_lines(outcome, out)[-1].startswith("9 of 13 images, 17 of 17 boxes:")


def test_shards_hold_what_the_source_has(whole, inputs):
    out, _ = whole
    source = Shards(out)
    assert [category["name"] for category in source.categories] == list(WORDS)
    record = source.read_record(2)
    assert record["image"] == {"id": 14, "file_name": "02.jpg", "width": 96, "height": 64}
    assert record["captions"] == ["a picture 2", "number 2"]
    boxes = record["annotations"]
    assert [box["bbox"] for box in boxes] == [[x, 6, 18, 22.5] for x in (5, 25, 45)]
    assert [box["category_id"] for box in boxes] == [1, 2, 3]
    assert [box["caption"] for box in boxes] == [f"a photo of a {name}." for name in WORDS]
    assert source.read(2) == (inputs.path / "02.jpg").read_bytes()
    assert source.file(5) == f"{out / '000001.tar'}:001000001.jpg"


def test_training_reads_the_same_from_shards_and_from_coco_files(whole, inputs):
    out, _ = whole
    options = {"tokenizer": characters, "transform": {"size": 24}}
    ours = region_text_dataset(folder=out, **options)
    other = region_text_dataset(
        image_root=inputs.path,
        annotations=out / "proposals.json",
        captions=out / "captions.json",
        region_captions=out / "region_captions.json",
        **options,
    )
    assert len(ours) == len(other) == 9
    for index in range(9):
        a, b = ours[0, index], other[0, index]
        assert a.keys() == b.keys()
        for name in a.keys() - {"skipped"}:
            assert torch.equal(a[name], b[name]), name


def test_smaller_subsets_lie_in_larger_ones(whole):
    def names(count):
        data = region_text_dataset(
            folder=whole[0], tokenizer=characters, transform={"size": 24}, num_images=count
        )
        return {data.source.file(int(number)) for number in data._index.numbers}

    assert len(names(3)) == 3
    assert names(3) < names(6) < names(9)


def test_ranges_in_any_order_come_to_the_same(fours, inputs, tmp_path):
    """Who comes before all are read knows no duplicates: they are taken out at the end."""
    out = tmp_path / "out"
    run = partial(annotate_regions, inputs, out, FOURS, coco=True)
    first = run(shard_range=(2, 3))
    assert (first.manifest, first.missing) == (None, [0, 1, 3])
    assert "1 of 4 shards are done; not yet: 0, 1, 3" in outcome_lines(first, out)
    assert len(json.loads((out / ".work/staged/000002.json").read_text())["images"]) == 4
    assert run(shard_range=(0, 1)).missing == [1, 3]
    assert run(shard_range=(3, 9)).missing == [1]
    assert run(shard_range=(1, 2)).manifest == fours[1].manifest
    assert files(out) == files(fours[0])
    assert not list((out / ".work/staged").iterdir())
    with pytest.raises(ValueError, match="shard range 4:5: there are shards 0 to 3"):
        run(shard_range=(4, 5))


class Killed(BaseException):
    pass


@pytest.mark.parametrize("ranged", [False, True])
def test_killed_before_and_after_every_file_that_is_named(
    whole, fours, inputs, tmp_path, monkeypatch, ranged
):
    """A run that ends anywhere is continued to the same bytes; nothing is lost or doubled."""
    replace, unlink = Path.replace, Path.unlink
    calls, limit = 0, 0

    def counted(function, *arguments, **options):
        nonlocal calls
        calls += 1
        if calls == limit:
            raise Killed
        result = function(*arguments, **options)
        calls += 1
        if calls == limit:
            raise Killed
        return result

    def run(out):
        settings = FOURS if ranged else SETTINGS
        for span in ((2, 4), (0, 1), (1, 2)) if ranged else [None]:
            annotate_regions(inputs, out, settings, coco=True, shard_range=span)

    monkeypatch.setattr(Path, "replace", lambda *a, **o: counted(replace, *a, **o))
    monkeypatch.setattr(Path, "unlink", lambda *a, **o: counted(unlink, *a, **o))
    out = tmp_path / "out"
    run(out)
    total = calls
    assert total > 35
    expected = files((fours if ranged else whole)[0])
    for moment in random.Random(0).sample(range(1, total + 1), 8):
        shutil.rmtree(out)
        calls, limit = 0, moment
        with pytest.raises(Killed):
            run(out)
        limit = 0
        run(out)
        assert files(out) == expected, moment


def test_what_an_earlier_run_began(whole, inputs, tmp_path):
    """Another plan is told, other files are left alone, a lost shard is made again."""
    out = tmp_path / "out"
    shutil.copytree(whole[0], out)
    before = {file: file.stat().st_mtime_ns for file in out.iterdir() if file.is_file()}
    annotate_regions(inputs, out, SETTINGS, coco=True)
    assert {file: file.stat().st_mtime_ns for file in before} == before
    with pytest.raises(ValueError, match=r"otherwise \(settings\.max_boxes was 100, is 1 now"):
        annotate_regions(inputs, out, AnnotationSettings(shard_size=5, max_boxes=1))
    (out / "000001.tar").unlink()
    annotate_regions(inputs, out, SETTINGS, coco=True)
    assert files(out) == files(whole[0])
    found = annotate_regions(
        inputs, out, AnnotationSettings(shard_size=4, max_boxes=1), overwrite=True
    ).manifest
    assert found["counts"]["boxes"]["kept"] == 9
    assert "proposals.json" not in files(out)
    other = tmp_path / "other"
    other.mkdir()
    (other / "mine.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"holds mine\.txt; name a new folder"):
        annotate_regions(inputs, other, SETTINGS, overwrite=True)
    with pytest.raises(ValueError, match="SRC and OUT are the same folder"):
        annotate_regions(inputs, inputs.path, SETTINGS)


def test_images_that_came_later_are_another_source(inputs, tmp_path):
    folder = tmp_path / "images"
    shutil.copytree(inputs.path, folder)
    for file in list(folder.glob("*.jpg"))[:9]:
        file.unlink()
    new = Inputs(folder)
    settings = AnnotationSettings(shard_size=2)
    with pytest.raises(ValueError, match="no image is left"):
        annotate_regions(new, tmp_path / "out", settings)
    (folder / "zz.jpg").write_bytes(photograph(77))
    with pytest.raises(ValueError, match=r"begun otherwise \(source\.images was 4, is 5 now\)"):
        annotate_regions(new, tmp_path / "out", settings)


def test_the_first_pass_alone_needs_no_models(whole, inputs, tmp_path):
    """Ranges that come after it know all duplicates."""
    out = tmp_path / "out"
    run = partial(annotate_regions, inputs, out, SETTINGS, coco=True)
    with pytest.MonkeyPatch.context() as patch:
        patch.delitem(PROPOSERS, "existing")
        patch.setitem(PROPOSERS, "existing", "nowhere:Nothing")
        assert run(first_pass_only=True).missing == [0, 1, 2]
        with pytest.raises(ImportError):
            run(shard_range=(2, 3))
    run(shard_range=(2, 3))
    assert not list((out / ".work/staged").iterdir())
    run()
    assert files(out) == files(whole[0])


def test_own_shards_are_a_source(whole, tmp_path):
    """Boxes with their captions go through a second time and stay what they are."""
    settings = AnnotationSettings(captioner="existing")
    annotate_regions(Inputs(whole[0]), tmp_path / "out", settings)
    ours, other = Shards(whole[0]), Shards(tmp_path / "out")
    assert ours.categories == other.categories
    for number in range(9):
        a, b = ours.read_record(number), other.read_record(number)
        assert (a["image"], a["captions"]) == (b["image"], b["captions"])
        for old, new in zip(a["annotations"], b["annotations"], strict=True):
            assert {**old, "id": 0} == {**new, "id": 0}


class Corners:
    """Proposes two boxes of known names, one of them twice, and one that nobody knows."""

    identity = "corners 1"
    needs_images = True
    categories = ("left", "right")

    def __init__(self, argument, score=0.5):
        self.score = score

    def propose(self, images, keys, known):
        boxes = np.array([[0, 0, 20, 20], [1, 0, 20, 20], [40, 0, 90, 60], [50, 5, 70, 25]])
        assert all(image.mode == "RGB" for image in images)
        scores = np.array([self.score, 0.4, 0.9, 0.3])
        names = ("left", "left", "right", "other")
        return [Proposals(boxes.astype(np.float32), scores, names, (None,) * 4) for _ in images]


class Sizes:
    """Describes crops by their size, and fails on some."""

    identity = "sizes"
    needs_crops = True
    batches: ClassVar[list] = []

    def __init__(self, argument):
        pass

    def caption(self, crops, regions):
        self.batches.append([crop.width * crop.height for crop in crops])
        return [
            CaptionFailure("endpoint timed out")
            if region.name == "other"
            else " \n"
            if region.name == "left" and region.key == "00.jpg"
            else f"{crop.width} by {crop.height}"
            for crop, region in zip(crops, regions, strict=True)
        ]


@pytest.fixture
def kinds(monkeypatch):
    """The two above by the name ``test``."""
    monkeypatch.setitem(PROPOSERS, "test", f"{__name__}:Corners")
    monkeypatch.setitem(CAPTIONERS, "test", f"{__name__}:Sizes")
    Sizes.batches.clear()


def test_models_see_pixels(kinds, inputs, tmp_path):
    settings = AnnotationSettings.of(
        {
            "proposer": "test:a",
            "captioner": "test",
            "proposer_options.score": 0.8,
            "captioner_batch": 4,
            "crop_scale": 1.2,
        }
    )
    counts = annotate_regions(inputs, tmp_path / "out", settings).manifest["counts"]
    assert counts["images"]["kept"] == 10, "boxes of the source are not needed"
    assert counts["boxes"] == {"proposed": 40, "kept": 19}
    assert counts["boxes left out"] == {
        "caption is empty": 1,
        "no caption: endpoint timed out": 10,
        "overlaps a better one": 10,
    }
    sizes = [size for batch in Sizes.batches for size in batch]
    assert sizes == sorted(sizes), "crops of about the same size go together"
    assert {len(batch) for batch in Sizes.batches[:-1]} == {4}
    source = Shards(tmp_path / "out")
    assert [category["name"] for category in source.categories] == ["left", "right"]
    boxes = source.read_record(1)["annotations"]
    assert [(box["category_id"], box["score"]) for box in boxes] == [(2, 0.9), (1, 0.8)]
    assert [box["caption"] for box in boxes] == ["60 by 64", "22 by 22"]


def test_workers_of_ray_do_the_same(kinds, inputs, tmp_path):
    """The calls that Ray makes; tools/benchmark_annotation.py runs Ray itself."""
    settings = AnnotationSettings(shard_size=5, proposer="test", captioner="test")
    kinds_of_driver = (dict(PROPOSERS), dict(CAPTIONERS))

    class Engine(LocalEngine):
        def scan(self, source, files, job, times, tell):
            for number, file in files.items():
                answer = _Scanner(job)({"task": (source[number], file)})
                assert answer["images"] == len(source[number])

        def annotate(self, tasks, job, times, tell):
            worker = _Annotator(job, kinds_of_driver)
            answers = [worker({"task": task}) for task in tasks]
            assert sum(answer["images"] for answer in answers) == 10
            assert answers[0]["stages"] == ["boxes", "captions", "read", "write"]

    annotate_regions(inputs, tmp_path / "ray", settings, engine=Engine)
    annotate_regions(inputs, tmp_path / "local", settings)
    assert files(tmp_path / "ray") == files(tmp_path / "local")


def test_a_dry_run_writes_nothing(kinds, inputs, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    settings = AnnotationSettings(shard_size=5, proposer="test", captioner="test")
    found = estimate(inputs, settings, 6)
    assert (found.tried, found.kept, found.boxes, found.total) == (6, 6, 11, 13)
    assert found.bytes > 6 * len(photograph(1))
    found.times.seconds.update({"boxes": 36.0 - found.times.seconds["boxes"]})
    lines = {line.partition("  ")[0]: line.split() for line in found.lines()}
    assert lines["images kept"][2:] == ["13", "2500000", "2500000"]
    assert lines["boxes kept"][2:] == ["24", "4583333", "10400000"]
    assert lines["boxes, CPU hours"][3:] == ["0.0217", "4.17e+03", "36", "(A800)"]
    assert list(tmp_path.iterdir()) == []


def test_shards_of_img2dataset(kinds, tmp_path):
    samples = {}
    for number in range(4):
        metadata = {"caption": f"picture {number}", "url": "http://a/b.jpg", "key": f"{number:09d}"}
        metadata |= {"status": "success", "punsafe": 0.9 if number == 1 else 0.1}
        sample = {"jpg": photograph(number), "json": json.dumps(metadata).encode()}
        samples[f"{number:09d}"] = sample | ({"txt": b"a text"} if number == 2 else {})
    write_tar(tmp_path / "00000.tar", samples)
    (tmp_path / "00000.parquet").write_bytes(b"")
    (tmp_path / "00000_stats.json").write_text("{}")
    settings = AnnotationSettings(proposer="test")
    manifest = annotate_regions(Inputs(tmp_path), tmp_path / "out", settings).manifest
    assert manifest["counts"]["images left out"] == {"metadata say that it is unsafe": 1}
    source = Shards(tmp_path / "out")
    records = [source.read_record(number) for number in range(3)]
    assert [r["captions"] for r in records] == [["picture 0"], ["a text"], ["picture 3"]]
    assert records[1]["image"]["file_name"] == "00000/000000002.jpg"
    assert len({box["id"] for record in records for box in record["annotations"]}) == 9
