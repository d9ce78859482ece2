"""Division into splits: by seed alone, and never between copies of one image."""

import numpy as np
import own_data
import pytest
from PIL import Image

from fineclip.importing import ImportOptions, import_data
from fineclip.importing.near_duplicates import DISTANCE, divide, duplicate_groups
from fineclip.importing.pictures import look_at

PICTURES = 12


@pytest.fixture(scope="module")
def copies(tmp_path_factory):
    """Twelve pictures, of four of which there are copies: recompressed, smaller, turned by EXIF."""
    folder = tmp_path_factory.mktemp("copies") / "src"
    folder.mkdir()
    for number in range(PICTURES):
        own_data.picture(100 + number, (96, 64)).save(folder / f"{number}.jpg", quality=95)
    own_data.copy_of(folder / "3.jpg", folder / "a copy of 3.jpg", quality=20)
    own_data.copy_of(folder / "3.jpg", folder / "small 3.jpg", scale=0.4)
    own_data.copy_of(folder / "4.jpg", folder / "squashed 4.jpg", scale=2.0)
    own_data.copy_of(folder / "5.jpg", folder / "5.jpg.rf.0a1b2c.jpg")
    own_data.picture(999, (96, 64)).save(folder / "5.jpg.rf.77aa.jpg")  # an augmented version
    exif = Image.Exif()
    exif[0x112] = 6
    with Image.open(folder / "6.jpg") as image:
        image.transpose(Image.Transpose.ROTATE_90).save(folder / "turned 6.jpg", exif=exif)
    for image in folder.glob("*.jpg"):
        image.with_suffix(".txt").write_text("0 0.5 0.5 0.5 0.5")
    return folder


def parts_of(out):
    return {stem: split for stem, (split, _) in own_data.imported(out).items()}


FAMILIES = (
    ("3", "a copy of 3", "small 3"),
    ("4", "squashed 4"),
    ("5.jpg.rf.0a1b2c", "5.jpg.rf.77aa", "5"),
    ("6", "turned 6"),
)


@pytest.mark.parametrize("seed", range(3))
def test_copies_stay_together(copies, tmp_path, seed):
    options = ImportOptions(classes=["x"])
    shares = (0.5, 0.25, 0.25)
    result = import_data(
        copies, tmp_path / "out", form="yolo", options=options, shares=shares, seed=seed
    )
    found = parts_of(tmp_path / "out")
    for family in FAMILIES:
        assert len({found[stem] for stem in family}) == 1, family
    assert result.counts == {"train": 9, "val": 5, "test": 4}
    told = "\n".join(result.lines())
    assert f"divided by --split 0.5 0.25 0.25 --seed {seed}" in told
    assert "4 groups of near-duplicates (10 of 18 images), none divided" in told


def test_a_division_is_of_seed_and_names_alone(copies, tmp_path):
    moved = tmp_path / "moved"
    moved.mkdir()
    for file in sorted(copies.iterdir(), reverse=True):
        (moved / file.name).write_bytes(file.read_bytes())
    found = []
    for source, seed, name in ((copies, 7, "a"), (moved, 7, "b"), (copies, 8, "c")):
        options = ImportOptions(classes=["x"])
        import_data(source, tmp_path / name, form="yolo", options=options, seed=seed)
        found.append(parts_of(tmp_path / name))
    assert found[0] == found[1] != found[2]
    assert set(found[0].values()) == {"train", "val", "test"}  # 0.8 0.1 0.1 by default


def test_splits_of_the_source_are_kept_and_copies_across_them_told(copies, tmp_path):
    src = tmp_path / "src"
    for split, stem in (("train", "3"), ("train", "0"), ("val", "small 3"), ("val", "1")):
        (src / split).mkdir(parents=True, exist_ok=True)
        for suffix in (".jpg", ".txt"):
            target = src / split / f"{stem}{suffix}"
            target.write_bytes((copies / f"{stem}{suffix}").read_bytes())
    options = ImportOptions(classes=["x"])
    result = import_data(src, tmp_path / "out", form="yolo", options=options)
    assert parts_of(tmp_path / "out") == {"3": "train", "0": "train", "small 3": "val", "1": "val"}
    line = "1 x images of val with a near-duplicate in train (--split divides anew): val/small 3"
    assert line in "\n".join(result.lines())


def test_few_images_still_have_a_validation_part(tmp_path):
    own_data.write_images(tmp_path / "src", ["a", "d", "e"])
    own_data.write_yolo_labels(tmp_path / "src", ["a", "d", "e"])
    options = ImportOptions(classes=own_data.CLASSES)
    result = import_data(tmp_path / "src", tmp_path / "out", form="yolo", options=options)
    assert result.counts == {"train": 1, "val": 1, "test": 1}


def test_groups_are_joined_through_others():
    """0 - 1 - 2 are a chain of which the ends are far; 3 and 4 have one name; 5 is alone."""
    rows = np.zeros((6, 3), np.uint64)
    rows[1, 0], rows[2, 0] = 2**30 - 1, 2**60 - 1
    rows[3:, 1:] = [[0, 2**64 - 1], [2**64 - 1, 0], [2**64 - 1, 2**64 - 1]]
    groups = duplicate_groups(rows, 30, ["a", "b", "c", "same", "same", "f"])
    assert [np.flatnonzero(groups == g).tolist() for g in dict.fromkeys(groups.tolist())] == [
        [0, 1, 2],
        [3, 4],
        [5],
    ]
    assert len(set(duplicate_groups(rows, 29).tolist())) == 6
    assert len(set(duplicate_groups(rows[:1], 0, []).tolist())) == 1
    with pytest.raises(ValueError, match="near-duplicates"):
        duplicate_groups(rows, 72)


def test_shares_are_met_as_nearly_as_groups_allow():
    groups = np.arange(100)
    names = [f"{number:03d}" for number in groups]
    counts = np.bincount(divide(groups, (0.8, 0.1, 0.1), 0, names))
    assert counts.tolist() == [80, 10, 10]
    order = np.random.default_rng(0).permutation(100)  # another listing of the same files
    shuffled = divide(groups, (0.8, 0.1, 0.1), 0, [names[i] for i in order])
    assert (shuffled == divide(groups, (0.8, 0.1, 0.1), 0, names)[order]).all()
    groups[:50] = 0  # half of them are one
    parts = divide(groups, (0.5, 0.3, 0.2), 0, names)
    assert np.bincount(parts).tolist() == [50, 30, 20]
    assert len(set(parts[:50].tolist())) == 1
    assert sorted(np.bincount(divide(np.arange(3), (98, 1, 1), 0, names[:3])).tolist()) == [1, 1, 1]


def test_fingerprints_tell_copies_from_others(tmp_path):
    """As :data:`fineclip.importing.near_duplicates.DISTANCE` supposes, on smooth pictures too."""
    for number in range(6):
        own_data.picture(number, (200, 150)).save(tmp_path / f"{number}.png")
        own_data.copy_of(tmp_path / f"{number}.png", tmp_path / f"{number}.jpg", scale=0.3)
    own, copy = (
        np.stack([look_at(tmp_path / f"{number}{suffix}").fingerprint for number in range(6)])
        for suffix in (".png", ".jpg")
    )
    distances = np.bitwise_count(own[:, None] ^ copy[None]).sum(axis=2)
    assert distances.diagonal().max() <= DISTANCE
    assert distances[~np.eye(6, dtype=bool)].min() > 2 * DISTANCE
