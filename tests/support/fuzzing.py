"""Odd input for every reader: a tiny world of files, mutators of them, one registry of kinds.

A kind draws cases. A case changes one file in place (or makes words of a command line), calls the
reader that a command would call, and puts the file back. How a case ends is one of
:data:`OUTCOMES`; a case that says the same as the original in another way must read the same, or
be refused.
"""

import copy
import importlib.util
import io
import json
import logging
import math
import pickle
import random
import signal
import struct
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import open_clip
import own_data
import torch
from PIL import Image
from safetensors.torch import save as save_safetensors

from fineclip.checkpoints import convert, identify, load
from fineclip.datasets import RegionTextDataset
from fineclip.datasets.evaluation import InstanceRegionDataset, PanopticRegionDataset
from fineclip.datasets.retrieval import RetrievalDataset
from fineclip.datasets.shard_writer import make_shards
from fineclip.datasets.shards import Shards
from fineclip.engine import load_config, parse_overrides
from fineclip.experiments.ablation import Ablation
from fineclip.images import UnusableImageError, read_image
from fineclip.importing import import_data
from fineclip.models.class_embedding_files import (
    ClassEmbeddings,
    read_class_embeddings,
    write_class_embeddings,
)
from fineclip.text import as_vocabulary

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs"

OUTCOMES = ("traceback", "hang", "clear_error", "error_without_file", "read", "silently_changed")
"""Ends of a case. Among clear errors are those without file, among read ones the changed."""

CLEAR_ERRORS = (ValueError, OSError, UnusableImageError)
"""What the commands turn into one line."""

_EXAMPLES = 5


# ---- Running -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Case:
    """One odd input.

    Attributes:
        what: What was done, for the reader of a report.
        read: Calls the reader.
        names: A clear error has to name one of these: the file, or the key.
        same: What it has to read as, where it means the same as the original.
    """

    what: str
    read: Callable[[], Any]
    names: tuple[str, ...]
    same: Any = None


@dataclass(frozen=True)
class Kind:
    """Inputs of one reader.

    Attributes:
        draw: Makes a case, which holds as long as the context.
        needs: Packages without which the kind is left out.
    """

    draw: Callable[[random.Random], AbstractContextManager[Case]]
    needs: tuple[str, ...] = ()

    @property
    def is_available(self) -> bool:
        return all(importlib.util.find_spec(name) is not None for name in self.needs)


@dataclass
class Report:
    """Counts by outcome, by kind, and the first examples of each."""

    counts: Counter = field(default_factory=Counter)
    by_kind: dict[str, Counter] = field(default_factory=dict)
    examples: dict[str, list[dict[str, Any]]] = field(
        default_factory=lambda: {outcome: [] for outcome in OUTCOMES}
    )

    def add(self, kind: str, number: int, what: str, outcomes: Sequence[str], text: str) -> None:
        counts = self.by_kind.setdefault(kind, Counter())
        for name in ("inputs", *outcomes):
            self.counts[name] += 1
            counts[name] += 1
        for outcome in outcomes:
            found = self.examples[outcome]
            if sum(example["kind"] == kind for example in found) < _EXAMPLES:
                found.append({"kind": kind, "number": number, "what": what, "text": text})

    def as_json(self) -> dict[str, Any]:
        names = ("inputs", *OUTCOMES)
        return {
            **{name: self.counts[name] for name in names},
            "kinds": {
                kind: {name: counts[name] for name in names}
                for kind, counts in self.by_kind.items()
            },
            "examples": self.examples,
        }


class _Hang(BaseException):
    """Past all handlers of errors."""


def run(
    kinds: Mapping[str, Kind],
    seed: int,
    *,
    seconds: float = math.inf,
    inputs: float = math.inf,
    limit: float = 10,
) -> Report:
    """Feeds odd inputs, one kind after the other, until time or number is used up.

    Case ``number`` of a seed is the same in every run.

    Args:
        kinds: Of :func:`make_kinds`.
        seed: Of all draws.
        seconds: When to stop.
        inputs: How many at most.
        limit: Seconds that one may take.
    """
    report, names = Report(), list(kinds)
    end = time.monotonic() + seconds
    number = 0
    with _quiet():
        while number < inputs and time.monotonic() < end:
            name = names[number % len(names)]
            rng = random.Random(f"{seed} {number}")
            with kinds[name].draw(rng) as case:
                outcomes, text = _outcomes(case, limit)
            report.add(name, number, case.what, outcomes, text)
            number += 1
    return report


def _outcomes(case: Case, limit: float) -> tuple[list[str], str]:
    try:
        with _time_limit(limit):
            value = case.read()
    except _Hang:
        return ["hang"], f"took over {limit} s"
    except CLEAR_ERRORS as error:
        text = " ".join(str(error).split())
        named = any(name in text for name in case.names)
        return ["clear_error"] if named else ["clear_error", "error_without_file"], (
            f"{type(error).__name__}: {text[:300]}"
        )
    except Exception as error:
        frames = traceback.extract_tb(error.__traceback__)
        place = " < ".join(f"{Path(f.filename).name}:{f.lineno}" for f in reversed(frames[-3:]))
        return ["traceback"], f"{type(error).__name__}: {str(error)[:200]} ({place})"
    if case.same is not None and value != case.same:
        return ["read", "silently_changed"], _difference(case.same, value)
    return ["read"], ""


def _difference(old: Any, new: Any) -> str:
    old, new = str(old), str(new)
    start = next((i for i, (a, b) in enumerate(zip(old, new, strict=False)) if a != b), 0)
    return f"{old[start : start + 120]} became {new[start : start + 120]}"


@contextmanager
def _time_limit(seconds: float) -> Iterator[None]:
    def stop(*_: Any) -> None:
        raise _Hang

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@contextmanager
def _quiet() -> Iterator[None]:
    before = logging.root.manager.disable
    logging.disable(logging.CRITICAL)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logging.disable(before)


# ---- Mutators ------------------------------------------------------------------------------------

Mutator = Callable[[random.Random, bytes], bytes]

_ODD = (
    None, True, False, -1, 0, 1, 3, 1.5, -0.5, 2**40, 2**70, 10**400, float("nan"), float("inf"),
    "", "text", "12", "-1", "nan", "\x00", "é\u202e", [], {}, [[]], [None], {"a": 1}, [1, 2],
)  # fmt: skip


def _truncated(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _flipped(rng: random.Random, content: bytes) -> bytes:
    changed = bytearray(content)
    for _ in range(rng.choice((1, 1, 2, 8))):
        if changed:
            changed[rng.randrange(len(changed))] = rng.randrange(256)
    return bytes(changed)


def _head_flipped(rng: random.Random, content: bytes) -> bytes:
    return _flipped(rng, content[:200]) + content[200:]


def _spliced(rng: random.Random, content: bytes) -> bytes:
    start, end = sorted(rng.randrange(len(content) + 1) for _ in range(2))
    return content[:start] + rng.choice((b"", content[start:end] * 2, b"\0" * 64)) + content[end:]


def _replaced(rng: random.Random, content: bytes) -> bytes:
    return rng.choice((b"", b"\0", b"{}", b"[]", b"null", b"\xff\xfe", b"text\n", bytes(1024)))


def _with_tail(rng: random.Random, content: bytes) -> bytes:
    return content + bytes(rng.randrange(1, 64))


BYTES: dict[str, Mutator] = {
    "truncated": _truncated,
    "bytes flipped": _flipped,
    "head flipped": _head_flipped,
    "spliced": _spliced,
    "replaced": _replaced,
}


def _places(node: Any) -> list[tuple[Any, Any]]:
    """Every (holder, key) of a piece of JSON."""
    found: list[tuple[Any, Any]] = []
    keys = node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    for key in keys:
        found.append((node, key))
        found += _places(node[key])
    return found


def _json(change: Callable[[random.Random, Any], Any]) -> Mutator:
    def mutate(rng: random.Random, content: bytes) -> bytes:
        data = change(rng, json.loads(content))
        return json.dumps(data).encode(errors="replace")

    return mutate


def _other_value(rng: random.Random, data: Any) -> Any:
    holder, key = rng.choice(_places(data))
    holder[key] = copy.deepcopy(rng.choice(_ODD))
    return data


def _other_root(rng: random.Random, data: Any) -> Any:
    return rng.choice((*_ODD, [data], {"data": data}))


def _removed(rng: random.Random, data: Any) -> Any:
    holder, key = rng.choice(_places(data))
    del holder[key]
    return data


def _repeated(rng: random.Random, data: Any) -> Any:
    lists = [holder[key] for holder, key in _places(data) if isinstance(holder[key], list)]
    if lists := [found for found in lists if found]:
        chosen = rng.choice(lists)
        chosen.append(copy.deepcopy(rng.choice(chosen)))
    return data


def _renamed(rng: random.Random, data: Any) -> Any:
    holders = [(holder, key) for holder, key in _places(data) if isinstance(holder, dict)]
    if not holders:  # a list of names
        return _other_value(rng, data)
    holder, key = rng.choice(holders)
    holder[rng.choice((key.upper(), f"{key}s", key[:-1], f" {key}"))] = holder.pop(key)
    return data


def _exchanged(rng: random.Random, data: Any) -> Any:
    (one, a), (other, b) = (rng.choice(_places(data)) for _ in range(2))
    one[a], other[b] = copy.deepcopy(other[b]), copy.deepcopy(one[a])
    return data


def _other_type(rng: random.Random, data: Any) -> Any:
    holder, key = rng.choice(_places(data))
    value = holder[key]
    if isinstance(value, list):
        holder[key] = dict(enumerate(value))
    elif isinstance(value, dict):
        holder[key] = list(value.items())
    else:
        holder[key] = rng.choice((str(value), [value], {"value": value}))
    return data


def _deep(rng: random.Random, content: bytes) -> bytes:
    return rng.choice((b"[", b'{"a":', b'{"images":[')) * 100_000


JSON: dict[str, Mutator] = {
    "other value": _json(_other_value),
    "other value, again": _json(_other_value),
    "other type": _json(_other_type),
    "other root": _json(_other_root),
    "entry removed": _json(_removed),
    "entry repeated": _json(_repeated),
    "key renamed": _json(_renamed),
    "values exchanged": _json(_exchanged),
    "truncated": _truncated,
    "bytes flipped": _flipped,
    "replaced": _replaced,
    "brackets without end": _deep,
}


def _reordered(node: Any) -> Any:
    if isinstance(node, dict):
        return {key: _reordered(node[key]) for key in reversed(node)}
    return [_reordered(item) for item in node] if isinstance(node, list) else node


def _written(**options: Any) -> Mutator:
    return lambda rng, content: json.dumps(json.loads(content), **options).encode()


JSON_SAME: dict[str, Mutator] = {
    "indented": _written(indent=2),
    "compact": _written(separators=(",", ":")),
    "letters as they are": _written(ensure_ascii=False),
    "byte order mark": lambda rng, content: b"\xef\xbb\xbf" + content,
    "UTF-16": lambda rng, content: content.decode().encode("utf-16"),
}
"""The same JSON, written otherwise."""

OBJECT_SAME: dict[str, Mutator] = {
    **JSON_SAME,
    "keys reordered": _json(lambda rng, data: _reordered(data)),
    "unknown key": _json(lambda rng, data: {**data, "made_by": {"tool": [1, None]}}),
}
"""For objects whose keys have names that are known."""


def _numbers_as_text(rng: random.Random, data: Any) -> Any:
    for holder, key in _places(data):
        value = holder[key]
        if isinstance(value, int | float) and not isinstance(value, bool):
            holder[key] = str(value)
    return data


ANNOTATIONS_SAME: dict[str, Mutator] = {
    **OBJECT_SAME,
    "numbers as text": _json(_numbers_as_text),
    "integers as floats": _json(lambda rng, data: json.loads(json.dumps(data), parse_int=float)),
}


# ---- A tiny world --------------------------------------------------------------------------------


def _tokens(texts: Sequence[str]) -> torch.Tensor:
    return torch.tensor([[ord(letter) for letter in text.ljust(12)[:12]] for text in texts])


def make_world(folder: Path) -> None:
    """Writes one small file, or a few, of everything that a command reads."""
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    (folder / "panoptic").mkdir()
    images: list[dict[str, Any]] = []
    boxes: list[dict[str, Any]] = []
    captions, panoptic = [], []
    for number, suffix in enumerate(("jpg", "png", "bmp", "webp", "tif", "jpg")):
        width, height = (int(side) for side in rng.integers(24, 40, 2))
        pixels = rng.integers(0, 255, (height, width, 3), dtype=np.uint8)
        name = f"picture{number}.{suffix}"
        Image.fromarray(pixels).save(folder / "images" / name)
        images.append({"id": number + 1, "file_name": name, "width": width, "height": height})
        ids = np.zeros((height, width, 3), np.uint8)
        segments = []
        for corner in (2, 8):
            entry = {
                "id": len(boxes) + 1,
                "image_id": number + 1,
                "category_id": 1 + corner // 8,
                "bbox": [corner, corner, 12.0, 12.0],
                "area": 144.0,
                "iscrowd": 0,
                "segmentation": [[corner, corner, corner + 12, corner, corner + 12, corner + 12]],
            }
            boxes.append(entry)
            ids[corner : corner + 12, corner : corner + 12, 0] = entry["id"]
            left_out = ("image_id", "segmentation")
            segments.append({k: v for k, v in entry.items() if k not in left_out})
        png = f"picture{number}.png"
        Image.fromarray(ids).save(folder / "panoptic" / png)
        panoptic.append({"image_id": number + 1, "file_name": png, "segments_info": segments})
        captions += [
            {"id": 10 * number + k, "image_id": number + 1, "caption": text}
            for k, text in enumerate(("a red ring", "ein Bär"))
        ]
    categories = [
        {"id": 1, "name": "ring", "supercategory": "thing", "isthing": 1},
        {"id": 2, "name": "bär", "supercategory": "thing", "isthing": 0},
    ]
    content: dict[str, Any] = {
        "instances": {"images": images, "annotations": boxes, "categories": categories},
        "captions": {"images": images, "annotations": captions},
        "region_captions": {str(box["id"]): f"ring {box['id']}" for box in boxes},
        "panoptic": {"images": images, "annotations": panoptic, "categories": categories},
        "vocabulary": {
            "name": "tiny",
            "categories": [
                {"id": 1, "name": "ring", "synonyms": ["ring", "circle"], "isthing": True},
                {"id": 2, "name": "bär", "split": "novel"},
            ],
        },
        "names": ["ring", "bär", "a red umbrella"],
    }
    for name, data in content.items():
        (folder / f"{name}.json").write_text(json.dumps(data))
    make_shards(
        folder / "shards",
        image_root=folder / "images",
        annotations=folder / "instances.json",
        captions=folder / "captions.json",
        region_captions=folder / "region_captions.json",
        samples_per_shard=4,
    )
    own_data.ultralytics(folder / "yolo")
    own_data.labelimg(folder / "voc")
    own_data.cvat(folder / "coco")
    write_class_embeddings(
        folder / "classes.safetensors",
        ClassEmbeddings(("ring", "bär"), torch.eye(3, 8), "background", {"model": "tiny"}),
    )
    torch.save(_small_clip(), folder / "clip.pt")
    (folder / "clip.safetensors").write_bytes(save_safetensors(_small_clip()))
    convert(folder / "clip.pt", folder / "transformers", to="huggingface")


def _small_clip() -> dict[str, torch.Tensor]:
    """A tiny model with next to no tokens, which are most of it."""
    model = open_clip.create_model("ViT-Ti-16", pretrained=None)
    state = {key: value.clone().half() for key, value in model.state_dict().items()}
    state["token_embedding.weight"] = state["token_embedding.weight"][:64].clone()
    return state


# ---- Kinds ---------------------------------------------------------------------------------------


def make_kinds(folder: Path) -> dict[str, Kind]:
    """All kinds whose packages are here, over a world that is made in an empty folder."""
    make_world(folder)
    images = folder / "images"

    def region_text(fields: Sequence[str]) -> Callable[[Path], Any]:
        def read(_: Path) -> Any:
            data = RegionTextDataset(
                source={
                    "type": "AnnotationFiles",
                    "image_root": images,
                    "annotations": folder / "instances.json",
                    "captions": folder / "captions.json" if "texts" in fields else None,
                    "region_captions": (
                        folder / "region_captions.json" if len(fields) == 4 else None
                    ),
                },
                images={"transform": {"size": 16}},
                tokenizer=_tokens,
                fields=fields,
                regions={"type": "BoxRegions", "min_area": 4},
            )
            return [_plain(data[0, index]) for index in range(len(data))]

        return read

    def evaluation(make: Callable[[], Any]) -> Callable[[Path], Any]:
        def read(_: Path) -> Any:
            data = make()
            return [_plain(data[index]) for index in range(len(data))]

        return read

    def box_evaluation() -> Any:
        return InstanceRegionDataset(folder / "instances.json", images, transform={"size": 16})

    def panoptic_evaluation() -> Any:
        return PanopticRegionDataset(
            folder / "panoptic.json", images, folder / "panoptic", transform={"size": 16}
        )

    def retrieval() -> Any:
        return RetrievalDataset(
            folder / "captions.json", images, transform={"size": 16}, tokenizer=_tokens
        )

    def imported(file: Path) -> Any:
        form = file.relative_to(folder).parts[0]
        with tempfile.TemporaryDirectory() as out:
            import_data(folder / form, Path(out) / "new", form=form)
            return own_data.imported(Path(out) / "new")

    def shards(_: Path) -> Any:
        source = Shards(folder / "shards")
        return [(source.file(n), source.read_record(n), source.read(n)) for n in range(len(source))]

    kinds = {
        "image": _file_kind(
            sorted(images.iterdir()),
            lambda file: _plain(np.asarray(read_image(file))),
            BYTES,
            {"bytes after the end": _with_tail},
        ),
        "annotations": _file_kind(
            [folder / "instances.json"], region_text(("boxes", "crops")), JSON, ANNOTATIONS_SAME
        ),
        "captions": _file_kind(
            [folder / "captions.json"], region_text(("texts",)), JSON, ANNOTATIONS_SAME
        ),
        "region captions": _file_kind(
            [folder / "region_captions.json"],
            region_text(("texts", "boxes", "crops", "region_texts")),
            JSON,
            JSON_SAME,
        ),
        "box evaluation": _file_kind(
            [folder / "instances.json"], evaluation(box_evaluation), JSON, ANNOTATIONS_SAME
        ),
        "panoptic evaluation": _file_kind(
            [folder / "panoptic.json"], evaluation(panoptic_evaluation), JSON, ANNOTATIONS_SAME
        ),
        "retrieval": _file_kind(
            [folder / "captions.json"], evaluation(retrieval), JSON, ANNOTATIONS_SAME
        ),
        "shard index": _file_kind([folder / "shards" / "index.json"], shards, JSON, OBJECT_SAME),
        "shard": _file_kind(
            sorted((folder / "shards").glob("*.tar")),
            shards,
            {**BYTES, "sample changed": _sample_changed},
            {},
            also="index.json",
        ),
        "imported texts": _file_kind(
            [
                folder / "yolo" / "data.yaml",
                folder / "yolo" / "labels" / "train" / "a.txt",
                folder / "voc" / "train" / "a.xml",
            ],
            imported,
            BYTES,
            {},
        ),
        "imported annotations": _file_kind(
            [folder / "coco" / "annotations" / "instances_default.json"],
            imported,
            JSON,
            ANNOTATIONS_SAME,
        ),
        "vocabulary": _file_kind([folder / "vocabulary.json"], _vocabulary, JSON, OBJECT_SAME),
        "names": _file_kind([folder / "names.json"], _vocabulary, JSON, JSON_SAME),
        "class embeddings": _file_kind(
            [folder / "classes.safetensors"],
            lambda file: _plain(vars(read_class_embeddings(file))),
            {**BYTES, "header changed": _header_changed},
            {},
        ),
        "checkpoint": _file_kind(
            [folder / "clip.pt"],
            _checkpoint,
            {**BYTES, "entries changed": _state_changed},
            {"wrapped": _state_wrapped},
        ),
        "safetensors": _file_kind(
            [folder / "clip.safetensors"],
            _checkpoint,
            {**BYTES, "header changed": _header_changed},
            {},
        ),
        "transformers": _file_kind(
            [folder / "transformers" / "config.json"],
            lambda file: _checkpoint(file.parent),
            JSON,
            OBJECT_SAME,
        ),
        "overrides": _override_kind("fineclip/scenes.py", load_config),
        "ablation overrides": _override_kind("ablation/scenes.py", Ablation.from_config),
        "detection overrides": _override_kind(
            "detection/scenes_fvit.py", load_config, needs=("mmdet",)
        ),
        "segmentation options": _option_kind("segmentation/scenes_vit-ti-8.yaml"),
        "detection annotations": _file_kind(
            [folder / "instances.json"],
            _detection_annotations,
            JSON,
            ANNOTATIONS_SAME,
            needs=("mmdet",),
        ),
    }
    return {name: kind for name, kind in kinds.items() if kind.is_available}


def _plain(value: Any) -> Any:
    """A value that can be compared."""
    if isinstance(value, torch.Tensor):
        return tuple(value.shape), value.double().numpy().tobytes()
    if isinstance(value, np.ndarray):
        return value.shape, value.tobytes()
    if isinstance(value, Mapping):
        # Paths of the same file are the same; ids may come as another type.
        return {key: _plain(entry) for key, entry in value.items()}
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _vocabulary(file: Path) -> Any:
    found = as_vocabulary(file)
    return found.names, found.ids, found.synonyms, found.split, found.isthing


def _checkpoint(path: Path) -> Any:
    return identify(path), {key: _plain(value.float()) for key, value in load(path).items()}


def _detection_annotations(file: Path) -> Any:
    from detection.datasets import OpenVocabularyCocoDataset

    data = OpenVocabularyCocoDataset(ann_file=str(file))
    return [data.get_data_info(index)["instances"] for index in range(len(data))]


def _file_kind(
    files: Sequence[Path],
    read: Callable[[Path], Any],
    odd: Mapping[str, Mutator],
    same: Mapping[str, Mutator],
    *,
    also: str | None = None,
    needs: tuple[str, ...] = (),
) -> Kind:
    """Changes one of the files in place.

    Args:
        files: What can be changed.
        read: The reader, called with the file.
        odd: Mutators by name.
        same: Those that change nothing that is meant.
        also: Another file that an error may name.
        needs: See :class:`Kind`.
    """
    contents = {file: file.read_bytes() for file in files}
    originals: dict[Path, Any] = {}

    @contextmanager
    def draw(rng: random.Random) -> Iterator[Case]:
        file = rng.choice(files)
        is_same = bool(same) and rng.random() < 0.25
        mutators = same if is_same else odd
        if is_same and file not in originals:
            originals[file] = read(file)
        expected = originals[file] if is_same else None
        name = rng.choice(list(mutators))
        file.write_bytes(mutators[name](rng, contents[file]))
        names = (file.name, *([also] if also else []))
        try:
            yield Case(f"{file.name}: {name}", lambda: read(file), names, expected)
        finally:
            file.write_bytes(contents[file])

    return Kind(draw, needs)


def _sample_changed(rng: random.Random, content: bytes) -> bytes:
    """The JSON of a sample, with the same number of bytes."""
    start = content.index(b'{"image"')
    end = content.index(b"\0", start)
    changed = rng.choice((_json(_other_value), _json(_other_type), _json(_removed)))
    record = changed(rng, content[start:end])[: end - start].ljust(end - start)
    return content[:start] + record + content[end:]


def _header_changed(rng: random.Random, content: bytes) -> bytes:
    """The JSON that a safetensors file begins with."""
    (length,) = struct.unpack("<Q", content[:8])
    change = rng.choice((_json(_other_value), _json(_other_type), _json(_removed), _json(_renamed)))
    header = change(rng, content[8 : 8 + length])
    return struct.pack("<Q", len(header)) + header + content[8 + length :]


def _saved(data: Any) -> bytes:
    buffer = io.BytesIO()
    torch.save(data, buffer)
    return buffer.getvalue()


def _state(content: bytes) -> dict[str, Any]:
    return dict(torch.load(io.BytesIO(content), weights_only=True))


def _state_changed(rng: random.Random, content: bytes) -> bytes:
    state = _state(content)
    key = rng.choice(list(state))
    change = rng.randrange(6)
    if change == 0:
        del state[key]
    elif change == 1:
        state[f"{key}.more"] = state.pop(key)
    elif change == 2:
        state[key] = rng.choice(_ODD)
    elif change == 3:
        shape = rng.choice(((), (0,), (3,), (1, 2, 3, 4, 5), (*state[key].shape, 2)))
        state[key] = torch.zeros(shape, dtype=rng.choice((torch.float16, torch.int8, torch.bool)))
    elif change == 4:
        state[rng.choice((1, None, ("a", 2)))] = state.pop(key)
    else:
        return rng.choice(
            (
                _saved(rng.choice((state[key], [state], {"state_dict": [1]}, {"model": None}, {}))),
                pickle.dumps({"state_dict": 1}),
                pickle.dumps(Path("x")),
            )
        )
    return _saved(state)


def _state_wrapped(rng: random.Random, content: bytes) -> bytes:
    state = _state(content)
    return rng.choice(
        (
            _saved({"state_dict": state, "epoch": 3}),
            _saved({f"module.{key}": value for key, value in state.items()}),
            _saved({key: state[key] for key in reversed(state)}),
        )
    )


# ---- Command lines -------------------------------------------------------------------------------

_VALUES = (
    "-1", "0", "1", "2.5", "-0.1", "nan", "inf", "1e999", "abc", "", " ", "None", "True", "[]",
    "[1,2]", "(1,2)", "1,2", "[1", "(1,[2)", "{}", "a b", "'a'", "9" * 30, "13", "é", "\x00", "...",
    "[" * 3000 + "]" * 3000, "lambda: 1", "__import__('os')", "0x10", "1_0", "=", "a=b",
)  # fmt: skip


def _paths(node: Any, prefix: str = "") -> list[str]:
    found = []
    keys = node if isinstance(node, dict) else range(len(node)) if isinstance(node, list) else ()
    for key in keys:
        found.append(f"{prefix}{key}")
        found += _paths(node[key], f"{prefix}{key}.")
    return found


def _odd_key(rng: random.Random, key: str) -> str:
    cut = rng.randrange(len(key) + 1)
    return rng.choice(
        (
            key, key, key, key, key[:cut] + key[cut + 1 :], f"{key}.x", f"{key}.0", f"x.{key}",
            key.upper(), key.replace(".", ".."), f".{key}", f"{key}.", "", "__class__", "0",
        )
    )  # fmt: skip


def _override_kind(config: str, read: Callable[..., Any], needs: tuple[str, ...] = ()) -> Kind:
    """``--cfg-options`` of a config: words that are read, and the config with them."""
    path = CONFIGS / config
    known: dict[str, Any] = {}
    original: list[Any] = []

    def load(words: Sequence[str]) -> Any:
        return _comparable(read(path, parse_overrides(words)))

    @contextmanager
    def draw(rng: random.Random) -> Iterator[Case]:
        if not original:
            known.update(_comparable(load_config(path)))
            original.append(load([]))
        if rng.random() < 0.2:
            # What the config says already, in the words of a command line.
            plain = {k: str(v) for k, v in known.items() if isinstance(v, str | int | float)}
            key = rng.choice([k for k, v in plain.items() if v.strip() and "," not in v])
            words = [f"{key}={plain[key]}"]
            yield Case(words[0], lambda: load(words), (key, path.name), original[0])
            return
        words, names = [], []
        for _ in range(rng.choice((1, 1, 1, 2))):
            key = _odd_key(rng, rng.choice(_paths(known)))
            words.append(key if rng.random() < 0.1 else f"{key}={rng.choice(_VALUES)}")
            names.append(key)
        yield Case(" ".join(words)[:200], lambda: load(words), (*names, path.name))

    return Kind(draw, needs)


def _comparable(value: Any) -> Any:
    content = value.to_dict() if hasattr(value, "to_dict") else value
    return json.loads(json.dumps(content, default=str)) if isinstance(content, dict) else content


def _option_kind(config: str) -> Kind:
    """``KEY VALUE`` options of a detectron2 configuration."""
    path = CONFIGS / config

    def load(options: Sequence[str]) -> Any:
        from segmentation.engine.config import load_config as load_yaml

        return load_yaml(path, options).dump()

    def keys() -> list[str]:
        import yaml

        return _paths(yaml.safe_load(load(())))

    known: list[str] = []

    @contextmanager
    def draw(rng: random.Random) -> Iterator[Case]:
        if not known:
            known.extend(keys())
        key = _odd_key(rng, rng.choice(known))
        options = [key, rng.choice(_VALUES)]
        if rng.random() < 0.1:
            options.append("SOLVER.MAX_ITER")
        yield Case(" ".join(options)[:200], lambda: load(options), (key, options[-1]))

    return Kind(draw, ("detectron2",))
