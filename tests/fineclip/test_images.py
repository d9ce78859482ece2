"""The reader of image files: kinds, orientations, bounds, what is refused, what is counted."""

import pickle
import struct
import zlib

import image_files
import numpy as np
import pytest
from image_files import ORIENTED, write_lossy, write_oriented, write_tiff
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from fineclip.images import (
    MAX_PIXELS,
    SkippedImages,
    UnusableImageError,
    read_image,
)


def differs(path, expected):
    """Largest difference in grey levels."""
    found = read_image(path)
    assert found.mode == "RGB"
    return np.abs(np.asarray(found).astype(int) - expected.astype(int)).max()


@pytest.mark.parametrize("orientation", range(1, 9))
def test_pixels_of_every_kind_and_orientation(tmp_path, orientation):
    for kind in ORIENTED:
        path, expected = write_oriented(tmp_path, kind, orientation)
        # Compositing rounds.
        assert differs(path, expected) <= ("rgba" in kind or "alpha" in kind), kind
    for mode in ("RGB", "L", "CMYK"):
        path, expected = write_lossy(tmp_path, mode, orientation)
        assert differs(path, expected) == 0, mode


def test_pixels_of_other_kinds(tmp_path):
    for kind, path, expected in image_files.other_files(tmp_path):
        assert differs(path, expected) == 0, kind


def test_orientation_in_xmp_counts_and_damaged_exif_does_not(tmp_path):
    pixels = image_files.picture()
    image = Image.fromarray(pixels)
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf tiff:Orientation="3"/></x:xmpmeta>'
    image.save(tmp_path / "xmp.webp", lossless=True, xmp=xmp)
    assert differs(tmp_path / "xmp.webp", pixels[::-1, ::-1]) == 0
    image.save(tmp_path / "bad.webp", lossless=True, exif=b"Exif\0\0II*\0\xff\xff\xff\xff junk")
    assert differs(tmp_path / "bad.webp", pixels) == 0


def png_header(width, height):
    """A PNG file that states a size and has hardly any pixels."""

    def chunk(name, data):
        body = name + data
        return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(100))
    end = chunk(b"IDAT", pixels) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + end


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.png", png_header(20_000, 20_000), "is 20000 x 20000 pixels, more than 128 million"),
        ("a.png", png_header(13_000, 10_000), "is 13000 x 10000 pixels, more than 128 million"),
        ("a.png", png_header(3000, 4), "is 3000 x 4 pixels, one side more than 100 times"),
        ("a.png", png_header(40, 40), "cannot be decoded"),
        ("a.png", b"", "not an image of a known format"),
        ("a.eps", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\n", "BMP, GIF"),
        ("a.jp2", b"\0\0\0\x0cjP  \r\n\x87\n" + bytes(40), "not an image of a known format"),
    ],
)
def test_refused_by_name_before_pixels_are_decoded(tmp_path, recwarn, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UnusableImageError, match=message) as error:
        read_image(tmp_path / name)
    assert error.value.file == str(tmp_path / name)
    assert not [w for w in recwarn if w.category is Image.DecompressionBombWarning]
    assert Image.MAX_IMAGE_PIXELS is not None  # ours is not everybody's


def test_large_images_within_the_bound_come_without_a_warning(tmp_path, recwarn):
    path = tmp_path / "wide.png"
    Image.new("1", (10_000, 9_500)).save(path)
    assert read_image(path).size == (10_000, 9_500) and MAX_PIXELS > 10_000 * 9_500
    assert not [w for w in recwarn if w.category is Image.DecompressionBombWarning]


@pytest.mark.parametrize(
    ("values", "bits", "kind", "message"),
    [
        (np.float32([[0.5, np.nan]]), 32, 3, "NaN among its values"),
        (np.float32([[0, 255]]), 32, 3, "floating-point values from 0 to 255, expected 0 to 1"),
        (np.float32([[-0.1, 1]]), 32, 3, "floating-point values from -0.1 to 1"),
        (np.int32([[-5, 2**30]]), 32, 2, "negative values, down to -5"),
        (np.int16([[-5, 2**14]]), 16, 2, "negative values, down to -5"),
        (np.uint16([[0, 200]]), 16, 1, "16-bit values up to 200 alone, of 65535"),
        (np.int32([[0, 255]]), 32, 2, "31-bit values up to 255 alone"),
    ],
)
def test_values_that_no_grey_level_stands_for(tmp_path, values, bits, kind, message):
    write_tiff(tmp_path / "a.tif", values, bits, kind)
    with pytest.raises(UnusableImageError, match=rf"a\.tif: has {message}"):
        read_image(tmp_path / "a.tif")


def test_black_stays_black(tmp_path):
    write_tiff(tmp_path / "a.tif", np.zeros((4, 4), np.uint16), 16)
    assert not np.asarray(read_image(tmp_path / "a.tif")).any()


def test_a_stated_size_is_that_of_the_upright_image(tmp_path):
    size = (image_files.WIDTH, image_files.HEIGHT)
    path, _ = write_lossy(tmp_path, orientation=6)
    assert read_image(path, size).size == size
    with pytest.raises(UnusableImageError, match=r"say 32 x 48.*before it is turned upright.*6\)"):
        read_image(path, size[::-1])
    with pytest.raises(UnusableImageError, match=r"is 48 x 32 pixels, the annotations say 9 x 9$"):
        read_image(path, (9, 9))


def test_the_error_survives_pickling():
    error = pickle.loads(pickle.dumps(UnusableImageError("a b.jpg", "no such file: really")))
    assert (error.file, error.reason) == ("a b.jpg", "no such file: really")
    assert str(error) == "a b.jpg: no such file: really"


class Missing(Dataset):
    def __len__(self):
        return 4

    def __getitem__(self, index):
        raise UnusableImageError("folder/a.jpg", "no such file")


@pytest.mark.parametrize("workers", [0, 2])
def test_the_error_of_a_loader_s_worker_is_the_error(workers):
    with pytest.raises(UnusableImageError) as error:
        next(iter(DataLoader(Missing(), num_workers=workers)))
    assert str(error.value) == "folder/a.jpg: no such file"
    assert (error.value.file, error.value.reason) == ("folder/a.jpg", "no such file")


def test_a_pass_may_lose_a_tenth():
    counter = SkippedImages(200)
    for number in range(20):
        counter.add(9, [(f"{number}.jpg", "no such file")])
    with pytest.raises(UnusableImageError, match=r"0\.jpg: no such file \(in all, 21 images") as e:
        counter.add(0, [("20.jpg", "no such file")])
    assert "more than 10% of 200" in str(e.value) and "1.jpg, 2.jpg, 3.jpg" in str(e.value)


def test_a_small_pass_may_lose_a_few_but_not_all():
    counter = SkippedImages(9)
    counter.add(0, [(f"{number}.jpg", "no such file") for number in range(8)])
    with pytest.raises(UnusableImageError, match="all that there were"):
        counter.finish()
    counter.add(1)
    counter.finish()
    SkippedImages(0).finish()
