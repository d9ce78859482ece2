"""Reading label maps: formats, ranges, mappings, messages."""

import numpy as np
import pytest
from PIL import Image

from fineclip.datasets.label_maps import read_indices, read_label_map
from segmentation.data.seen_classes import seen_classes


def save(path, values, **options):
    Image.fromarray(np.asarray(values)).save(path, **options)
    return path


def test_eight_bit(tmp_path):
    path = save(tmp_path / "a.png", np.uint8([[0, 4], [255, 2]]))
    labels = read_label_map(path, num_classes=5, ignore_label=255)
    assert labels.dtype == np.uint8
    assert labels.tolist() == [[0, 4], [255, 2]]


def test_sixteen_bit(tmp_path):
    path = save(tmp_path / "a.tif", np.uint16([[0, 846], [65535, 300]]))
    labels = read_label_map(path, num_classes=847, ignore_label=65535)
    assert labels.tolist() == [[0, 846], [65535, 300]]
    path = save(tmp_path / "b.tif", np.uint16([[458, 459]]))
    assert read_label_map(path, num_classes=459, ignore_label=459).tolist() == [[458, 459]]


def test_palettes_are_not_looked_up(tmp_path):
    image = Image.fromarray(np.uint8([[0, 1, 20, 255]]))
    image.putpalette([value for i in range(256) for value in (255 - i, i // 2, 7)])
    image.save(tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").mode == "P"
    assert read_indices(tmp_path / "a.png").tolist() == [[0, 1, 20, 255]]


def test_mapping(tmp_path):
    path = save(tmp_path / "a.png", np.uint8([[0, 1, 2, 255]]))
    labels = read_label_map(path, num_classes=2, ignore_label=255, label_map=(1, 255, 0))
    assert labels.tolist() == [[1, 255, 0, 255]]
    labels = read_label_map(path, num_classes=3, ignore_label=255, label_map=[2] * 256)
    assert labels.tolist() == [[2, 2, 2, 255]]  # whatever the mapping says of it
    path = save(tmp_path / "b.png", np.uint8([[3]]))
    with pytest.raises(ValueError, match=r"b\.png holds 3, .* 3 classes \(0 to 2\)"):
        read_label_map(path, num_classes=2, ignore_label=255, label_map=(1, 255, 0))


def test_values_out_of_range_name_file_value_and_classes(tmp_path):
    path = save(tmp_path / "a.png", np.uint8([[0, 5, 254, 255]]))
    with pytest.raises(ValueError, match=r"a\.png holds 5, 254, .* 5 classes \(0 to 4\).* 255"):
        read_label_map(path, num_classes=5, ignore_label=255)
    # 65535 is not what 8-bit maps mark with.
    with pytest.raises(ValueError, match="holds 255"):
        read_label_map(
            save(tmp_path / "b.png", np.uint8([[255]])), num_classes=9, ignore_label=65535
        )


def test_unusable_files_are_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"none\.png does not exist"):
        read_indices(tmp_path / "none.png")
    (tmp_path / "text.png").write_text("no image")
    with pytest.raises(ValueError, match=r"text\.png: cannot be decoded"):
        read_indices(tmp_path / "text.png")
    whole = save(tmp_path / "whole.png", np.zeros((64, 64), np.uint8) + np.arange(64, dtype="u1"))
    (tmp_path / "half.png").write_bytes(whole.read_bytes()[:60])
    with pytest.raises(ValueError, match=r"half\.png: cannot be decoded"):
        read_indices(tmp_path / "half.png")
    with pytest.raises(ValueError, match=r"rgb\.png has pixels of type RGB"):
        read_indices(save(tmp_path / "rgb.png", np.zeros((2, 2, 3), np.uint8)))


def test_seen_classes():
    names = ["bed ", "Sea/Lake", "sofa, couch, lounge", "wall", "tree"]
    training = ["bed", "sea or lake", "couch", "wall-other", "palm, tree"]
    assert seen_classes(names, training) == (True, True, True, False, True)
