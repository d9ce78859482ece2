"""Images, captions and shards that are broken in one of many ways."""

from __future__ import annotations

import io
import json
import random
import struct
import tarfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

Content = bytes


def photograph(number: int, size: tuple[int, int] = (64, 48), form: str = "JPEG") -> Content:
    """A picture that looks like no other."""
    clouds = np.random.default_rng(number).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    content = io.BytesIO()
    Image.fromarray(clouds).resize(size, Image.Resampling.BICUBIC).save(content, form)
    return content.getvalue()


def bomb() -> Content:
    """A PNG of 60000 x 60000 pixels in some hundred bytes."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + check

    header = struct.pack(">IIBBBBB", 60000, 60000, 8, 2, 0, 0, 0)
    pixels = zlib.compress(bytes(1000))
    end = chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", pixels) + end


def _cut(rng: random.Random, form: str) -> Content:
    content = photograph(rng.randrange(10**6), form=form)
    return content[: rng.randrange(1, len(content) * 4 // 5)]


IMAGES: dict[str, Callable[[random.Random], Content]] = {
    "truncated JPEG": lambda rng: _cut(rng, "JPEG"),
    "truncated PNG": lambda rng: _cut(rng, "PNG"),
    "no byte": lambda rng: b"",
    "zeros": lambda rng: bytes(rng.randrange(1, 3000)),
    "noise": lambda rng: rng.randbytes(rng.randrange(1, 3000)),
    "text": lambda rng: b"this is no picture\n" * rng.randrange(1, 50),
    "page": lambda rng: b"<!DOCTYPE html><html><body>404 Not Found</body></html>",
    "bomb": lambda rng: bomb(),
    "too small": lambda rng: photograph(rng.randrange(10**6), (8, 8)),
    "too long": lambda rng: photograph(rng.randrange(10**6), (900, 40)),
    "head of one, tail of another": lambda rng: (
        photograph(1)[:60] + rng.randbytes(200) + photograph(2, form="PNG")[60:]
    ),
}
"""What is no picture, by kind."""

CAPTIONS: dict[str, Callable[[random.Random], Content]] = {
    "latin-1": lambda rng: "ein gr\xfcnes Ger\xe4t".encode("latin-1"),
    "utf-16": lambda rng: "a green thing".encode("utf-16"),
    "empty": lambda rng: b"",
    "blank": lambda rng: b" \n\t ",
    "punctuation": lambda rng: b"... --- !!!",
    "noise": lambda rng: b"\xff\xfe\xfd" + rng.randbytes(40),
    "endless": lambda rng: b"word " * 100_000,
    "stuck": lambda rng: b"a dog dog dog dog dog",
}
"""What is no caption, by kind."""

METADATA: dict[str, Callable[[random.Random], Content]] = {
    "no JSON": lambda rng: b'{"caption": "a dog"',
    "no object": lambda rng: b"[1, 2]",
    "brackets": lambda rng: b"[" * 100_000,
    "not UTF-8": lambda rng: b'{"caption": "\xff"}',
    "boxes are text": lambda rng: json.dumps({"annotations": ["box"], "image": {}}).encode(),
    "box of three": lambda rng: json.dumps(
        {"annotations": [{"bbox": [1, 2, 3]}], "image": {"id": 1}}
    ).encode(),
}
"""What are no metadata, by kind."""


def write_tar(path: Path, samples: dict[str, dict[str, Content]]) -> None:
    """Members by key and suffix."""
    with tarfile.open(path, "w") as tar:
        for key, members in samples.items():
            for suffix, content in members.items():
                info = tarfile.TarInfo(f"{key}.{suffix}")
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))


def damaged_tar(path: Path, good: int, rng: random.Random) -> None:
    """A tar file whose end is missing, or whose headers are noise, after some good samples."""
    write_tar(
        path,
        {
            f"{path.stem}-{number}": {"jpg": photograph(10**7 + rng.randrange(10**6)), "txt": b"a"}
            for number in range(good + 1)
        },
    )
    content = path.read_bytes()
    with tarfile.open(path) as tar:
        last = tar.getmembers()[-2]
    if rng.random() < 0.5:
        path.write_bytes(content[: last.offset_data + last.size // 2])
    else:
        path.write_bytes(content[: last.offset] + rng.randbytes(len(content) - last.offset))
