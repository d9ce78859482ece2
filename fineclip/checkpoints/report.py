"""What a conversion did, for people."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class Report:
    """Every tensor of a conversion, accounted for.

    Attributes:
        source: The file or folder read.
        source_format: Its format, in words.
        target: The file or folder written, or that would be.
        target_format: Its format, in words.
        matched: Keys that keep their name.
        renamed: (old keys, new key, what else was done to the values or "").
        dropped: (old key, reason).
        added: (new key, reason).
        notes: What was assumed or needs attention.
    """

    source: str
    source_format: str
    target: str = ""
    target_format: str = ""
    matched: list[str] = field(default_factory=list)
    renamed: list[tuple[tuple[str, ...], str, str]] = field(default_factory=list)
    dropped: list[tuple[str, str]] = field(default_factory=list)
    added: list[tuple[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        """A line for every kind of key; numbered blocks are one kind."""
        lines = [f"{self.source} ({self.source_format}) -> {self.target} ({self.target_format})"]
        lines.append(f"matched {len(self.matched)} keys that keep their name")
        lines += _section(
            f"renamed {len(self.renamed)} keys",
            (
                f"{' + '.join(_kind(old) for old in olds)} -> {_kind(new)}"
                f"{f' ({how})' if how else ''}"
                for olds, new, how in self.renamed
            ),
        )
        for verb, entries in (("dropped", self.dropped), ("added", self.added)):
            lines += _section(
                f"{verb} {len(entries)} keys", (f"{_kind(key)}: {why}" for key, why in entries)
            )
        return "\n".join([*lines, *(f"note: {note}" for note in self.notes)])


def _section(title: str, entries: Iterable[str]) -> list[str]:
    counts = Counter(entries)
    if not counts:
        return []
    body = [f"  {entry}{f'  x{n}' if n > 1 else ''}" for entry, n in counts.items()]
    return [title, *body]


def _kind(key: str) -> str:
    """The key with its block numbers taken out."""
    return re.sub(r"(blocks|layers|convs|rpn_conv)\.\d+\.", r"\1.{i}.", key)
