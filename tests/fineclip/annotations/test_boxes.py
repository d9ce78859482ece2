"""Files of boxes: what is mended, dropped and refused."""

import copy
import random

import damaged
import pytest

from fineclip.annotations import audit_boxes, file_name_of, read_boxes


def audited(change, data=None, **options):
    return audit_boxes(damaged.damage(change, data), "boxes.json", **options)


def found(report, kind, words):
    return [f for f in report.findings if f.kind == kind and words in f.reason]


def test_a_file_as_it_should_be_is_clean_and_unchanged():
    data, report = audited(damaged.nothing)
    assert data == damaged.annotations()
    assert report.verdict == "clean"
    assert report.findings == []
    assert report.counts == {"images": 3, "boxes": 8, "masks": 8, "categories": 3}
    assert (
        audited(damaged.nothing, damaged.lvis(damaged.annotations()), lvis=True)[1].findings == []
    )


@pytest.mark.parametrize("name", damaged.MENDED)
def test_mended_and_counted(tmp_path, name):
    change, words, count = damaged.MENDED[name]
    file = damaged.write(tmp_path / "boxes.json", damaged.damage(change), name)
    data, report = read_boxes(file)
    (finding,) = found(report, "mended", words)
    assert finding.count == count
    assert report.verdict == "mended"
    # Everything that evaluators and detectors ask for is there, and reading it again changes none.
    ids = [annotation["id"] for annotation in data["annotations"]]
    assert sorted(set(ids)) == ids
    assert min(ids) > 0
    for annotation in data["annotations"]:
        x, y, w, h = annotation["bbox"]
        assert min(w, h, annotation["area"], x + 1, y + 1) > 0
        assert x + w <= damaged.WIDTH
        assert y + h <= damaged.HEIGHT
        assert annotation["iscrowd"] == 0
        assert isinstance(annotation["segmentation"], list)
    again, report = audit_boxes(copy.deepcopy(data), "again")
    assert again == data
    assert report.verdict == "clean"


@pytest.mark.parametrize("name", damaged.DROPPED)
def test_dropped_and_counted(name):
    change, words = damaged.DROPPED[name]
    data, report = audited(change)
    (finding,) = found(report, "dropped", words)
    assert finding.count == 1
    assert "annotations[2] [" in finding.examples[0]
    assert [a["id"] for a in data["annotations"]] == [501, 502, 504, 505, 506, 507, 508]
    assert report.counts["boxes"] == 7


@pytest.mark.parametrize("name", damaged.REFUSED)
def test_refused_naming_entries_and_file(tmp_path, name):
    change, pattern = damaged.REFUSED[name]
    file = damaged.write(tmp_path / "boxes.json", damaged.damage(change))
    with pytest.raises(ValueError, match=pattern) as error:
        read_boxes(file)
    assert str(error.value).startswith(f"{file}: ")


@pytest.mark.parametrize("content", [[], None, 3, "x"])
def test_not_an_object(content):
    assert "expected a JSON object" in audit_boxes(content, "f")[1].lines()[1]


def test_what_is_there_but_of_no_use_is_noted():
    def change(data):
        data["categories"].append({"id": 9, "name": "yak"})
        data["images"].append({**data["images"][0], "id": 14})
        data["annotations"][0]["segmentation"] = []

    report = audited(change)[1]
    assert report.verdict == "clean"
    noted = {finding.reason: finding.count for finding in report.findings}
    assert noted == {
        "categories without boxes": 1,
        "images without boxes": 1,
        "images named twice": 1,
        "boxes without a mask": 1,
    }


def test_rounding_is_no_damage():
    """COCO's own boxes may stick out by what their coordinates were rounded by."""
    data, report = audited(damaged.one(0, bbox=[80, 10, 40.6, 30]))
    assert report.verdict == "clean"
    assert data["annotations"][0]["bbox"] == [80, 10, 40.6, 30]


def test_a_single_box_beyond_does_not_make_corners():
    data, report = audited(damaged.one(4, bbox=[60, 50, 100, 80]))
    assert report.verdict == "mended"
    assert data["annotations"][4]["bbox"] == [60, 50, 60, 40]
    assert data["annotations"][4]["area"] == 2400  # the mask's stays, where the box has room
    assert data["annotations"][4]["given_bbox"] == [60, 50, 100, 80]


def test_ids_of_the_file_are_kept_beside_new_ones():
    data, _ = audited(damaged.boxes(lambda a, n: a.update(id=n)))
    assert [a["given_id"] for a in data["annotations"]] == list(range(8))
    assert all(a["given_id"] is None for a in audited(damaged.without("id"))[0]["annotations"])


def test_proposals_need_no_categories():
    def change(data):
        del data["categories"]
        for annotation in data["annotations"]:
            del annotation["category_id"]

    assert audited(change, labelled=False)[1].verdict == "clean"
    assert "missing key 'categories'" in audited(change)[1].findings[0].reason
    # But a category that a box names must exist.
    unknown = damaged.one(0, category_id=9)
    assert audited(unknown, labelled=False)[1].verdict == "refused"


def test_lvis_keys():
    data = damaged.lvis(damaged.annotations())
    assert file_name_of(data["images"][0]) == "val/11.jpg"
    assert audited(lambda d: d["images"][0].pop("neg_category_ids"), data, lvis=True)[1].findings
    mended, report = audited(
        lambda d: d["images"][0].update(neg_category_ids=["2"]), data, lvis=True
    )
    assert mended["images"][0]["neg_category_ids"] == [2]
    assert report.verdict == "mended"
    assert "missing key 'frequency'" in audited(damaged.nothing, lvis=True)[1].lines()[1]


VALUES = (None, True, "", "x", "12", "\ud800", "\0", [], {}, [None], -1, 0, 1.5, 2**70, 1e300)


@pytest.mark.parametrize("seed", range(300))
def test_no_value_anywhere_ends_in_a_traceback(seed):
    rng = random.Random(seed)
    data = damaged.annotations()
    for _ in range(2):
        place, key = data, rng.choice(list(data))
        while isinstance(place[key], dict | list) and place[key] and rng.random() < 0.8:
            place = place[key]
            key = rng.choice(list(place) if isinstance(place, dict) else range(len(place)))
        place[key] = copy.deepcopy(rng.choice(VALUES))
    report = audit_boxes(data, "boxes.json")[1]
    assert report.lines()[0].startswith("boxes.json: ")
    assert report.as_json()["verdict"] == report.verdict
