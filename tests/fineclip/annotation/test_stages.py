"""The stages one by one: captions, boxes, pictures that look alike, settings, sources."""

import io
import random

import numpy as np
import pytest
from corrupt_inputs import photograph
from PIL import Image

from fineclip.annotation import duplicates
from fineclip.annotation.box_cleaning import clean_boxes
from fineclip.annotation.caption_cleaning import clean_caption, clean_captions, normalised
from fineclip.annotation.duplicates import find_duplicates
from fineclip.annotation.existing import ExistingCaptions
from fineclip.annotation.fingerprints import fingerprint
from fineclip.annotation.folder_source import FolderSource
from fineclip.annotation.interfaces import (
    CaptionFailure,
    Proposals,
    RegionInfo,
    create_captioner,
    create_proposer,
)
from fineclip.annotation.records import LeftOut, countable
from fineclip.annotation.settings import AnnotationSettings
from fineclip.annotation.sources import open_source

SETTINGS = AnnotationSettings()


@pytest.mark.parametrize(
    ("caption", "clean"),
    [
        ("  two\tdogs \n", "two dogs"),
        ("<b>two</b> dogs &amp; a cat<br/>", "two dogs & a cat"),
        ("&lt;i&gt;two&lt;/i&gt; dogs", "two dogs"),
        ("cafe\u0301", "caf\xe9"),
        ("a\0b\u200bc", "a b c"),
        ("3 < 5 and 7 > 5", "3 < 5 and 7 > 5"),
        (b"\xef\xbb\xbftwo dogs", "two dogs"),
        ("\u732b\u304c\u4e8c\u5339", "\u732b\u304c\u4e8c\u5339"),
    ],
)
def test_captions_are_plain(caption, clean):
    assert clean_caption(caption, SETTINGS) == clean


@pytest.mark.parametrize(
    ("caption", "reason"),
    [
        ("", "caption is empty"),
        ("<p></p>", "caption is empty"),
        ("?!", "caption is empty"),
        (b"\xff", "caption is not UTF-8"),
        ("\udcff", "caption is not UTF-8"),
        ("dog", "caption has too few words"),
        ("word " * 9, "caption is too long"),
        ("a dog, Dog dog dog.", "caption repeats a word"),
        ("a Rude dog", "caption has a blocked word"),
    ],
)
def test_captions_that_are_left_out(caption, reason):
    settings = AnnotationSettings.of({"min_words": 2, "max_words": 8, "blocked_words": ["rude"]})
    with pytest.raises(LeftOut, match=reason):
        clean_caption(caption, settings)


def test_captions_of_an_image():
    kept, reasons = clean_captions(["Two dogs.", "", "two  DOGS", "a cat"], SETTINGS)
    assert kept == ["Two dogs.", "a cat"]
    assert reasons == ["caption is empty", "caption is there twice"]
    assert normalised("Two DOGS, one caf\xe9!") == normalised("two dogs one CAFE\u0301")


def test_reasons_can_be_counted():
    assert countable("is 30 x 4.5 pixels") == countable("is 7 x 8 pixels") == "is N x N pixels"
    assert countable("bad chunk b'\\x00ab' at 0x7f3a") == "bad chunk '...' at N"
    assert countable("\x07" + "a" * 500) == "?" + "a" * 119


def test_boxes():
    nan = float("nan")
    boxes = [
        ([10, 10, 50, 50], 0.5, "kept, the second"),
        ([11, 10, 50, 51], 0.4, "overlaps a better one"),
        ([60, 60, 300, 90], 0.9, "kept, cut to the image"),
        ([-20, -20, -1, -1], 0.9, "empty or outside its image"),
        ([50, 10, 40, 50], 0.9, "empty or outside its image"),
        ([nan, 0, 10, 10], 0.9, "not finite"),
        ([0, 0, 40, 40], nan, "not finite"),
        ([0, 0, 40, 40], 0.1, "score too low"),
        ([0, 0, 0.5, 90], 0.9, "side too short"),
        ([0, 0, 7, 7], 0.9, "area too small"),
        ([0, 0, 100, 100], 0.9, "area too large"),
        ([70, 10, 90, 30], 0.45, "kept, the third"),
        ([70, 30, 90, 50], 0.42, "more than an image may have"),
    ]
    proposals = Proposals(
        np.array([box for box, _, _ in boxes], np.float32),
        np.array([score for _, score, _ in boxes], np.float32),
        tuple(name for _, _, name in boxes),
        tuple(name.upper() for _, _, name in boxes),
    )
    settings = AnnotationSettings(min_score=0.2, max_box_area=9000, max_boxes=3, nms_iou=0.7)
    kept, left_out = clean_boxes(proposals, 100, 100, settings)
    assert kept.names == ("kept, cut to the image", "kept, the second", "kept, the third")
    assert kept.captions == tuple(name.upper() for name in kept.names)
    assert kept.boxes[0].tolist() == [60, 60, 100, 90]
    assert left_out == {
        reason: sum(name == reason for *_, name in boxes)
        for *_, reason in boxes
        if not reason.startswith("kept")
    }
    none = Proposals(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), (), ())
    assert len(clean_boxes(none, 100, 100, settings)[0].boxes) == 0


def test_annotated_boxes_may_overlap_more():
    assert AnnotationSettings().overlap() == 0.95
    assert AnnotationSettings(proposer="hf:x").overlap() == 0.7
    assert AnnotationSettings(nms_iou=0.5).overlap() == 0.5


def prints(pictures, captions=None):
    """Arguments of find_duplicates for files."""
    found = []
    for number, content in enumerate(pictures):
        with Image.open(io.BytesIO(content)) as image:
            texts = [] if captions is None else [captions[number]]
            found.append(fingerprint(content, image.convert("RGB"), texts))
    return {
        "content": np.stack([np.frombuffer(one.content, np.uint8) for one in found]),
        "looks": np.array([one.looks for one in found], np.uint64),
        "flat": np.array([one.flat for one in found]),
        "colours": np.stack([one.colours for one in found]),
        "text": np.array([int.from_bytes(one.text, "big") for one in found], np.uint64),
    }


def saved_anew(content, **options):
    with Image.open(io.BytesIO(content)) as image:
        out = io.BytesIO()
        image.save(out, "JPEG", **options)
    return out.getvalue()


def test_duplicates():
    first, other = photograph(1, (128, 96)), photograph(2, (128, 96))
    plain = io.BytesIO()
    Image.new("RGB", (64, 64), "red").save(plain, "PNG")
    blue = io.BytesIO()
    Image.new("RGB", (64, 64), "blue").save(blue, "PNG")
    pictures = [
        *(first, other, first, saved_anew(first, quality=50)),
        *(plain.getvalue(), blue.getvalue(), plain.getvalue()),
    ]
    arrays = prints(pictures, ["A dog.", "a dog", "a dog", "a cat", "a dog!", "a cat", "a cow"])

    def found(how, most=None):
        return find_duplicates(**arrays, how=how, max_images_per_caption=most)

    exact, near = "exact duplicate of an image", "near duplicate of an image"
    assert found("near") == {2: exact, 3: near, 6: exact}
    assert found("exact") == {2: exact, 6: exact}
    assert found("off") == {}
    assert found("exact", 1) == {2: exact, 6: exact} | dict.fromkeys(
        (1, 4, 5), "caption of too many images"
    )


def test_near_duplicates_are_those_of_a_plain_search():
    """Greedy in the order of images; who is left out leaves out nobody."""
    rng, count = np.random.default_rng(0), 400
    centres = rng.integers(0, 2**64, 40, dtype=np.uint64)
    looks = centres[rng.integers(0, 40, count)]
    for _ in range(2):  # bits turned, so that pairs are up to four apart
        looks = looks ^ (np.uint64(1) << rng.integers(0, 64, count).astype(np.uint64))
    colours = rng.choice(np.array([100, 105, 120], np.uint8), (count, 1)).repeat(48, axis=1)
    arrays = {
        "content": np.arange(count, dtype=np.uint64)[:, None].view(np.uint8).repeat(2, axis=1),
        "looks": looks,
        "flat": rng.random(count) < 0.1,
        "colours": colours,
        "text": np.zeros(count, np.uint64),
    }
    expected: list[int] = []
    kept: list[int] = []
    for place in range(count):
        like = [
            other
            for other in kept
            if np.bitwise_count(looks[place] ^ looks[other]) <= duplicates.MAX_BITS
            and abs(int(colours[place, 0]) - int(colours[other, 0])) <= duplicates.MAX_COLOUR
        ]
        if arrays["flat"][place]:
            continue
        (expected if like else kept).append(place)
    found = find_duplicates(**arrays, how="near", max_images_per_caption=None)
    assert sorted(found) == expected
    assert 20 < len(expected) < 350


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"max_boxs": 3}, "there is no 'max_boxs'; did you mean max_boxes?"),
        ({"max_boxes": 0}, "max_boxes: expected an integer from 1 to 1000, got 0"),
        ({"min_score": "high"}, "min_score: expected a number from 0 to 1, got 'high'"),
        ({"duplicates": "all"}, "duplicates: expected 'near' or 'exact' or 'off', got 'all'"),
        ({"min_words": 9, "max_words": 3}, "min_words must not be above max_words"),
        ({"min_score.x": 1}, "there is no 'min_score.x'"),
    ],
)
def test_settings_that_make_no_sense(values, message):
    with pytest.raises(ValueError, match=message):
        AnnotationSettings.of(values)


def test_kinds_of_models():
    for create, what in ((create_proposer, "proposer"), (create_captioner, "captioner")):
        with pytest.raises(ValueError, match=f"{what} 'exsting:x': there is no kind 'exsting'"):
            create("exsting:x")
        with pytest.raises(ValueError, match="'existing' takes no argument"):
            create("existing:x")


def test_template_and_existing_captions():
    regions = [
        RegionInfo(f"{number}.jpg", (0, 0, 9, 9), name, caption, 1.0)
        for number, (name, caption) in enumerate([("owl", "an old owl"), ("", None)] * 8)
    ]
    crops = [None] * 16
    texts = create_captioner("template").caption(crops, regions)
    assert texts[:2] == ["a photo of an owl.", CaptionFailure("no name of a category")]
    some = create_captioner("template", templates=["a {}", "the {}", "one {}"])
    texts = some.caption(crops, regions)[::2]
    assert set(texts) == {"a owl", "the owl", "one owl"}
    assert some.caption(crops, regions)[::2] == texts
    assert ExistingCaptions().caption(crops, regions)[:2] == [
        "an old owl",
        CaptionFailure("the source has none"),
    ]


def test_names_in_a_table_of_captions(tmp_path):
    """Relative, absolute, without folders; what no image has is a missing one."""
    root = tmp_path / "images"
    for name in ("a/x.jpg", "b/x.jpg", "b/y.PNG", "z.jpg"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(photograph(1))
    (root / ".hidden.jpg").write_bytes(b"")
    (root / "loop").symlink_to(root)
    table = tmp_path / "t.csv"
    table.write_text(
        f"caption,image\none,a/x.jpg\ntwo,{root}/b/x.jpg\nthree,y.PNG\nfour,./z.jpg\n"
        "five,x.jpg\nsix,gone.jpg\nseven,a/x.jpg\n"
    )
    source = FolderSource(root, captions=table, shard_size=4)
    shard = [entry for number in range(len(source)) for entry in source[number].entries]
    assert {entry.file_name: list(entry.captions) for entry in shard} == {
        "a/x.jpg": ["one", "seven"],
        "b/x.jpg": ["two"],
        "b/y.PNG": ["three"],
        "gone.jpg": ["six"],
        "x.jpg": ["five"],
        "z.jpg": ["four"],
    }
    assert [image.refusal for image in source[0].images()] == [None] * 3 + ["image no such file"]
    assert [len(source[number]) for number in range(2)] == [4, 2]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("t.csv", "", "no row can be used .there is none"),
        ("t.csv", "a,b,caption\n1,2,3\n", "no column with the file name among a, b, caption"),
        ("t.csv", "only\n", "expected columns of file names and captions"),
        ("t.txt", "a,b\n", "expected a file named .csv, .tsv, .jsonl"),
        ("t.jsonl", "[]\n{}", "no row can be used .2 x captions: row without file name"),
        ("t.json", "{}", "t.json"),
        ("t.json", "{", "not valid JSON"),
        ("gone.csv", None, "--captions: .*gone.csv does not exist"),
    ],
)
def test_tables_that_are_refused(tmp_path, name, content, message):
    (tmp_path / "images").mkdir()
    (tmp_path / "images" / "a.jpg").write_bytes(photograph(1))
    if content is not None:
        (tmp_path / name).write_text(content)
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        open_source(tmp_path / "images", captions=tmp_path / name)


def test_sources_that_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist; expected a folder of"):
        open_source(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="there is no image in it, nor shards"):
        open_source(tmp_path)
    with pytest.raises(ValueError, match="region-captions are of the boxes of --annotations"):
        open_source(tmp_path, region_captions=write(tmp_path / "r.json", "{}"))
    write(tmp_path / "0.tar", "")
    with pytest.raises(ValueError, match="holds shards, which have captions and boxes of their"):
        open_source(tmp_path, captions=write(tmp_path / "c.csv", "a,b"))
    with pytest.raises(ValueError, match=r"expected a folder of images, a folder of shards or a"):
        open_source(tmp_path / "c.csv")


def write(path, text):
    path.write_text(text)
    return path


def test_the_order_of_files_does_not_matter(tmp_path):
    """Listings come in any order; shards and their identity do not."""
    names = [f"{number:02d}.jpg" for number in range(9)]
    identities = []
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        random.Random(folder).shuffle(names)
        for name in names:
            (tmp_path / folder / name).write_bytes(b"")
        identities.append(open_source(tmp_path / folder).identity)
    assert identities[0] == identities[1]
