"""Conversion of checkpoints between the formats of CLIP's world."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from fineclip.checkpoints import catseg, eva_clip, fvit, huggingface, open_clip
from fineclip.checkpoints.compare import check_finite, listed, nonfinite
from fineclip.checkpoints.layout import fit
from fineclip.checkpoints.mixing import mix_with
from fineclip.checkpoints.open_clip import EVA, RESNET, SIGLIP, VIT
from fineclip.checkpoints.provenance import PROVENANCE, Provenance
from fineclip.checkpoints.report import Report
from fineclip.checkpoints.rules import Renamed, Rule, from_open_clip
from fineclip.checkpoints.safe import CheckpointError
from fineclip.checkpoints.source import (
    DESCRIPTIONS,
    PUBLISHED_FVIT,
    PUBLISHED_ONLY,
    QUICK_GELU,
    Source,
    read_source,
)
from fineclip.checkpoints.write import SUFFIXES, check_target, write_safetensors, write_torch
from fineclip.files import replacing_folder, write_atomically
from fineclip.positions import resample_position_table

_MASK = "attn_mask"  # no weights: infinite where nothing is to be attended to

TARGETS = ("open_clip", "eva_clip", "huggingface", "fvit", "catseg")


@dataclass
class Converted:
    """Tensors under the target's names, before anything is written.

    Attributes:
        tensors: What the file will hold.
        report: How they came about.
        unused: Tensors that only a release's own naming has.
        files: Text files beside the weights (Hugging Face).
        quick_gelu: Whether OpenAI's approximate GELU belongs to the weights, where known.
        provenance: What the source says of its training.
    """

    tensors: dict[str, Tensor]
    report: Report
    unused: dict[str, Tensor] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    quick_gelu: bool | None = None
    provenance: Provenance = field(default_factory=Provenance)


def convert(
    src: str | Path,
    dst: str | Path,
    *,
    to: str,
    image_size: int | None = None,
    quick_gelu: bool | None = None,
    published: bool = False,
    ignore: Collection[str] = (),
    mix: str | Path | None = None,
    alpha: float | None = None,
    allow_nonfinite: bool = False,
    dry_run: bool = False,
) -> Report:
    """Converts a checkpoint; values and precision stay as they are, to the last bit.

    Args:
        src: A file in any format :func:`fineclip.checkpoints.identify` knows, or a Hugging Face
            folder.
        dst: The file to write: safetensors or a torch file, by its suffix. A folder for
            ``to="huggingface"``.
        to: One of ``"open_clip"``, ``"eva_clip"``, ``"huggingface"``, ``"fvit"`` (a backbone from
            a CLIP, a whole detector from a detector) and ``"catseg"`` (likewise).
        image_size: Resample the absolute position table to this square input in pixels.
        quick_gelu: The weights belong to OpenAI's approximate GELU; None: as the source says.
        published: With ``to="fvit"``: the naming of the release (mmdet 2.x) instead of ours.
        ignore: Patterns (``*`` is any text) of keys of the file that are left out.
        mix: Start weights, in any format, that the CLIP is mixed with (WiSE-FT); see
            :func:`fineclip.checkpoints.mixing.mix_with`.
        alpha: Share of ``src`` in the mix, from 0 to 1.
        allow_nonfinite: Take weights with NaN or infinite values; they are noted.
        dry_run: Write nothing.

    Returns:
        What was matched, renamed, dropped and added, and why.

    Raises:
        FileNotFoundError: ``src`` or the folder of ``dst`` does not exist.
        CheckpointError: Unreadable or unsafe source, unknown format, an unknown or missing key, a
            shape that does not fit, values that are not finite, an architecture the target cannot
            hold, or a bad ``dst``.
        ValueError: Unknown ``to``, or options that contradict it.
    """
    dst = Path(dst).expanduser()
    if to not in TARGETS:
        raise ValueError(f"unknown target {to!r}; known: {', '.join(TARGETS)}")
    if published and to != "fvit":
        raise ValueError(f"published naming is an option of the target fvit, not of {to}")
    if (mix is None) != (alpha is None):
        raise ValueError("mix and alpha go together: start weights, and the share of the others")
    if to == "huggingface":
        if dst.is_file() or dst.suffix in SUFFIXES:
            raise CheckpointError(f"{dst}: Hugging Face models are folders; name a folder")
    else:
        check_target(dst)
    if not dst.absolute().parent.is_dir():
        raise FileNotFoundError(f"folder {dst.absolute().parent} does not exist")
    source = read_source(src, mmap=True, ignore=ignore)
    if quick_gelu is not None:
        source.quick_gelu = quick_gelu
    if mix is not None and alpha is not None:
        mix_with(source, read_source(mix, mmap=True), alpha)
    converted = convert_source(
        source,
        to=to,
        image_size=image_size,
        published=published,
        allow_nonfinite=allow_nonfinite,
    )
    converted.report.target = str(dst)
    if not dry_run:
        _write(converted, dst, to)
    return converted.report


def convert_source(
    source: Source,
    *,
    to: str,
    image_size: int | None = None,
    published: bool = False,
    allow_nonfinite: bool = False,
) -> Converted:
    """Converts tensors in memory (on any device, the meta device included).

    Args:
        source: From :func:`fineclip.checkpoints.source.read_source` or ``source_from``.
        to: As for :func:`convert`.
        image_size: As for :func:`convert`.
        published: As for :func:`convert`.
        allow_nonfinite: As for :func:`convert`.

    Raises:
        CheckpointError: As for :func:`convert`.
    """
    dims = _check(source)
    values = {
        source.original(key): value
        for key, value in {**source.clip, **source.rest}.items()
        if not key.endswith(_MASK)
    }
    if not allow_nonfinite:
        check_finite(values, source.path)
    report = Report(str(source.path), source.description)
    report.target_format = PUBLISHED_FVIT if published else DESCRIPTIONS[to]
    report.notes += source.notes
    if allow_nonfinite and (keys := nonfinite(values)):
        report.notes.append(f"NaN or infinite values in {len(keys)} tensors: {listed(keys)}")
    if image_size is not None:
        _resample(source, image_size, report)
        dims = _check(source)
    builder = _Builder(source, dims, report)
    _TARGETS[to](builder, published)
    builder.finish()
    return Converted(
        builder.tensors,
        report,
        builder.unused,
        builder.files,
        source.quick_gelu,
        source.provenance,
    )


def _check(source: Source) -> dict[str, int]:
    """Compares the source with the layout of its kind and returns the sizes by letter."""
    layout = open_clip.layout_of(source.clip, str(source.path), with_text=source.has_text)
    if source.format == "fvit":
        layout |= fvit.layout_of_rest(source.rest)
    if source.format == "catseg":
        layout |= catseg.layout_of_rest(source.rest)
    tensors = {**source.clip, **source.rest}
    dims, misfit = fit(layout, tensors)
    misfit.types.extend(
        (key, tensor.dtype, torch.float32)
        for key, tensor in tensors.items()
        if not tensor.is_floating_point() and not key.endswith(("num_batches_tracked", _MASK))
    )
    if misfit:
        # As the file calls them. Whoever converts it has to see all of them.
        misfit = misfit.renamed(source.original)
        tower = open_clip.tower_of(source.clip, str(source.path))
        raise CheckpointError(
            f"{source.path} ({source.description}, {tower}) does not have the layout of its kind: "
            f"{misfit.describe(limit=None)}"
        )
    return dims


def _resample(source: Source, image_size: int, report: Report) -> None:
    table = open_clip.position_table(source.clip, str(source.path))
    if image_size < 1 or image_size % table.patch:
        raise CheckpointError(
            f"image size {image_size} is no multiple of the patch, {table.patch} pixels"
        )
    grid = image_size // table.patch
    positions = source.clip[table.key]
    flat = positions.reshape(-1, positions.shape[-1])
    flat = resample_position_table(flat.float(), (table.grid,) * 2, (grid,) * 2)
    shape = (*positions.shape[:-2], *flat.shape)
    source.clip[table.key] = flat.to(positions.dtype).reshape(shape)
    # A release's rotary tables belong to the old grid.
    source.unused = {
        key: value
        for key, value in source.unused.items()
        if not eva_clip.ROTARY_KEY.fullmatch(key.removeprefix(fvit.PREFIX))
    }
    report.notes.append(
        f"position table resampled from {table.grid} x {table.grid} to {grid} x {grid} patches "
        "(bicubic, no antialiasing)"
    )


class _Builder:
    """Collects the target's tensors and where each came from."""

    def __init__(self, source: Source, dims: dict[str, int], report: Report) -> None:
        self.source = source
        self.dims = dims
        self.report = report
        self.tensors: dict[str, Tensor] = {}
        self.unused: dict[str, Tensor] = {}
        self.files: dict[str, str] = {}
        self._left: dict[str, str] = {}

    @property
    def tower(self) -> str:
        return open_clip.tower_of(self.source.clip, str(self.source.path))

    def demand(self, towers: tuple[str, ...], what: str, *, with_text: bool = True) -> None:
        """Refuses architectures the target cannot hold."""
        if self.tower not in towers:
            raise CheckpointError(
                f"{self.source.path} has an image tower of the kind {self.tower}; {what} holds "
                f"{' or '.join(towers)}"
            )
        if with_text and open_clip.text_prefix(self.source.clip) is None:
            raise CheckpointError(
                f"{self.source.path} ({self.source.description}) holds an image tower alone; "
                f"{what} needs the text tower as well: convert the CLIP it was made from"
            )

    def put(
        self,
        tensors: Mapping[str, Tensor],
        prefix: str = "",
        renamed: Renamed | None = None,
        how: Mapping[str, str] | None = None,
    ) -> None:
        """Adds tensors to the target and reports what each was called in the file.

        A tensor has up to three names: the file's, open_clip's (under which everything is held
        between reading and writing) and the target's.

        Args:
            tensors: By the target's names without the prefix.
            prefix: What the target has before every name.
            renamed: How the target's names follow from open_clip's; None: they are the same.
            how: What else was done to the values, by the target's names without the prefix.
        """
        for key, tensor in tensors.items():
            target = f"{prefix}{key}"
            self.tensors[target] = tensor
            internal = renamed.origins[key][0] if renamed else key
            olds = self.source.originals(internal)
            # One tensor of open_clip's (query, key and value in one matrix) can be several in the
            # file, in the target, or in both. In both, as from CAT-Seg to CAT-Seg, each part comes
            # from one tensor of the file; otherwise it comes from all of them.
            part, parts = renamed.parts[key] if renamed else (0, 1)
            if parts == len(olds):
                olds = (olds[part],)
            note = (how or {}).get(key, "")
            if olds == (target,) and not note:
                self.report.matched.append(target)
            else:
                self.report.renamed.append((olds, target, note))

    def put_renamed(
        self, rules: list[Rule], tensors: Mapping[str, Tensor], prefix: str = ""
    ) -> None:
        """Adds tensors by the rules of a dialect; ``prefix`` as for :meth:`put`."""
        renamed = from_open_clip(rules, tensors)
        if renamed.unmatched:
            raise CheckpointError(
                f"{self.source.path}: {self.report.target_format} has no place for "
                f"{', '.join(self.source.original(key) for key in renamed.unmatched)}"
            )
        transposed = {rule.theirs[0]: "transposed" for rule in rules if rule.transpose}
        if self.source.format == "huggingface":
            transposed = {}  # twice, when read and when written, which is not worth a note
        self.put(renamed.tensors, prefix, renamed, transposed)

    def leave(self, keys: Mapping[str, Tensor], reason: str) -> None:
        """Leaves tensors of the source out of the target."""
        self._left.update(dict.fromkeys(keys, reason))

    def add(self, tensors: Mapping[str, Tensor], reason: str) -> None:
        """Adds tensors the source does not have."""
        self.tensors.update(tensors)
        self.report.added += [(key, reason) for key in tensors]

    def finish(self) -> None:
        """Reports what was dropped, now that it is known what was not."""
        source = self.source
        dropped = [
            (source.names.get(key, key), why)
            for key, why in source.dropped
            if key not in self.tensors
        ]
        for internal, reason in self._left.items():
            dropped += [(key, reason) for key in source.originals(internal)]
        self.report.dropped += dropped


def _to_open_clip(builder: _Builder, _: bool) -> None:
    builder.demand((VIT, EVA, SIGLIP, RESNET), "an open_clip checkpoint")
    builder.put(builder.source.clip)
    builder.leave(builder.source.rest, "of the segmenter, not of its CLIP")


def _to_eva_clip(builder: _Builder, _: bool) -> None:
    builder.demand((EVA,), "EVA-CLIP naming")
    builder.put_renamed(eva_clip.RULES, builder.source.clip)
    builder.add(eva_clip.stored_tables(builder.tensors), eva_clip.ROTARY_REASON)
    builder.leave(builder.source.rest, "of the segmenter, not of its CLIP")


def _to_huggingface(builder: _Builder, _: bool) -> None:
    builder.demand((VIT,), "a Hugging Face CLIPModel")
    source = builder.source
    prefix = open_clip.text_prefix(source.clip)
    if prefix:  # CLIPModel's rules know the text tower without open_clip's optional prefix
        source.origins |= {key.removeprefix(prefix): source.origins[key] for key in source.clip}
        source.clip = {key.removeprefix(prefix): value for key, value in source.clip.items()}
    builder.put_renamed(huggingface.RULES, source.clip)
    builder.leave(source.rest, "of the segmenter, not of its CLIP")
    files, notes = huggingface.configs(source.clip, builder.dims, source.quick_gelu)
    builder.report.notes += notes
    builder.files = {name: json.dumps(content, indent=2) + "\n" for name, content in files.items()}
    if "tokenizer_config.json" in files:
        builder.files |= huggingface.tokenizer_files()
    else:
        builder.report.notes.append("no tokenizer written: the vocabulary is not CLIP's")


def _to_fvit(builder: _Builder, published: bool) -> None:
    source = builder.source
    towers = (EVA,) if published else (VIT, EVA, SIGLIP)
    builder.demand(towers, builder.report.target_format, with_text=False)
    visual = open_clip.image_tower(source.clip)
    text = {key: value for key, value in source.clip.items() if key not in visual}
    builder.leave(text, "a detector classifies with text embeddings, made beforehand")
    if source.format == "fvit":
        builder.put(source.rest)
    else:
        builder.leave(source.rest, "of the segmenter, not of its CLIP")
    if not published:
        builder.put(visual, fvit.PREFIX)
        builder.unused = source.unused
        return
    builder.put_renamed(eva_clip.RULES, visual, fvit.PREFIX)
    own = {key.removeprefix(fvit.PREFIX): value for key, value in builder.tensors.items()}
    tables = {f"{fvit.PREFIX}{key}": value for key, value in eva_clip.stored_tables(own).items()}
    kept = source.unused
    builder.add(
        {key: value for key, value in tables.items() if key not in kept}, eva_clip.ROTARY_REASON
    )
    if source.rest and not kept:
        builder.add(_unused_classifier(source.rest), f"zeros; {fvit.UNUSED_REASON}")
    builder.add(kept, "kept from the release's file")


def _unused_classifier(rest: Mapping[str, Tensor]) -> dict[str, Tensor]:
    embeddings = rest["roi_head.bbox_head.all_embeddings"]  # (D, K)
    weight, bias = fvit.UNUSED
    return {weight: torch.zeros_like(embeddings.T), bias: torch.zeros_like(embeddings[0])}


def _to_catseg(builder: _Builder, _: bool) -> None:
    builder.demand((VIT, EVA), "CAT-Seg")
    source = builder.source
    builder.put_renamed(catseg.RULES, source.clip, catseg.CLIP_PREFIX)
    builder.put(source.rest)


_TARGETS: dict[str, Callable[[_Builder, bool], None]] = {
    "open_clip": _to_open_clip,
    "eva_clip": _to_eva_clip,
    "huggingface": _to_huggingface,
    "fvit": _to_fvit,
    "catseg": _to_catseg,
}


def _write(converted: Converted, dst: Path, to: str) -> None:
    tensors, unused = converted.tensors, converted.unused
    said = converted.provenance.strings()
    if to == "huggingface":
        # What else lies in a folder that is there stays.
        with nullcontext(dst) if dst.exists() else replacing_folder(dst) as folder:
            for name, text in converted.files.items():
                write_atomically(folder / name, text)
            write_safetensors(folder / huggingface.WEIGHTS, tensors, said)
    elif dst.suffix == ".safetensors":
        tensors = tensors | {f"{PUBLISHED_ONLY}.{key}": value for key, value in unused.items()}
        if converted.quick_gelu is not None:
            said[QUICK_GELU] = json.dumps(converted.quick_gelu)
        write_safetensors(dst, tensors, said)
    else:
        inside = {"fvit": "state_dict", "catseg": "model"}.get(to)
        content: dict[str, Any] = {inside: tensors} if inside else {**tensors}
        if inside and said:  # a bare state dict has no place for it
            content[PROVENANCE] = said
        write_torch(dst, content | ({PUBLISHED_ONLY: unused} if unused else {}))
