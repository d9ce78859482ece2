"""Renaming rules between a dialect and open_clip's naming, applied in both directions."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from fineclip.checkpoints.safe import CheckpointError


@dataclass(frozen=True)
class Rule:
    """One open_clip key and what a dialect stores in its place.

    Attributes:
        ours: Key template in open_clip naming; ``{i}`` is an index, ``{*}`` any text.
        theirs: The dialect's templates with the same placeholders. Several: the tensor is their
            concatenation along the first dimension.
        transpose: The dialect stores the transposed matrix.
    """

    ours: str
    theirs: tuple[str, ...]
    transpose: bool = False

    @cached_property
    def our_pattern(self) -> re.Pattern[str]:
        """Matches our key."""
        return _pattern(self.ours)

    @cached_property
    def their_patterns(self) -> tuple[re.Pattern[str], ...]:
        """Match the dialect's keys."""
        return tuple(_pattern(template) for template in self.theirs)


@dataclass
class Renamed:
    """Tensors after renaming.

    Attributes:
        tensors: By new name.
        origins: New name -> the old names its values come from.
        parts: New name -> (index, number) where it is one of several slices of the old tensor.
        unmatched: Old names no rule covers.
        missing: Old names that would make up a tensor together with some that are there.
    """

    tensors: dict[str, Tensor]
    origins: dict[str, tuple[str, ...]]
    unmatched: list[str]
    parts: dict[str, tuple[int, int]] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)


def to_open_clip(rules: Iterable[Rule], tensors: Mapping[str, Tensor], path: str | Path) -> Renamed:
    """Renames a dialect's tensors.

    Args:
        rules: The dialect.
        tensors: By its names.
        path: The file, for messages.

    Raises:
        CheckpointError: Parts of a concatenated tensor differ in shape or dtype.
    """
    result = Renamed({}, {}, [])
    pieces: dict[str, tuple[Rule, re.Match[str], dict[int, str]]] = {}
    for key in tensors:
        for rule in rules:
            found = next(
                ((n, m) for n, p in enumerate(rule.their_patterns) if (m := p.fullmatch(key))), None
            )
            if found:
                position, match = found
                ours = _fill(rule.ours, match)
                pieces.setdefault(ours, (rule, match, {}))[2][position] = key
                break
        else:
            result.unmatched.append(key)
    for ours, (rule, match, parts) in pieces.items():
        names = tuple(parts[n] for n in sorted(parts))
        if len(names) != len(rule.theirs):
            whole = (_fill(template, match) for template in rule.theirs)
            result.missing += [key for key in whole if key not in names]
            continue
        values = [tensors[name] for name in names]
        if len({(value.shape, value.dtype) for value in values}) > 1:
            kinds = ", ".join(f"{n} {tuple(tensors[n].shape)} {tensors[n].dtype}" for n in names)
            raise CheckpointError(
                f"{path}: tensors that belong together differ in shape or type: {kinds}"
            )
        value = values[0] if len(values) == 1 else torch.cat(values)
        result.tensors[ours] = value.T if rule.transpose else value
        result.origins[ours] = names
    return result


def from_open_clip(rules: Iterable[Rule], tensors: Mapping[str, Tensor]) -> Renamed:
    """Renames open_clip's tensors to a dialect."""
    result = Renamed({}, {}, [])
    for key, tensor in tensors.items():
        for rule in rules:
            if match := rule.our_pattern.fullmatch(key):
                value = tensor.T if rule.transpose else tensor
                number = len(rule.theirs)
                slices = (value,) if number == 1 else value.chunk(number)
                for index, (template, part) in enumerate(zip(rule.theirs, slices, strict=True)):
                    theirs = _fill(template, match)
                    result.tensors[theirs] = part
                    result.origins[theirs] = (key,)
                    result.parts[theirs] = (index, number)
                break
        else:
            result.unmatched.append(key)
    return result


def their_names(rules: Iterable[Rule], key: str) -> tuple[str, ...]:
    """What a dialect calls one of open_clip's keys; the key itself where no rule covers it."""
    for rule in rules:
        if match := rule.our_pattern.fullmatch(key):
            return tuple(_fill(template, match) for template in rule.theirs)
    return (key,)


def same(*templates: str) -> list[Rule]:
    """Rules for keys that both sides name alike."""
    return [Rule(template, (template,)) for template in templates]


def _pattern(template: str) -> re.Pattern[str]:
    parts = re.split(r"(\{i\}|\{\*\})", template)
    groups = {"{i}": r"(\d+)", "{*}": r"(.+)"}
    return re.compile("".join(groups.get(part, re.escape(part)) for part in parts))


def _fill(template: str, match: re.Match[str]) -> str:
    values = iter(match.groups())
    return re.sub(r"\{i\}|\{\*\}", lambda _: next(values), template)
