"""Reading a checkpoint of any known format as its CLIP and what is around it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors import safe_open
from torch import Tensor

from fineclip.checkpoints import catseg, eva_clip, fvit, huggingface
from fineclip.checkpoints.rules import Renamed, to_open_clip
from fineclip.checkpoints.safe import CheckpointError, read_checkpoint

PUBLISHED_ONLY = "published_only"
QUICK_GELU = "quick_gelu"

# Our own checkpoints hold the pretrainer, or a DenseCLIP, around the open_clip model.
_OUR_PREFIXES = ("clip.clip.", "clip.")
# 0-d tensors beside the weights of OpenAI's releases.
_OPENAI_EXTRAS = ("input_resolution", "context_length", "vocab_size")
# Largest difference from the computed rotary tables that half precision explains.
_ROTARY_TOLERANCE = 2e-3

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
        origins: Key in ``clip`` or ``rest`` -> the file's own keys.
        dropped: (the file's key, reason).
        notes: What needs attention.
        quick_gelu: Whether OpenAI's approximate GELU belongs to the weights, where known.
    """

    path: Path
    format: str
    description: str = ""
    clip: dict[str, Tensor] = field(default_factory=dict)
    rest: dict[str, Tensor] = field(default_factory=dict)
    unused: dict[str, Tensor] = field(default_factory=dict)
    origins: dict[str, tuple[str, ...]] = field(default_factory=dict)
    dropped: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    quick_gelu: bool | None = None

    def take(self, renamed: Renamed) -> None:
        """Adds renamed tensors of the CLIP; those without a rule stay under their own names."""
        self.clip.update(renamed.tensors)
        self.origins.update(renamed.origins)

    def keep(self, tensors: Mapping[str, Tensor], prefix: str = "") -> None:
        """Adds tensors of the CLIP that need no renaming but for a prefix."""
        self.clip.update({key.removeprefix(prefix): value for key, value in tensors.items()})
        self.origins.update({key.removeprefix(prefix): (key,) for key in tensors})

    def original(self, key: str) -> str:
        """The file's own name of a key, for messages."""
        return " + ".join(self.origins.get(key, (key,)))


def read_source(path: str | Path, *, mmap: bool = False) -> Source:
    """Reads a checkpoint file, or a Hugging Face folder.

    Raises:
        FileNotFoundError: The path does not exist.
        CheckpointError: It cannot be read, its format is unknown, or reading it would run code.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        tensors, config = huggingface.read_folder(path, mmap=mmap)
        source = source_from(tensors, path)
        source.quick_gelu = huggingface.uses_quick_gelu(config)
        return source
    source = source_from(read_checkpoint(path, mmap=mmap), path)
    if path.suffix == ".safetensors":
        with safe_open(path, "pt") as file:
            activation = (file.metadata() or {}).get(QUICK_GELU)
        if activation is not None:
            source.quick_gelu = activation == "true"
    return source


def format_of(path: str | Path) -> str:
    """The format of a checkpoint file, or of a Hugging Face folder, without converting it.

    Raises:
        FileNotFoundError: The path does not exist.
        CheckpointError: As :func:`read_source`.
    """
    path = Path(path).expanduser()
    if path.is_dir():
        tensors, _ = huggingface.read_folder(path, mmap=True)
    else:
        tensors = _state_dict(read_checkpoint(path, mmap=True), path)
    return _format(tensors, path)


def source_from(checkpoint: Any, path: str | Path) -> Source:
    """Takes a loaded checkpoint apart.

    Args:
        checkpoint: What the file holds: a state dict, bare or under ``state_dict`` or ``model``.
        path: Its name for messages.

    Raises:
        CheckpointError: It holds no state dict, or one of no known format.
    """
    path = Path(path)
    unused = checkpoint.get(PUBLISHED_ONLY) if isinstance(checkpoint, Mapping) else None
    tensors = _state_dict(checkpoint, path)
    source = Source(path, _format(tensors, path))
    source.description = DESCRIPTIONS[source.format]
    if isinstance(unused, Mapping):
        source.unused = dict(unused)
    _READERS[source.format](source, tensors)
    return source


def _state_dict(checkpoint: Any, path: Path) -> dict[str, Tensor]:
    if isinstance(checkpoint, Mapping):
        for name in ("state_dict", "model"):
            if isinstance(checkpoint.get(name), Mapping):
                checkpoint = checkpoint[name]
                break
    if not isinstance(checkpoint, Mapping) or not all(
        isinstance(key, str) and isinstance(value, Tensor) for key, value in checkpoint.items()
    ):
        raise CheckpointError(f"{path} holds no state dict (a mapping from names to tensors)")
    if not checkpoint:
        raise CheckpointError(f"{path} holds an empty state dict")
    # DistributedDataParallel begins every name with "module.".
    if all(key.startswith("module.") for key in checkpoint):
        return {key.removeprefix("module."): value for key, value in checkpoint.items()}
    return dict(checkpoint)


def _format(tensors: Mapping[str, Tensor], path: Path) -> str:
    if any(f"{prefix}logit_scale" in tensors for prefix in _OUR_PREFIXES):
        return "fineclip"
    if any(key.startswith(catseg.CLIP_PREFIX) for key in tensors):
        return "catseg"
    if any(key.startswith(f"{fvit.PREFIX}visual.") for key in tensors):
        return "fvit"
    if any(key.startswith("vision_model.") for key in tensors):
        return "huggingface"
    if "visual.cls_token" in tensors:
        return "eva_clip"
    if any(key in tensors for key in _OPENAI_EXTRAS):
        return "openai"
    if "logit_scale" in tensors and any(key.startswith("visual.") for key in tensors):
        return "open_clip"
    raise CheckpointError(
        f"{path} is in no known format; known: {', '.join(DESCRIPTIONS)}; its first keys are "
        f"{', '.join(list(tensors)[:4])}"
    )


def _read_open_clip(source: Source, tensors: dict[str, Tensor]) -> None:
    source.keep(tensors)


def _read_openai(source: Source, tensors: dict[str, Tensor]) -> None:
    source.quick_gelu = True
    for key in list(tensors):
        if key in _OPENAI_EXTRAS:
            source.dropped.append((key, "a number of the release, implied by the shapes"))
            del tensors[key]
        elif key.endswith("attn_mask"):
            source.dropped.append((key, "causal mask, computed when the model is made"))
            del tensors[key]
    source.keep(tensors)


def _read_fineclip(source: Source, tensors: dict[str, Tensor]) -> None:
    prefix = next(prefix for prefix in _OUR_PREFIXES if f"{prefix}logit_scale" in tensors)
    for key in list(tensors):
        if not key.startswith(prefix):
            source.dropped.append((key, "of the training, not of the model"))
            del tensors[key]
    source.keep(tensors, prefix)


def _read_huggingface(source: Source, tensors: dict[str, Tensor]) -> None:
    for key in huggingface.POSITION_IDS:
        if tensors.pop(key, None) is not None:
            source.dropped.append((key, huggingface.POSITION_IDS_REASON))
    renamed = to_open_clip(huggingface.RULES, tensors)
    source.take(renamed)
    source.keep({key: tensors[key] for key in renamed.unmatched})


def _read_eva_clip(source: Source, tensors: dict[str, Tensor]) -> None:
    _take_eva(source, tensors)


def _take_eva(source: Source, tensors: dict[str, Tensor], prefix: str = "") -> None:
    """EVA-CLIP naming, with or without a prefix of the file."""
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
    renamed = to_open_clip(eva_clip.RULES, tensors)
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
    if f"{fvit.PREFIX}visual.cls_token" in tensors:
        source.description = PUBLISHED_FVIT
        _take_eva(source, visual, fvit.PREFIX)
        for key in fvit.UNUSED:
            if rest.pop(key, None) is not None:
                source.dropped.append((key, fvit.UNUSED_REASON))
        source.unused = {key: tensors[key] for key, _ in source.dropped}
    else:
        source.keep(visual, fvit.PREFIX)
    source.rest = rest
    source.origins |= {key: (key,) for key in rest}


def _read_catseg(source: Source, tensors: dict[str, Tensor]) -> None:
    clip: dict[str, Tensor] = {}
    rest: dict[str, Tensor] = {}
    for key, value in tensors.items():
        inner = key.removeprefix(catseg.CLIP_PREFIX)
        is_clip = inner != key and inner != catseg.PROMPT_KEY
        (clip if is_clip else rest)[inner if is_clip else key] = value
    source.take(to_open_clip(catseg.RULES, clip))
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
    "fineclip": _read_fineclip,
    "huggingface": _read_huggingface,
    "eva_clip": _read_eva_clip,
    "fvit": _read_fvit,
    "catseg": _read_catseg,
}
