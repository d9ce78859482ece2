"""Reading a checkpoint of any known format as its CLIP and what is around it."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from fineclip.checkpoints import catseg, eva_clip, fvit, huggingface, siglip
from fineclip.checkpoints.compare import Misfit
from fineclip.checkpoints.provenance import Provenance, provenance_in, provenance_of
from fineclip.checkpoints.rules import Renamed, Rule, their_names, to_open_clip
from fineclip.checkpoints.safe import CheckpointError, read_checkpoint, read_safetensors
from fineclip.checkpoints.state_dict import plain_names, raw_state_dict
from fineclip.weights import resolved

PUBLISHED_ONLY = "published_only"
QUICK_GELU = "quick_gelu"

# 0-d tensors beside the weights of OpenAI's releases.
_OPENAI_EXTRAS = ("input_resolution", "context_length", "vocab_size")
# Largest difference from the computed rotary tables that half precision explains.
_ROTARY_TOLERANCE = 2e-3

# What names of each format have in them; what precedes it is the place of the model in the file.
# The first that is found counts: detectors and segmenters have a CLIP inside.
_MARKS = {
    "catseg": re.escape(catseg.CLIP_PREFIX),
    "fvit": re.escape(f"{fvit.PREFIX}visual."),
    "huggingface": r"vision_model\.",
    "eva_clip": r"visual\.(?:cls_token$|blocks\.)",
    "open_clip": r"visual\.(?:class_embedding$|transformer\.|trunk\.|attnpool\.|layer1\.)",
}
# An image tower that was saved by itself lacks the "visual." before its names.
_TOWER_MARKS = {
    "eva_clip": r"blocks\.\d+\.attn\.inner_attn_ln\.",
    "open_clip": r"(?:class_embedding$|trunk\.|attnpool\.)",
}
_TOWER = "visual."
# Names of attributes that hold the model itself and not, say, its teacher.
_HOLDERS = {"clip", "clip_model", "model", "module", "net", "network", "student"}
# Parts of detectors and segmenters outside CLIP.
_OF_REST = ("backbone", "neck", "rpn_head", "roi_head", "sem_seg_head", "upsample1", "upsample2")

DESCRIPTIONS = {
    "open_clip": "open_clip naming",
    "openai": "OpenAI CLIP release",
    "eva_clip": "EVA-CLIP naming",
    "huggingface": "Hugging Face CLIPModel",
    "fineclip": "checkpoint of this package",
    "fvit": "F-ViT, mmdet 3.x naming",
    "catseg": "CAT-Seg naming",
}
PUBLISHED_FVIT = "F-ViT as released, mmdet 2.x naming"


@dataclass
class Source:
    """A checkpoint, taken apart.

    Attributes:
        path: Where it is from.
        format: Name of the format, as :func:`fineclip.checkpoints.identify` gives it.
        description: The format in words.
        clip: Its CLIP in open_clip naming; for F-ViT the image tower alone.
        rest: Detector or segmenter tensors outside CLIP.
        unused: Tensors that only a release's own naming has, kept for the way back.
        origins: Key in ``clip`` or ``rest`` -> the format's keys.
        dropped: (the format's key, reason).
        names: The format's key -> the file's, which may have wrappers' names in it.
        prefix: What the file has before all of the format's keys.
        added: What the format has before all of the file's keys.
        dialect: What the format has before all keys of the CLIP, and its rules for them.
        notes: What needs attention.
        quick_gelu: Whether OpenAI's approximate GELU belongs to the weights, where known.
        provenance: What the file says of its training.
    """

    path: Path
    format: str
    description: str = ""
    clip: dict[str, Tensor] = field(default_factory=dict)
    rest: dict[str, Tensor] = field(default_factory=dict)
    unused: dict[str, Tensor] = field(default_factory=dict)
    origins: dict[str, tuple[str, ...]] = field(default_factory=dict)
    dropped: list[tuple[str, str]] = field(default_factory=list)
    names: dict[str, str] = field(default_factory=dict)
    prefix: str = ""
    added: str = ""
    dialect: tuple[str, Sequence[Rule]] = ("", ())
    notes: list[str] = field(default_factory=list)
    quick_gelu: bool | None = None
    provenance: Provenance = field(default_factory=Provenance)

    def take(self, renamed: Renamed) -> None:
        """Adds renamed tensors of the CLIP.

        Raises:
            CheckpointError: Parts of a tensor are missing.
        """
        if missing := [f"{self.prefix}{self.dialect[0]}{key}" for key in renamed.missing]:
            misfit = Misfit(missing=missing)
            raise CheckpointError(f"{self.path} ({self.description}) has {misfit.describe()}")
        self.clip.update(renamed.tensors)
        self.origins.update(renamed.origins)

    def keep(self, tensors: Mapping[str, Tensor], prefix: str = "") -> None:
        """Adds tensors of the CLIP that need no renaming but for a prefix."""
        self.clip.update({key.removeprefix(prefix): value for key, value in tensors.items()})
        self.origins.update({key.removeprefix(prefix): (key,) for key in tensors})

    @property
    def has_text(self) -> bool:
        """Whether there is more of a CLIP than its image tower."""
        return any(not key.startswith((_TOWER, "logit_")) for key in self.clip)

    def originals(self, key: str) -> tuple[str, ...]:
        """The file's own names of a key, also of one that it lacks."""
        if key in self.origins:
            return tuple(dict.fromkeys(self.names.get(name, name) for name in self.origins[key]))
        inner, rules = self.dialect
        if key.partition(".")[0] in _OF_REST:
            return (f"{self.prefix}{key}",)
        names = (f"{inner}{name}" for name in their_names(rules, key))
        return tuple(f"{self.prefix}{name.removeprefix(self.added)}" for name in names)

    def original(self, key: str) -> str:
        """The same as one text, for messages."""
        return " + ".join(self.originals(key))


def read_source(path: str | Path, *, mmap: bool = False, ignore: Collection[str] = ()) -> Source:
    """Reads a checkpoint file, the last one of a work dir, or a Hugging Face folder.

    Args:
        path: The file or folder.
        mmap: As in :func:`~fineclip.checkpoints.safe.read_checkpoint`.
        ignore: As for :func:`source_from`.

    Raises:
        FileNotFoundError: The path does not exist.
        CheckpointError: It cannot be read, its format is unknown, or reading it would run code.
    """
    path = Path(resolved(Path(path).expanduser()))
    if path.is_dir():
        tensors, config = huggingface.read_folder(path, mmap=mmap)
        source = source_from(tensors, path, ignore=ignore)
        source.quick_gelu = huggingface.uses_quick_gelu(config)
        source.provenance = provenance_in(_header(path / huggingface.WEIGHTS))
        return source
    source = source_from(read_checkpoint(path, mmap=mmap), path, ignore=ignore)
    if path.suffix == ".safetensors":
        header = _header(path)
        source.provenance = provenance_in(header)
        activation = header.get(QUICK_GELU)
        if activation not in (None, "true", "false"):
            raise CheckpointError(
                f"{path}: {QUICK_GELU} of the header: expected 'true' or 'false', got "
                f"{activation!r:.80}"
            )
        if activation is not None:
            source.quick_gelu = activation == "true"
    return source


def provenance_at(path: str | Path) -> Provenance:
    """What a checkpoint file says of its training.

    Raises:
        FileNotFoundError: It does not exist.
        CheckpointError: It cannot be read.
    """
    path = Path(path)
    if path.suffix == ".safetensors" and path.is_file():
        return provenance_in(read_safetensors(path)[1])
    return provenance_of(read_checkpoint(path, mmap=True))


def _header(path: Path) -> dict[str, str]:
    """The strings in the header of a safetensors file; none where there is no such file."""
    if not path.is_file():
        return {}
    with safe_open(path, "pt") as file:
        return file.metadata() or {}


def format_of(path: str | Path) -> str:
    """The format of a checkpoint file, or of a Hugging Face folder, without converting it.

    Raises:
        FileNotFoundError: The path does not exist.
        CheckpointError: As :func:`read_source`.
    """
    path = Path(resolved(Path(path).expanduser()))
    if path.is_dir():
        tensors, _ = huggingface.read_folder(path, mmap=True)
    else:
        tensors = raw_state_dict(read_checkpoint(path, mmap=True), path)
    return _locate(plain_names(tensors, path).values(), path).format


def describe_kind(keys: Collection[str], path: str | Path) -> tuple[str, bool]:
    """What kind of checkpoint has these keys, in words, and whether it is of a CLIP alone."""
    try:
        found = _locate(keys, path).format
    except CheckpointError:
        return "of no known format", False
    return DESCRIPTIONS[found], found not in ("fineclip", "fvit", "catseg")


def source_from(checkpoint: Any, path: str | Path, *, ignore: Collection[str] = ()) -> Source:
    """Takes a loaded checkpoint apart.

    Args:
        checkpoint: What the file holds: a state dict, bare or in a container.
        path: Its name for messages.
        ignore: Patterns (``*`` is any text) of keys that are left out.

    Raises:
        CheckpointError: It holds no state dict, one of no known format, or nothing that a pattern
            matches.
    """
    path = Path(path)
    unused = checkpoint.get(PUBLISHED_ONLY) if isinstance(checkpoint, Mapping) else None
    tensors = raw_state_dict(checkpoint, path)
    ignored = _ignored(tensors, ignore, path)
    tensors = {key: value for key, value in tensors.items() if key not in ignored}
    plain = plain_names(tensors, path)
    place = _locate(plain.values(), path)
    source = Source(
        path,
        place.format,
        DESCRIPTIONS[place.format],
        prefix=place.prefix,
        added=place.added,
        provenance=provenance_of(checkpoint),
    )
    source.dropped += [(key, f"ignored as told, by {why}") for key, why in ignored.items()]
    inside: dict[str, Tensor] = {}
    for key, name in plain.items():
        if not name.startswith(place.prefix):
            reason = "of the training, not of the model"
            if place.format != "fineclip":
                reason = f"outside of {place.prefix}*, where the model is"
            source.dropped.append((key, reason))
            continue
        name = f"{place.added}{name.removeprefix(place.prefix)}"
        inside[name] = tensors[key]
        source.names[name] = key
    if unused:
        source.unused = raw_state_dict(unused, f"{path}: {PUBLISHED_ONLY}")
    _READERS[source.format](source, inside)
    return source


def _ignored(keys: Collection[str], patterns: Collection[str], path: Path) -> dict[str, str]:
    """The keys that are ignored, each with its pattern."""
    found: dict[str, str] = {}
    for pattern in patterns:
        matched = [key for key in keys if fnmatchcase(key, pattern)]
        if not matched:
            raise CheckpointError(
                f"{path} has no key that {pattern!r}, to be ignored, matches; its first keys are "
                f"{', '.join(list(keys)[:4])}"
            )
        found.update(dict.fromkeys(matched, pattern))
    if found and len(found) == len(keys):
        raise CheckpointError(f"{path} has nothing but keys that are to be ignored")
    return found


@dataclass(frozen=True)
class _Place:
    """Where a model is in a state dict: its format, and what is before its names or not there."""

    format: str
    prefix: str
    added: str = ""


def _locate(keys: Collection[str], path: str | Path) -> _Place:
    for marks, added in ((_MARKS, ""), (_TOWER_MARKS, _TOWER)):
        for name, mark in marks.items():
            pattern = re.compile(rf"(?:^|(?<=\.)){mark}")
            matches = (pattern.search(key) for key in keys)
            prefixes = {match.string[: match.start()] for match in matches if match}
            if prefixes:
                prefix = _only_prefix(prefixes, path)
                if name == "open_clip" and any(f"{prefix}{key}" in keys for key in _OPENAI_EXTRAS):
                    name = "openai"
                elif name == "open_clip" and prefix.endswith("clip."):
                    # Our own checkpoints hold the pretrainer, or a DenseCLIP, around the model.
                    name = "fineclip"
                return _Place(name, prefix, added)
    raise CheckpointError(
        f"{path} is in no known format; known: {', '.join(DESCRIPTIONS)}; its first keys are "
        f"{', '.join(list(keys)[:4])}"
    )


def _only_prefix(prefixes: set[str], path: str | Path) -> str:
    if len(prefixes) > 1:  # a teacher or an average may be beside the model
        prefixes = {p for p in prefixes if _HOLDERS.issuperset(p.split(".")[:-1])} or prefixes
    if len(prefixes) > 1:
        raise CheckpointError(
            f"{path} holds several models, at {', '.join(sorted(prefixes))}: convert it with "
            f"--ignore '{max(prefixes)}*', or whichever is not wanted"
        )
    return prefixes.pop()


def _read_open_clip(source: Source, tensors: dict[str, Tensor]) -> None:
    for key in list(tensors):
        if key.endswith("attn_mask"):
            source.dropped.append((key, "causal mask, computed when the model is made"))
            del tensors[key]
    source.keep(tensors)


def _read_openai(source: Source, tensors: dict[str, Tensor]) -> None:
    source.quick_gelu = True
    for key in _OPENAI_EXTRAS:
        if tensors.pop(key, None) is not None:
            source.dropped.append((key, "a number of the release, implied by the shapes"))
    _read_open_clip(source, tensors)


def _read_huggingface(source: Source, tensors: dict[str, Tensor]) -> None:
    for key in huggingface.POSITION_IDS:
        if tensors.pop(key, None) is not None:
            source.dropped.append((key, huggingface.POSITION_IDS_REASON))
    rules: Sequence[Rule] = huggingface.RULES
    if siglip.is_siglip(tensors):
        rules, source.description = siglip.RULES, siglip.DESCRIPTION
        tensors, parts = siglip.in_parts(tensors, source.path)
        source.names |= {part: source.names[key] for part, key in parts.items()}
    source.dialect = ("", rules)
    renamed = to_open_clip(rules, tensors, source.path)
    source.take(renamed)
    source.keep({key: tensors[key] for key in renamed.unmatched})
    if rules is siglip.RULES:
        source.notes += siglip.notes_on(source.clip)


def _read_eva_clip(source: Source, tensors: dict[str, Tensor]) -> None:
    _take_eva(source, tensors)


def _take_eva(source: Source, tensors: dict[str, Tensor], prefix: str = "") -> None:
    """EVA-CLIP naming, with or without a prefix of the format."""
    source.dialect = (prefix, eva_clip.RULES)
    tensors = {key.removeprefix(prefix): value for key, value in tensors.items()}
    difference = eva_clip.rotary_difference(tensors)
    if difference is not None and difference > _ROTARY_TOLERANCE:
        source.notes.append(
            f"the stored rotary tables differ by up to {difference:.3g} from those that are "
            "computed for this grid: the converted model will not reproduce the original"
        )
    for key in list(tensors):
        if eva_clip.ROTARY_KEY.fullmatch(key):
            source.dropped.append((f"{prefix}{key}", eva_clip.ROTARY_REASON))
            del tensors[key]
    renamed = to_open_clip(eva_clip.RULES, tensors, source.path)
    source.take(renamed)
    source.keep({key: tensors[key] for key in renamed.unmatched})
    if prefix:
        source.origins |= {
            key: tuple(f"{prefix}{name}" for name in source.origins[key]) for key in source.clip
        }


def _read_fvit(source: Source, tensors: dict[str, Tensor]) -> None:
    visual, rest = {}, {}
    for key, value in tensors.items():
        if key.startswith(f"{PUBLISHED_ONLY}."):
            source.unused[key.removeprefix(f"{PUBLISHED_ONLY}.")] = value
        elif key.startswith(f"{fvit.PREFIX}visual."):
            visual[key] = value
        else:
            rest[key] = value
    if _is_eva(visual, fvit.PREFIX):
        source.description = PUBLISHED_FVIT
        _take_eva(source, visual, fvit.PREFIX)
        for key in fvit.UNUSED:
            if rest.pop(key, None) is not None:
                source.dropped.append((key, fvit.UNUSED_REASON))
        source.unused = {key: tensors[key] for key, _ in source.dropped if key in tensors}
    else:
        source.dialect = (fvit.PREFIX, ())
        source.keep(visual, fvit.PREFIX)
    source.rest = rest
    source.origins |= {key: (key,) for key in rest}


def _is_eva(keys: Collection[str], prefix: str = "") -> bool:
    mark = re.compile(f"{re.escape(prefix)}{_MARKS['eva_clip']}")
    return any(mark.match(key) for key in keys)


def _read_catseg(source: Source, tensors: dict[str, Tensor]) -> None:
    clip: dict[str, Tensor] = {}
    rest: dict[str, Tensor] = {}
    for key, value in tensors.items():
        inner = key.removeprefix(catseg.CLIP_PREFIX)
        is_clip = inner != key and inner != catseg.PROMPT_KEY
        (clip if is_clip else rest)[inner if is_clip else key] = value
    if _is_eva(clip):
        _take_eva(source, clip, catseg.CLIP_PREFIX)
    else:
        source.dialect = (catseg.CLIP_PREFIX, catseg.RULES)
        source.take(to_open_clip(catseg.RULES, clip, source.path))
        source.origins = {
            key: tuple(f"{catseg.CLIP_PREFIX}{name}" for name in names)
            for key, names in source.origins.items()
        }
    source.rest = rest
    source.origins |= {key: (key,) for key in rest}
    if "visual.class_embedding" in source.clip:
        source.quick_gelu = True


_READERS = {
    "open_clip": _read_open_clip,
    "openai": _read_openai,
    "fineclip": _read_open_clip,
    "huggingface": _read_huggingface,
    "eva_clip": _read_eva_clip,
    "fvit": _read_fvit,
    "catseg": _read_catseg,
}
