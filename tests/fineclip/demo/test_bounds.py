"""What the page takes of words and photographs, and what it says of the rest."""

import struct
import zlib

import pytest
from PIL import Image

from fineclip.demo.bounds import Bounds, read_photograph, words_of
from fineclip.images import UnusableImageError

BOUNDS = Bounds()


def header_of_png(width, height):
    """A PNG file that ends where its pixels begin: whoever decodes it finds none."""
    chunk = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    length, check = struct.pack(">I", len(chunk) - 4), struct.pack(">I", zlib.crc32(chunk))
    return b"\x89PNG\r\n\x1a\n" + length + chunk + check + struct.pack(">I", 1000) + b"IDAT"


def test_words_are_separated_by_commas_or_lines():
    assert words_of(" cat,a red\tumbrella\n\n🐱 , cat,", BOUNDS) == ("cat", "a red umbrella", "🐱")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "Type words"),
        (" , \n,", "Type words"),
        (",".join(f"word {n}" for n in range(500)), "500 words are too many: 100 at most"),
        ("a" * 201, "Word 1 has 201 letters, 200 at most"),
        ("a" * 100_000, "100000 letters are too many"),
        ("a cat, A_cat", "word 1, 'a cat', and word 2, 'A_cat', read the same"),
    ],
)
def test_words_out_of_bounds(text, message):
    with pytest.raises(ValueError, match=message):
        words_of(text, BOUNDS)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", r"^photo\.png: is an empty file"),
        (b"no image", "not an image of a known format"),
        (header_of_png(10_000, 10_000), "has 10000 x 10000 pixels, 50 million at most"),
        (header_of_png(60_000, 60_000), "60000 x 60000 pixels"),
        (header_of_png(64, 64), "cannot be decoded"),
        (bytes(BOUNDS.file_bytes + 1), "has 20.0 MB, 20 at most"),
    ],
    ids=["empty", "no image", "100 megapixels", "3600 megapixels", "no pixels", "20 MB"],
)
def test_photographs_out_of_bounds(tmp_path, content, message):
    """A size is told from the header: these files have nothing else."""
    (tmp_path / "photo.png").write_bytes(content)
    with pytest.raises(UnusableImageError, match=message) as caught:
        read_photograph(tmp_path / "photo.png", BOUNDS)
    assert str(tmp_path) not in str(caught.value)


def test_a_photograph_that_was_cleaned_away(tmp_path):
    with pytest.raises(UnusableImageError, match=r"^photo\.png: is no longer there"):
        read_photograph(tmp_path / "photo.png", BOUNDS)


def test_large_photographs_are_shrunk_and_turned(tmp_path):
    exif = Image.Exif()
    exif[0x112] = 6
    Image.new("L", (3200, 800)).save(tmp_path / "photo.jpg", exif=exif)
    read = read_photograph(tmp_path / "photo.jpg", BOUNDS)
    assert (read.mode, read.size) == ("RGB", (400, 1600))
