"""Captions of images and of regions, and panoptic segments."""

import pytest

from fineclip.annotations import (
    FileReport,
    announce,
    audit_caption_list,
    audit_captions,
    audit_panoptic,
    audit_region_captions,
)
from fineclip.annotations import report as reports


def captions():
    return {
        "images": [{"id": 1, "file_name": "a.jpg"}, {"id": 2, "file_name": "b.jpg"}],
        "annotations": [
            {"image_id": 1, "caption": "a cat"},
            {"image_id": 2, "caption": " a dog "},
            {"image_id": 2, "caption": "two"},
        ],
    }


def test_captions_as_written():
    found, report = audit_captions(captions(), "c.json", images=True)
    assert found.images == {1: "a.jpg", 2: "b.jpg"}
    assert found.by_image == {1: ["a cat"], 2: [" a dog ", "two"]}
    assert report.findings == []
    assert report.counts == {"images": 2, "captions": 3}


@pytest.mark.parametrize("blank", ["", " \n"])
def test_empty_captions_are_dropped_and_counted(blank):
    data = captions()
    data["annotations"][0]["caption"] = blank
    found, report = audit_captions(data, "c.json", images=True)
    assert 1 not in found.by_image
    assert [(f.kind, f.reason) for f in report.findings] == [
        ("dropped", "empty captions"),
        ("noted", "images without caption"),
    ]
    assert audit_region_captions({"5": blank, "6": "x"}, "r.json")[0] == {"6": "x"}
    entries = [{"image": "a.jpg", "caption": [blank, "x"]}]
    assert audit_caption_list(entries, "l.json")[0] == {"a.jpg": ["x"]}


def test_caption_ids_as_strings_are_numbers():
    data = captions()
    for entry in data["annotations"]:
        entry["image_id"] = str(entry["image_id"])
    # Without a list of images in the file there is nothing that says otherwise.
    found, report = audit_captions(data, "c.json", images=False)
    assert list(found.by_image) == [1, 2]
    assert report.verdict == "mended"


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda d: d["annotations"][0].update(image_id=9), "image_id 9 is not among 'images'"),
        (
            lambda d: d["annotations"][0].update(image_id="1"),
            "image_id '1' is a string, images[0] has the id 1, a number",
        ),
        (lambda d: d["images"][1].update(id=1), "images[0] and images[1] have the same id 1"),
        (lambda d: d["annotations"][0].update(caption=None), "'caption' must be a string"),
        (lambda d: d["annotations"][0].update(caption=["x"]), "'caption' must be a string"),
        (lambda d: d.update(annotations={}), "annotations: expected a list, got dict"),
        (lambda d: d["images"].append("c.jpg"), "images[2]: expected a JSON object, got str"),
    ],
)
def test_captions_are_refused(change, words):
    data = captions()
    change(data)
    report = audit_captions(data, "c.json", images=True)[1]
    assert words in "\n".join(report.lines())
    with pytest.raises(ValueError, match=r"^c\.json: "):
        report.raise_if_refused()


@pytest.mark.parametrize("content", [[], {"1": 2}, {"1": None}, "x"])
def test_region_captions_are_refused(content):
    assert audit_region_captions(content, "r.json")[1].verdict == "refused"


def panoptic():
    return {
        "images": [{"id": 1, "file_name": "a.jpg", "width": 40, "height": 30}],
        "categories": [{"id": 3, "name": "cat"}],
        "annotations": [
            {
                "image_id": 1,
                "file_name": "a.png",
                "segments_info": [{"id": 7, "category_id": 3, "bbox": [0, 0, 5, 5]}],
            }
        ],
    }


@pytest.mark.parametrize(
    ("change", "verdict", "words"),
    [
        (lambda d, s: None, "clean", ""),
        (lambda d, s: s.update(bbox=["0", "0", "5", "5"]), "mended", "bbox given as list"),
        (lambda d, s: s.update(id="7"), "mended", "id given as str"),
        (lambda d, s: d["images"][0].update(width="40"), "mended", "width given as str"),
        (
            lambda d, s: d["annotations"][0].update(file_name="pan\\a.png"),
            "mended",
            "Windows separators",
        ),
        (lambda d, s: s.update(category_id=4), "refused", "category_id 4 is not among"),
        (lambda d, s: s.update(bbox=[0, 0, -5, 5]), "refused", "negative size"),
        (
            lambda d, s: d["annotations"][0].update(segments_info={}),
            "refused",
            "'segments_info' must be a list",
        ),
        (lambda d, s: d["annotations"][0].update(image_id=2), "refused", "image_id 2 is not"),
    ],
)
def test_panoptic_segments(change, verdict, words):
    data = panoptic()
    change(data, data["annotations"][0]["segments_info"][0])
    report = audit_panoptic(data, "p.json")[1]
    assert report.verdict == verdict
    assert words in "\n".join(report.lines())


def test_a_report_at_a_glance():
    report = FileReport("boxes.json")
    report.counts["boxes"] = 9
    for index in range(5):
        report.add("mended", "area missing", f"annotations[{index}]")
    report.add("noted", "images without boxes", "images[3]")
    assert report.lines() == [
        "boxes.json: MENDED (9 boxes)",
        "  mended  5 x area missing: annotations[0], annotations[1], annotations[2], ...",
        "  noted   1 x images without boxes: images[3]",
    ]
    report.add("refused", "two with one id", "images[0] and images[1] have one id")
    assert report.lines()[:3] == [
        "boxes.json: REFUSED (9 boxes)",
        "  refused 1 x two with one id",
        "            images[0] and images[1] have one id",
    ]


def test_a_finding_is_logged_once_per_run(monkeypatch):
    said = []

    class Logger:
        def log(self, level, line):
            said.append(line)

    loggers = [Logger(), Logger()]
    report = FileReport("boxes.json")
    report.add("mended", "area missing", "annotations[0]")
    for logger in (loggers[0], loggers[0], loggers[1]):
        monkeypatch.setattr(reports.MMLogger, "get_current_instance", lambda logger=logger: logger)
        announce(report)
    assert said == ["boxes.json: mended  1 x area missing: annotations[0]"] * 2
