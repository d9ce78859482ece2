"""The data engine on generated images: images a second, memory, and runs that are killed."""

from __future__ import annotations

import io
import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from itertools import combinations
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from fineclip.annotation.annotate import Job
from fineclip.annotation.duplicates import MAX_BITS, MAX_COLOUR
from fineclip.annotation.engines import Engine, LocalEngine
from fineclip.annotation.fingerprints import fingerprint
from fineclip.annotation.ray_engine import RayEngine
from fineclip.annotation.run import Inputs, annotate_regions
from fineclip.annotation.settings import AnnotationSettings
from fineclip.annotation.work_folder import checksum
from fineclip.datasets import RegionTextDataset
from fineclip.files import write_atomically
from fineclip.images import read_image

Report = Callable[[str], None]

_BOXES, _CATEGORIES = 4, 10  # of an image at most; in all
_SAMPLE_SECONDS = 0.2  # between two looks at a process's memory
_BEGIN = "begin"
_MOST_FAILED = 10  # runs that did not begin, on a machine with too much to do
_HERE = "fineclip.experiments.annotation_benchmark"


def generate_images(folder: Path, count: int, size: int = 256, seed: int = 0) -> None:
    """Writes images of coloured shapes on clouds, with boxes and captions in COCO's formats.

    Args:
        folder: Receives ``images/``, ``boxes.json`` and ``captions.json``.
        count: Images.
        size: Side in pixels.
        seed: Of everything.
    """
    (folder / "images").mkdir(parents=True, exist_ok=True)
    images: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    captions: list[dict[str, Any]] = []
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        clouds = Image.fromarray(rng.integers(0, 256, (8, 8, 3), dtype=np.uint8))
        picture = clouds.resize((size, size), Image.Resampling.BICUBIC)
        draw = ImageDraw.Draw(picture)
        for _ in range(int(rng.integers(1, _BOXES + 1))):
            width, height = rng.integers(size // 8, size // 2, 2).tolist()
            x, y = rng.integers(0, size // 2, 2).tolist()
            color = tuple(rng.integers(0, 256, 3).tolist())
            draw.rectangle((x, y, x + width, y + height), fill=color)
            category = int(rng.integers(1, _CATEGORIES + 1))
            box = {"id": len(boxes) + 1, "image_id": number, "category_id": category}
            boxes.append({**box, "bbox": [x, y, width, height]})
        name = f"{number:06d}.jpg"
        content = io.BytesIO()
        picture.save(content, "JPEG", quality=90)
        (folder / "images" / name).write_bytes(content.getvalue())
        images.append({"id": number, "file_name": name, "width": size, "height": size})
        captions.append({"image_id": number, "caption": f"picture number {number}"})
    categories = [{"id": i, "name": f"thing {i}"} for i in range(1, _CATEGORIES + 1)]
    for file, data in (
        ("boxes.json", {"images": images, "annotations": boxes, "categories": categories}),
        ("captions.json", {"images": images, "annotations": captions}),
    ):
        write_atomically(folder / file, json.dumps(data))


def annotate_generated(
    folder: str, out: str, workers: int | None, shard_size: int
) -> dict[str, Any]:
    """Existing boxes and templates on generated images; its own process.

    Args:
        folder: Of :func:`generate_images`.
        out: To write.
        workers: Of Ray; None: this process alone.
        shard_size: Images of a shard.

    Returns:
        ``seconds`` from the first to the last file, ``running``: seconds for as many images at the
        pace between the first and the last shard of each pass, when all processes have started,
        and ``images`` kept.
    """
    root = Path(folder)
    engine = _Paced(LocalEngine() if workers is None else RayEngine(workers))
    print(_BEGIN, flush=True)
    begin = time.perf_counter()
    outcome = annotate_regions(
        Inputs(root / "images", root / "captions.json", root / "boxes.json"),
        Path(out),
        AnnotationSettings(shard_size=shard_size),
        engine=lambda: engine,
        coco=True,
    )
    seconds = time.perf_counter() - begin
    manifest = outcome.manifest or {}
    images = manifest["counts"]["images"]["kept"]
    return {"seconds": seconds, "running": images * engine.pace, "images": images}


class _Paced:
    """An engine, and how fast its passes are once they run.

    Attributes:
        pace: Seconds per image, of both passes together.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.pace = 0.0

    def prepare(self, job: Job) -> None:
        self._engine.prepare(job)

    def scan(self, *arguments: Any) -> None:
        self._timed(self._engine.scan, arguments)

    def annotate(self, *arguments: Any) -> None:
        self._timed(self._engine.annotate, arguments)

    def _timed(self, run: Callable[..., None], arguments: tuple[Any, ...]) -> None:
        *others, tell = arguments
        images, marks = 0, []

        def told(more: int, shards: int) -> None:
            nonlocal images
            images += more
            if shards:
                marks.append((time.perf_counter(), images))
            tell(more, shards)

        run(*others, told)
        (first, before), (last, after) = marks[0], marks[-1]
        if after > before:
            self.pace += (last - first) / (after - before)


def open_generated(out: str) -> dict[str, Any]:
    """Opens shards for training; its own process."""
    begin = time.perf_counter()
    dataset = RegionTextDataset(
        source={"type": "Shards", "folder": out},
        images={"transform": {"size": 224}},
        tokenizer=lambda texts: torch.zeros(len(texts), 8, dtype=torch.int64),
    )
    return {"seconds": time.perf_counter() - begin, "images": len(dataset)}


def benchmark_annotation(
    folder: Path,
    images: int,
    *,
    size: int = 512,
    workers: tuple[int, ...] = (1, 2),
    shard_size: int = 500,
    report: Report = lambda line: None,
) -> dict[str, Any]:
    """Measures runs in one process and with Ray, and opening the result.

    Args:
        folder: Where everything goes.
        images: How many.
        size: Their side in pixels.
        workers: Of the runs with Ray.
        shard_size: Images of a shard.
        report: Told what was measured.

    Returns:
        ``runs``: images a second, also once all processes run, and, of one process, bytes of memory
        in its second and last quarter; ``opening``: seconds.
    """
    data = folder / f"data-{images}-{size}"
    if not (data / "captions.json").is_file():
        report(f"making {images} images of {size} x {size} pixels")
        generate_images(data, images, size)
    runs = []
    for count in (None, *workers):
        name = "one process" if count is None else f"Ray, {count} workers"
        out = folder / f"out-{count or 'local'}"
        shutil.rmtree(out, ignore_errors=True)
        arguments = {"folder": str(data), "out": str(out), "workers": count}
        found, memory = _call("annotate_generated", {**arguments, "shard_size": shard_size})
        row = {"run": name, **found}
        for rate, seconds in (("images_per_second", "seconds"), ("once_running", "running")):
            row[rate] = found["images"] / max(1e-9, found[seconds])
        line = f"{name}: {row['images_per_second']:.1f} images/s"
        line += f", {row['once_running']:.1f} once running"
        if count is None:
            quarter = len(memory) // 4
            row["second_quarter_bytes"] = median(memory[quarter : 2 * quarter] or [0])
            row["last_quarter_bytes"] = median(memory[3 * quarter :] or [0])
            row["peak_bytes"] = max(memory, default=0)
            values = [row[key] / 1e6 for key in row if key.endswith("bytes")]
            line += "; {:.0f}, {:.0f}, at most {:.0f} MB".format(*values)
        report(line)
        runs.append(row)
    found, _ = _call("open_generated", {"out": str(folder / "out-local")})
    report(f"opening {found['images']} images: {found['seconds']:.2f} s")
    return {"runs": runs, "opening": found}


def recognise_changed(folder: Path) -> dict[str, Any]:
    """How many photographs are found to look like themselves, changed in several ways.

    Args:
        folder: Of photographs that are all different.

    Returns:
        Share found, by change, and ``fewest_bits`` in which hashes of two different ones differ.
    """
    pictures = [read_image(file) for file in sorted(folder.iterdir()) if file.is_file()]
    plain = [fingerprint(b"", picture, []) for picture in pictures]
    found: dict[str, Any] = {}
    for name, change in _CHANGES.items():
        changed = [fingerprint(b"", change(picture), []) for picture in pictures]
        alike = [
            (a.looks ^ b.looks).bit_count() <= MAX_BITS
            and np.abs(a.colours.astype(int) - b.colours).max() <= MAX_COLOUR
            for a, b in zip(plain, changed, strict=True)
        ]
        found[name] = sum(alike) / len(alike)
    pairs = combinations([one.looks for one in plain], 2)
    return {**found, "fewest_bits": min((a ^ b).bit_count() for a, b in pairs)}


def _saved(picture: Image.Image, quality: int) -> Image.Image:
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=quality)
    return Image.open(content).convert("RGB")


def _cut(picture: Image.Image, share: float) -> Image.Image:
    x, y = int(picture.width * share), int(picture.height * share)
    return picture.crop((x, y, picture.width - x, picture.height - y))


_CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "JPEG quality 20": partial(_saved, quality=20),
    "half the size": lambda p: p.resize((p.width // 2, p.height // 2)),
    "256 x 256 pixels": lambda p: p.resize((256, 256)),
    "cut by 2 % on each side": partial(_cut, share=0.02),
}


def kill_annotation(
    folder: Path,
    kills: int,
    *,
    workers: int | None = None,
    images: int = 120,
    seed: int = 0,
    report: Report = lambda line: None,
) -> dict[str, Any]:
    """Kills runs at random moments, continues them, and compares the end with a whole run's.

    Args:
        folder: Where everything goes.
        kills: How many.
        workers: Of Ray; None: one process.
        images: How many.
        seed: Of images and moments.
        report: Told of every kill.

    Returns:
        ``kills``, ``runs`` that came to their end, and how many of these were ``different``.
    """
    data, out = folder / "data", folder / "out"
    generate_images(data, images, size=96, seed=seed)
    arguments = {"folder": str(data), "workers": workers, "shard_size": 8}
    found, _ = _call("annotate_generated", {**arguments, "out": str(folder / "whole")})
    expected = _checksums(folder / "whole")
    draws = random.Random(seed)
    done, runs, different, failed = 0, 0, 0, 0
    while done < kills:
        process = _start("annotate_generated", {**arguments, "out": str(out)})
        if not _has_begun(process):
            failed += 1
            if failed > _MOST_FAILED:
                raise RuntimeError(f"{failed} runs did not begin")
            continue
        try:
            code = process.wait(draws.uniform(0, found["seconds"]))
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            done += 1
            report(f"killed {done} of {kills}")
        else:
            runs += 1
            # What a Ray of an earlier run had begun may end a moment later, with the same bytes.
            if code or _checksums(out) != expected:
                different += 1
            shutil.rmtree(out)
    _call("annotate_generated", {**arguments, "out": str(out)})
    different += _checksums(out) != expected
    return {"kills": done, "runs": runs + 1, "different": different}


def _has_begun(process: subprocess.Popen[str]) -> bool:
    """Waits until libraries have been loaded and Ray, if any, runs; which may take it too long."""
    for line in process.stdout or ():
        if line.strip() == _BEGIN:
            return True
    process.wait()
    return False


def _checksums(folder: Path) -> dict[str, str]:
    return {file.name: checksum(file) for file in sorted(folder.iterdir()) if file.is_file()}


def _start(function: str, arguments: dict[str, Any]) -> subprocess.Popen[str]:
    words = ["-m", "fineclip.experiments.call", f"{_HERE}:{function}", json.dumps(arguments)]
    return subprocess.Popen(
        [sys.executable, *words], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )


def _call(function: str, arguments: dict[str, Any]) -> tuple[dict[str, Any], list[int]]:
    """What a function returns in a process of its own, and the memory that this had over time.

    Raises:
        RuntimeError: It failed.
    """
    process = _start(function, arguments)
    memory = []
    status = Path(f"/proc/{process.pid}/statm")
    communicate = partial(process.communicate, timeout=_SAMPLE_SECONDS)
    while True:
        try:
            out, error = communicate()
            break
        except subprocess.TimeoutExpired:
            pages = status.read_text().split()
            memory.append(int(pages[1]) * 4096 if len(pages) > 1 else 0)
    if process.returncode:
        raise RuntimeError(f"{function}: {error.strip().splitlines()[-1:]}")
    return json.loads(out.splitlines()[-1]), memory
