"""Image files of every kind, with the picture that they should be read as."""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

WIDTH, HEIGHT = 48, 32
BOX = (8, 4, 20, 12)  # xywh: where the picture is red, and no other place is

# What has to be done to an upright picture so that a file of this EXIF orientation shows it.
_STORED = {
    1: None,
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}


def picture() -> np.ndarray:
    """(H, W, 3) uint8, of which no turn looks like another: slopes, and a red box."""
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    pixels = np.stack([2 * x, 4 * y + 3, 255 - 2 * x - 3 * y], axis=-1).astype(np.uint8)
    left, top, width, height = BOX
    pixels[top : top + height, left : left + width] = (255, 0, 0)
    return pixels


def grey() -> np.ndarray:
    """(H, W) uint8."""
    return picture()[..., 0]


def alpha() -> np.ndarray:
    """(H, W) uint8: opaque, half transparent and fully transparent columns."""
    values = np.full((HEIGHT, WIDTH), 255, np.uint8)
    values[:, 30:36], values[:, 36:] = 128, 0
    return values


def on_white(pixels: np.ndarray, opacity: np.ndarray) -> np.ndarray:
    """(H, W, 3) uint8 composited."""
    share = opacity[..., None] / 255
    return np.rint(pixels * share + 255 * (1 - share)).astype(np.uint8)


def as_rgb(values: np.ndarray) -> np.ndarray:
    """(H, W) grey -> (H, W, 3)."""
    return np.repeat(values[..., None], 3, axis=-1)


def write_tiff(
    path: Path, values: np.ndarray, bits: int, sample_format: int = 1, photometric: int = 1
) -> None:
    """One strip of grey values, little-endian; 12 bits are packed."""
    height, width = values.shape
    data = values.tobytes()
    if bits == 12:
        pairs = values.reshape(-1, 2).astype(np.uint32)
        packed = (pairs[:, 0] << 12) | pairs[:, 1]
        data = b"".join(struct.pack(">I", int(value))[1:] for value in packed)
    tags = [
        (256, 3, width),
        (257, 3, height),
        (258, 3, bits),
        (259, 3, 1),
        (262, 3, photometric),
        (273, 4, 8),
        (277, 3, 1),
        (278, 3, height),
        (279, 4, len(data)),
        (339, 3, sample_format),
    ]
    directory = struct.pack("<H", len(tags))
    for tag, kind, value in tags:
        directory += struct.pack("<HHII", tag, kind, 1, value)
    start = struct.pack("<2sHI", b"II", 42, 8 + len(data))
    path.write_bytes(start + data + directory + struct.pack("<I", 0))


def _saved(image: Image.Image, path: Path, orientation: int, **options: object) -> None:
    turn = _STORED[orientation]
    stored = image if turn is None else image.transpose(turn)
    exif = Image.Exif()
    exif[0x112] = orientation
    if orientation > 1:
        options["exif"] = exif
    stored.save(path, **options)


def _palette() -> Image.Image:
    return Image.fromarray(picture()).quantize(64)


def _animation(path: Path, image: Image.Image) -> None:
    second = Image.fromarray(255 - picture())
    image.save(path, save_all=True, append_images=[second])


_RGB = picture()
_DEEP = grey().astype(np.uint16) * 256 + 77
_INT = grey().astype(np.int32) * 2**23 + 12345

ORIENTED: dict[str, tuple[Callable[[], Image.Image], str, dict[str, object], np.ndarray]] = {
    "png": (lambda: Image.fromarray(_RGB), "png", {}, _RGB),
    "grey png": (lambda: Image.fromarray(grey()), "png", {}, as_rgb(grey())),
    "16-bit png": (lambda: Image.fromarray(_DEEP), "png", {}, as_rgb(grey())),
    "16-bit tiff": (lambda: Image.fromarray(_DEEP), "tif", {}, as_rgb(grey())),
    "32-bit tiff": (lambda: Image.fromarray(_INT), "tif", {}, as_rgb(grey())),
    "float tiff": (
        lambda: Image.fromarray(grey().astype(np.float32) / 255),
        "tif",
        {},
        as_rgb(grey()),
    ),
    "rgb tiff": (lambda: Image.fromarray(_RGB), "tif", {"compression": "tiff_lzw"}, _RGB),
    "rgba png": (
        lambda: Image.fromarray(np.dstack([_RGB, alpha()])),
        "png",
        {},
        on_white(_RGB, alpha()),
    ),
    "grey png with alpha": (
        lambda: Image.fromarray(np.dstack([grey(), alpha()])),
        "png",
        {},
        on_white(as_rgb(grey()), alpha()),
    ),
    "rgba webp": (
        lambda: Image.fromarray(np.dstack([_RGB, alpha()])),
        "webp",
        {"lossless": True, "exact": True},
        on_white(_RGB, alpha()),
    ),
    "palette png": (_palette, "png", {}, np.array(_palette().convert("RGB"))),
    "palette png with a transparent colour": (
        _palette,
        "png",
        {"transparency": 5},
        np.where(
            (np.array(_palette()) == 5)[..., None], 255, np.array(_palette().convert("RGB"))
        ).astype(np.uint8),
    ),
    "png with a transparent colour": (
        lambda: Image.fromarray(_RGB),
        "png",
        {"transparency": (255, 0, 0)},
        np.where((_RGB == (255, 0, 0)).all(-1, keepdims=True), 255, _RGB).astype(np.uint8),
    ),
}
"""Kinds that may state an orientation, none of which loses anything: image, suffix, options and
the picture that it should be read as."""


def write_oriented(folder: Path, kind: str, orientation: int = 1) -> tuple[Path, np.ndarray]:
    """Writes a file of one of :data:`ORIENTED`; returns it with the picture, (H, W, 3)."""
    make, suffix, options, expected = ORIENTED[kind]
    path = folder / f"{kind.replace(' ', '_')}_{orientation}.{suffix}"
    _saved(make(), path, orientation, **options)
    return path, expected


def write_lossy(
    folder: Path, mode: str = "RGB", orientation: int = 1, suffix: str = "jpg"
) -> tuple[Path, np.ndarray]:
    """Writes a JPEG file; returns it with the picture as Pillow decodes it, turned upright."""
    path = folder / f"{mode}_{orientation}.{suffix}"
    _saved(Image.fromarray(_RGB).convert(mode), path, orientation, quality=90)
    with Image.open(path) as image:
        rgb = image.convert("RGB")
        back = {6: 8, 8: 6}.get(orientation, orientation)
        turn = _STORED[back]
        # The inverse of each turn is itself, but for the two quarter turns.
        return path, np.array(rgb if turn is None else rgb.transpose(turn))


def other_files(folder: Path) -> Iterator[tuple[str, Path, np.ndarray]]:
    """Name, file and picture of kinds that cannot state an orientation."""
    deep, wide = grey().astype(np.uint32) << 24, grey().astype(np.uint16) << 4
    write_tiff(folder / "u32.tif", deep + 99, 32)
    yield "unsigned 32-bit tiff", folder / "u32.tif", as_rgb(grey())
    write_tiff(folder / "i16.tif", (grey().astype(np.int16) << 7) + 5, 16, 2)
    yield "signed 16-bit tiff", folder / "i16.tif", as_rgb(grey())
    write_tiff(folder / "12.tif", wide + 3, 12)
    yield "12-bit tiff", folder / "12.tif", as_rgb(grey())
    write_tiff(folder / "inverted.tif", 65535 - _DEEP, 16, photometric=0)
    yield "16-bit tiff with white 0", folder / "inverted.tif", as_rgb(grey())
    Image.fromarray(_DEEP.astype(">u2")).save(folder / "big.tif")
    yield "big-endian tiff", folder / "big.tif", as_rgb(grey())
    header = f"{WIDTH} {HEIGHT}\n65535\n".encode()
    (folder / "deep.pgm").write_bytes(b"P5\n" + header + _DEEP.astype(">u2").tobytes())
    yield "16-bit pgm", folder / "deep.pgm", as_rgb(grey())
    Image.fromarray(_RGB).save(folder / "a.ppm")
    yield "ppm", folder / "a.ppm", _RGB
    Image.fromarray(_RGB).save(folder / "a.bmp")
    yield "bmp", folder / "a.bmp", _RGB
    bits = grey() > 90
    Image.fromarray(bits).save(folder / "bits.png")
    yield "1-bit png", folder / "bits.png", as_rgb(bits.astype(np.uint8) * 255)
    _animation(folder / "a.gif", _palette())
    yield "animated gif", folder / "a.gif", np.array(_palette().convert("RGB"))
    _animation(folder / "a.png", Image.fromarray(_RGB))
    yield "animated png", folder / "a.png", _RGB
    half_grey = np.where(grey() == grey()[20, 40], 255, grey()).astype(np.uint8)
    key = int(_DEEP[20, 40])
    Image.fromarray(_DEEP).save(folder / "key.png", transparency=key)
    yield "16-bit png with a transparent grey", folder / "key.png", as_rgb(half_grey)
