"""The one reader of image files: every command sees the same pixels of the same file.

What it does with a file, wherever the file is read (training, evaluation, detection,
segmentation, shards, preparation):

- **Formats** are BMP, GIF, JPEG (with MPO), PNG, PPM (PGM, PBM, PFM), TIFF and WebP, told by
  content. Of animations and files of several pages it is the first.
- **Orientation**, as EXIF (or XMP) states it, is applied. Sizes, boxes and masks are those of the
  upright image, which annotation tools show.
- **Depth**: 16-bit and 32-bit integers are scaled by their type's range, 12-bit TIFF by its own:
  the highest 8 bits remain. In signed types 0 is black, and negative values are refused. So is an
  image that would be all black while its values are not all 0. Floating-point values are
  expected in [0, 1]; others, and NaN, are refused.
- **Transparency**, as an alpha channel, in a palette or as one transparent colour, is composited
  on white.
- **Colours**: grey is copied to all channels, palettes are looked up, CMYK is converted by Pillow;
  colour profiles are not applied.
- **Bounds**, checked before pixels are decoded: :data:`MAX_PIXELS` in an image,
  :data:`MAX_SIDE_RATIO` between its sides.

What cannot be used is an :class:`UnusableImageError` that names the file. Whoever reads many goes
on without it and counts (:class:`SkippedImages`).
"""

from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

import numpy as np
from PIL import Image, UnidentifiedImageError

from fineclip.paths import require_regular

Sample = TypeVar("Sample")

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
"""What is read, by Pillow's names. Its JPEG reader turns into MPO's where a file is one."""

IMAGE_SUFFIXES = frozenset(
    {".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".mpo", ".pbm", ".pgm", ".png", ".pnm"}
    | {".ppm", ".tif", ".tiff", ".webp"}
)
"""Which files of a folder are images."""

MAX_PIXELS = 128_000_000
"""Pixels of the largest image: in RGB 0.4 GB, and several times that while it is converted."""

MAX_BYTES = 1 << 31
"""Of the largest image file; no format needs more for so many pixels."""

MAX_SIDE_RATIO = 100
"""Longer over shorter side of the longest image; resized, its shorter side would vanish."""

MAX_DRAWS = 100
"""Images that training tries in place of one that cannot be used, before it gives up."""

MAX_SKIPPED_SHARE, MIN_SKIPPED = 0.1, 10
"""A pass over a data set is stopped by more than this share, and at least this many images."""

JPEG_FORMATS = ("JPEG", "MPO")

_ORIENTATION, _BITS_PER_SAMPLE, _PHOTOMETRIC, _SAMPLE_FORMAT = 0x112, 258, 262, 339  # TIFF's tags
_WHITE_IS_ZERO, _SIGNED = 0, 2
_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class UnusableImageError(ValueError):
    """One image file cannot be used; whoever reads many goes on without it.

    Args:
        file: Path of the file.
        reason: What is wrong with it, in one line. None: ``file`` is a printed traceback that
            ends with this error, from which torch makes the error of a loader's worker anew.
    """

    def __init__(self, file: Path | str, reason: str | None = None) -> None:
        if reason is None:
            last = str(file).strip().splitlines()[-1]
            name = f"{type(self).__module__}.{type(self).__qualname__}: "
            file, _, reason = last.removeprefix(name).partition(": ")
        super().__init__(f"{file}: {reason}")
        self.file = str(file)
        self.reason = reason

    def __reduce__(self) -> tuple[type, tuple[str, str]]:
        """Pickles by both arguments, not by the message that they make."""
        return type(self), (self.file, self.reason)


class SkippedImages:
    """Counts the images of one pass over a data set, and stops it when too many are unusable.

    Args:
        total: Images of the pass, in this process.
    """

    def __init__(self, total: int) -> None:
        self.total = total
        self.used = 0
        self.skipped: list[tuple[str, str]] = []

    def add(self, used: int, skipped: Sequence[tuple[str, str]] = ()) -> None:
        """Counts some images.

        Args:
            used: Number of those that were usable.
            skipped: (file, reason) of each that was not.

        Raises:
            UnusableImageError: Too many so far, by :data:`MAX_SKIPPED_SHARE` and
                :data:`MIN_SKIPPED`; it names the first ones.
        """
        self.used += used
        self.skipped += skipped
        count = len(self.skipped)
        if count >= MIN_SKIPPED and count > MAX_SKIPPED_SHARE * self.total:
            raise self._error(f"more than {MAX_SKIPPED_SHARE:.0%} of {self.total}")

    def finish(self) -> None:
        """Ends the pass.

        Raises:
            UnusableImageError: All of its images were unusable; it names the first ones.
        """
        if self.skipped and not self.used:
            raise self._error("all that there were")

    def _error(self, share: str) -> UnusableImageError:
        file, reason = self.skipped[0]
        others = list(dict.fromkeys(name for name, _ in self.skipped if name != file))[:3]
        further = f"; further ones: {', '.join(others)}" if others else ""
        count = f"{len(self.skipped)} image{'s' if len(self.skipped) > 1 else ''}"
        return UnusableImageError(
            file, f"{reason} (in all, {count} cannot be used, {share}{further})"
        )


def first_usable(
    make: Callable[[int], Sample], index: int, another: Callable[[], int]
) -> tuple[Sample, list[tuple[str, str]]]:
    """Makes a training sample of an image, or of another in place of one that cannot be used.

    Args:
        make: Makes the sample of an image by its index.
        index: The image to begin with.
        another: Draws the index of another one.

    Returns:
        The sample, and (file, reason) of each image that was tried before.

    Raises:
        UnusableImageError: :data:`MAX_DRAWS` images in a row cannot be used, so hardly any can.
    """
    skipped: list[tuple[str, str]] = []
    while True:
        try:
            return make(index), skipped
        except UnusableImageError as error:
            skipped.append((error.file, error.reason))
            if len(skipped) == MAX_DRAWS:
                raise UnusableImageError(
                    error.file,
                    f"{error.reason} (nor can {MAX_DRAWS - 1} others, drawn at random)",
                ) from None
            index = another()


def read_image(path: Path | str, size: tuple[int, int] | None = None) -> Image.Image:
    """Decodes one image file by the rules of this module.

    Args:
        path: An image file.
        size: Width and height in pixels that the upright image must have.

    Returns:
        The upright image in RGB.

    Raises:
        UnusableImageError: The file is missing, damaged, too large, no image or of another size.
    """
    return decode_rgb(read_bytes(Path(path)), path, size)


def decode_rgb(
    content: bytes, file: Path | str, size: tuple[int, int] | None = None
) -> Image.Image:
    """Decodes the content of an image file; see :func:`read_image`."""
    with opened_image(content, file) as image:
        rgb = upright_rgb(image, file)
        if size is not None:
            check_size(rgb.size, size, file, orientation_of(image))
        return rgb


def read_bytes(path: Path) -> bytes:
    """Reads an image file as a whole: Pillow alone would do it in dozens of small pieces.

    Raises:
        UnusableImageError: The file is missing, cannot be read, is a pipe or device, or has more
            than :data:`MAX_BYTES`.
    """
    try:
        require_regular(path)
        if (size := path.stat().st_size) > MAX_BYTES:
            raise UnusableImageError(
                path, f"has {size} bytes, more than the {MAX_BYTES} that an image may have"
            )
        return path.read_bytes()
    except FileNotFoundError:
        raise UnusableImageError(path, "no such file") from None
    except OSError as error:
        raise UnusableImageError(path, f"cannot be read ({error.strerror})") from None
    except UnusableImageError:
        raise
    except ValueError:  # a zero byte in the name
        raise UnusableImageError(path, "is no name of a file") from None


@contextmanager
def opened_image(content: bytes, file: Path | str) -> Iterator[Image.Image]:
    """Reads the header of an image file, and names the file in whatever the block raises.

    Args:
        content: The file.
        file: Its name, for messages.

    Yields:
        The image of Pillow, within the bounds, its pixels not decoded yet.

    Raises:
        UnusableImageError: It is of no known format or out of bounds, or the block failed.
    """
    # Pillow warns at one number of pixels and gives up at another; ours comes before both.
    bound, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
        with naming_file(file), Image.open(io.BytesIO(content), formats=FORMATS) as image:
            _check_bounds(image, file)
            yield image
    finally:
        Image.MAX_IMAGE_PIXELS = bound


@contextmanager
def naming_file(file: Path | str) -> Iterator[None]:
    """Turns whatever a decoder raises into an error that names the file.

    Raises:
        UnusableImageError: The block failed to decode.
    """
    try:
        yield
    except UnusableImageError:
        raise
    except FileNotFoundError:
        raise UnusableImageError(file, "no such file") from None
    except UnidentifiedImageError:  # its own message shows an address in memory
        raise UnusableImageError(
            file, f"cannot be decoded (not an image of a known format: {', '.join(FORMATS)})"
        ) from None
    except Exception as error:  # of damaged files, decoders raise nearly anything
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise UnusableImageError(file, f"cannot be decoded ({reason})") from None


def orientation_of(image: Image.Image) -> int:
    """The EXIF orientation that has yet to be applied to an image's pixels, 1 (none) to 8.

    Args:
        image: From :func:`opened_image`; unless it is a JPEG file, its pixels are decoded.
    """
    if image.format not in JPEG_FORMATS:
        image.load()  # Pillow turns a TIFF by itself; PNG may state it after the pixels
    try:
        orientation = image.getexif().get(_ORIENTATION, 1)
    except Exception:  # damaged EXIF, which says nothing about the pixels
        return 1
    return orientation if orientation in _TRANSPOSITIONS else 1


def check_size(
    found: tuple[int, int], stated: tuple[int, int], file: Path | str, orientation: int = 1
) -> None:
    """Compares the size of an image with that in its annotations.

    Args:
        found: Width and height in pixels, upright.
        stated: Width and height in pixels that the annotations say.
        file: Name of the file.
        orientation: By which the image was, or is to be, turned.

    Raises:
        UnusableImageError: They differ.
    """
    if found == stated:
        return
    hint = ""
    if orientation >= 5 and found == stated[::-1]:
        hint = (
            f", which is its size before it is turned upright (EXIF orientation {orientation}): "
            "annotate it as it is shown, or take the orientation out of the file"
        )
    raise UnusableImageError(
        file,
        f"is {found[0]} x {found[1]} pixels, the annotations say {stated[0]} x {stated[1]}{hint}",
    )


def upright_rgb(image: Image.Image, file: Path | str) -> Image.Image:
    """Decodes an opened image by the rules of this module.

    Args:
        image: From :func:`opened_image`; a JPEG file's may be in draft mode.
        file: Its name, for messages.

    Returns:
        The upright image in RGB.

    Raises:
        UnusableImageError: Its values cannot be turned into 8 bits.
    """
    orientation = orientation_of(image)
    image.load()
    if image.mode.startswith(("I", "F")):
        rgb = Image.fromarray(_eight_bits(image, file)).convert("RGB")
    elif image.has_transparency_data:
        white = Image.new("RGBA", image.size, "white")
        rgb = Image.alpha_composite(white, _with_alpha(image)).convert("RGB")
    else:
        rgb = image.convert("RGB")
    if orientation == 1:
        return rgb
    turned = rgb.transpose(_TRANSPOSITIONS[orientation])
    turned.info.clear()  # copied from the file: its EXIF would turn the image once more
    return turned


def upright(image: Image.Image) -> Image.Image:
    """An opened image with its orientation applied and its values as they are (label maps)."""
    orientation = orientation_of(image)
    image.load()
    return image.transpose(_TRANSPOSITIONS[orientation]) if orientation > 1 else image


def _check_bounds(image: Image.Image, file: Path | str) -> None:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise UnusableImageError(
            file,
            f"is {width} x {height} pixels, more than {MAX_PIXELS / 1e6:.0f} million: shrink it or "
            "cut it into tiles",
        )
    if max(width, height) > MAX_SIDE_RATIO * min(width, height):
        raise UnusableImageError(
            file,
            f"is {width} x {height} pixels, one side more than {MAX_SIDE_RATIO} times the other",
        )


def _with_alpha(image: Image.Image) -> Image.Image:
    """In RGBA."""
    key = image.info.get("transparency")
    if isinstance(key, tuple) and max(key) > 255:
        # Of 16-bit PNG, Pillow keeps 8 bits of the pixels and 16 of the transparent colour.
        image.info["transparency"] = tuple(value >> 8 for value in key)
    return image.convert("RGBA")


def _eight_bits(image: Image.Image, file: Path | str) -> np.ndarray:
    """(H, W) uint8 grey levels of an image of more bits."""
    values = np.asarray(image)
    tags = getattr(image, "tag_v2", {})
    if image.mode == "F":
        if np.isnan(values).any():
            raise UnusableImageError(file, "has NaN among its values")
        if values.min() < 0 or values.max() > 1:
            raise UnusableImageError(
                file,
                f"has floating-point values from {values.min():g} to {values.max():g}, expected "
                "0 to 1",
            )
        grey = np.rint(values * 255).astype(np.uint8)
    else:
        # What is no TIFF comes as unsigned 16 bits.
        bits = tags.get(_BITS_PER_SAMPLE, (16,))[0]
        if tags.get(_SAMPLE_FORMAT, (1,))[0] == _SIGNED:
            if values.min() < 0:
                raise UnusableImageError(file, f"has negative values, down to {values.min()}")
            bits -= 1
        elif bits == 32:
            values = values.view(np.uint32)  # Pillow's mode I is signed
        grey = (values >> (bits - 8)).astype(np.uint8)
        if not grey.any() and values.any():
            raise UnusableImageError(
                file,
                f"has {bits}-bit values up to {values.max()} alone, of {2**bits - 1}, and would be "
                "black: save it in 8 bits, or scaled",
            )
    if tags.get(_PHOTOMETRIC) == _WHITE_IS_ZERO:
        grey = 255 - grey
    key = image.info.get("transparency")
    if isinstance(key, int):
        grey[values == key] = 255
    return grey
