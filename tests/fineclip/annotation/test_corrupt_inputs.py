"""300 broken inputs of many kinds: each is counted with its reason, and none ends a run."""

import json
import random

import pytest
from corrupt_inputs import CAPTIONS, IMAGES, METADATA, damaged_tar, photograph, write_tar

from fineclip.annotation.caption_tables import CaptionTable
from fineclip.annotation.run import Inputs, annotate_regions
from fineclip.annotation.settings import AnnotationSettings


@pytest.fixture(scope="module")
def rng():
    return random.Random(0)


def test_a_folder(tmp_path, rng):
    """Broken pictures and broken captions beside good ones, whose boxes are known."""
    folder = tmp_path / "images"
    folder.mkdir()
    images, boxes, kinds = [], [], []
    for number in range(220):
        kind = None if number % 4 == 0 else rng.choice(list(IMAGES))
        content = photograph(number) if kind is None else IMAGES[kind](rng)
        (folder / f"{number}.jpg").write_bytes(content)
        kinds.append(kind)
        images.append({"id": number, "file_name": f"{number}.jpg", "width": 64, "height": 48})
        boxes.append({"id": number + 1, "image_id": number, "bbox": [4, 4, 30, 30]})
        boxes[-1]["category_id"] = 1
    images.append({"id": 999, "file_name": "missing.jpg", "width": 64, "height": 48})
    data = {"images": images, "annotations": boxes, "categories": [{"id": 1, "name": "cloud"}]}
    (tmp_path / "boxes.json").write_text(json.dumps(data))
    inputs = Inputs(folder, annotations=tmp_path / "boxes.json")
    manifest = annotate_regions(inputs, tmp_path / "out", AnnotationSettings()).manifest
    counts = manifest["counts"]
    good = kinds.count(None)
    assert counts["images"] == {"read": 221, "kept": good}
    assert sum(counts["images left out"].values()) == 221 - good
    reasons = counts["images left out"]
    assert reasons["image no such file"] == 1
    assert reasons["image has too few pixels"] == kinds.count("too small")
    assert reasons["image is too long"] == kinds.count("too long")
    (bombs,) = (count for reason, count in reasons.items() if "N x N pixels" in reason)
    assert bombs == kinds.count("bomb")
    assert len(reasons) < 15, "numbers of one image are no reason"


def test_captions_beside_images(tmp_path, rng):
    folder = tmp_path / "images"
    folder.mkdir()
    for number, kind in enumerate(CAPTIONS):
        (folder / f"{number}.jpg").write_bytes(photograph(number))
        (folder / f"{number}.txt").write_bytes(CAPTIONS[kind](rng))
    (folder / "alone.jpg").write_bytes(photograph(100))
    (folder / "good.jpg").write_bytes(photograph(101))
    (folder / "good.txt").write_text("\ufeffa  cloud &amp; <b>two</b> things\n")
    shards = tmp_path / "shards"
    shards.mkdir()
    write_tar(
        shards / "0.tar",
        {
            image.stem: {
                file.suffix[1:]: file.read_bytes()
                for file in sorted(folder.glob(f"{image.stem}.*"))
            }
            for image in sorted(folder.glob("*.jpg"))
        },
    )
    for number, source in enumerate((folder, shards)):
        with pytest.raises(ValueError, match="no image is left") as caught:
            annotate_regions(Inputs(source), tmp_path / f"out{number}", AnnotationSettings())
        text = str(caught.value)
        counts = json.loads((tmp_path / f"out{number}" / "manifest.json").read_text())["counts"]
        assert counts["images"] == {"read": 10, "kept": 0}
        # Only the good one came so far that it had no box.
        for reason in (
            "1 x no box",
            "1 x no caption",
            "3 x caption is not UTF-8",
            "3 x caption is empty",
            "1 x caption is too long",
            "1 x caption repeats a word",
        ):
            assert reason in text, (source, reason)


def test_shards(tmp_path, rng):
    """Shards as img2dataset writes them, broken within and as a whole."""
    source = tmp_path / "shards"
    source.mkdir()
    own = {"annotations": [{"bbox": [4, 4, 30, 30], "category_id": 3}], "captions": ["a cloud"]}
    image = {"id": 0, "file_name": "a.jpg", "width": 64, "height": 48}
    expected = {"good": 0, "broken": 0}
    for shard in range(3):
        samples = {}
        for number in range(60):
            key = f"{shard}{number:04d}"
            metadata = json.dumps({**own, "image": {**image, "id": int(key)}}).encode()
            sample = {"jpg": photograph(int(key) + 500), "json": metadata}
            kind = rng.randrange(5)
            if kind == 0:
                sample["jpg"] = rng.choice(list(IMAGES.values()))(rng)
            elif kind == 1:
                sample["json"] = rng.choice(list(METADATA.values()))(rng)
            elif kind == 2:
                del sample["jpg"]
            samples[key] = sample
            expected["good" if kind > 2 else "broken"] += 1
        write_tar(source / f"{shard}.tar", samples)
    for number in range(10):
        damaged_tar(source / f"d{number}.tar", rng.randrange(3), rng)
    (source / "e.tar").write_bytes(b"")
    (source / "f.tar").write_text("not a tar file")
    (source / "index.json").write_text(json.dumps({"categories": [{"id": 3, "name": "cloud"}]}))
    manifest = annotate_regions(Inputs(source), tmp_path / "out", AnnotationSettings()).manifest
    counts = manifest["counts"]
    reasons = counts["images left out"]
    assert counts["images"]["kept"] == expected["good"]
    assert reasons["shard is damaged, the rest is lost"] == 12
    assert reasons["sample has no image"]
    assert reasons["metadata are not valid JSON"]
    assert reasons["metadata are no JSON object"]
    assert reasons["metadata are malformed"]
    assert sum(reasons.values()) == counts["images"]["read"] - expected["good"]
    # Of the damaged ones, what came before has no boxes, and is counted as such.
    assert sum(reasons.values()) - 12 - reasons["no box"] == expected["broken"]


@pytest.mark.parametrize(
    ("name", "content", "reasons"),
    [
        (
            "t.csv",
            b"image,caption\na.jpg,a dog\nb.jpg\n,nothing\nc.jpg,\xff\xfe\nd.jpg,a cat\n",
            {"captions: row without file name or caption": 2},
        ),
        ("t.tsv", b"a.jpg\ta dog\nd.jpg\ta cat\n\n", {}),
        (
            "t.jsonl",
            b'{"image": "a.jpg", "caption": "a dog"}\n{"image": 3, "caption": "x"}\n{"image"\n[1]\n'
            b'{"file_name": "d.jpg", "text": ["a cat", "a tabby"]}\n{"image": "e", "caption": [3]}',
            {
                "captions: row without file name or caption": 2,
                "captions: line is not valid JSON": 1,
                "captions: caption is not text": 1,
            },
        ),
    ],
)
def test_tables(tmp_path, name, content, reasons):
    """Rows that cannot be used are counted; names that are no image's are missing images."""
    (tmp_path / name).write_bytes(content)
    table = CaptionTable(tmp_path / name)
    assert dict(table.notes) == reasons
    assert table.captions["a.jpg"] == ["a dog"]
    assert table.captions["d.jpg"][0] == "a cat"
