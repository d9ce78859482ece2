"""What was found out about one annotation file."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from typing import Any, Literal
from weakref import WeakKeyDictionary

from mmengine.logging import MMLogger

Kind = Literal["refused", "mended", "dropped", "noted"]

KINDS: tuple[Kind, ...] = ("refused", "mended", "dropped", "noted")
EXAMPLES = 3


@dataclass
class Finding:
    """One reason, with how often it was met.

    Attributes:
        kind: ``"refused"``: the file cannot be used. ``"mended"``: it was put right.
            ``"dropped"``: entries are left out. ``"noted"``: nothing was done.
        reason: What it is, in a few words.
        count: How often.
        examples: The first places of it.
    """

    kind: Kind
    reason: str
    count: int = 0
    examples: list[str] = field(default_factory=list)

    def __str__(self) -> str:
        more = ", ..." if self.count > len(self.examples) > 0 else ""
        first = f": {', '.join(self.examples)}{more}" if self.examples else ""
        return f"{self.kind:<8}{self.count} x {self.reason}{first}"


class FileReport:
    """What a file holds, and what was mended, dropped, noted or refused in it.

    Args:
        file: What messages call the file.

    Attributes:
        counts: What there is of each thing, after mending ("images": 50).
    """

    def __init__(self, file: str) -> None:
        self.file = file
        self.counts: dict[str, int] = {}
        self._findings: dict[tuple[Kind, str], Finding] = {}

    def add(self, kind: Kind, reason: str, place: str = "", *, count: int = 1) -> None:
        """Counts something.

        Args:
            kind: See :class:`Finding`.
            reason: Likewise.
            place: Where it was met, kept for the first few.
            count: How often.
        """
        finding = self._findings.get((kind, reason))
        if finding is None:
            finding = self._findings[kind, reason] = Finding(kind, reason)
        finding.count += count
        if place and len(finding.examples) < EXAMPLES:
            finding.examples.append(place)

    @property
    def findings(self) -> list[Finding]:
        """All of them, the worst kind first."""
        return sorted(self._findings.values(), key=lambda finding: KINDS.index(finding.kind))

    @property
    def verdict(self) -> str:
        """``"refused"``, ``"mended"`` (or entries dropped) or ``"clean"``."""
        kinds = {finding.kind for finding in self.findings}
        if "refused" in kinds:
            return "refused"
        return "mended" if kinds & {"mended", "dropped"} else "clean"

    def count(self, kind: Kind, reason: str) -> int:
        """How often something was met."""
        finding = self._findings.get((kind, reason))
        return 0 if finding is None else finding.count

    def raise_if_refused(self) -> None:
        """Stops when the file cannot be used.

        Raises:
            ValueError: It names the file, two places if there are two, and what was expected.
        """
        refused = [finding for finding in self.findings if finding.kind == "refused"]
        if not refused:
            return
        first = refused[0]
        text = first.examples[0] if first.examples else first.reason
        if len(first.examples) > 1:
            text += f" ({first.count} such; the next: {first.examples[1]})"
        if len(refused) > 1:
            text += f"; more is wrong ({', '.join(f.reason for f in refused[1:3])})"
        raise ValueError(f"{self.file}: {text}")

    def lines(self) -> list[str]:
        """The report for people: a headline, then a line for each finding."""
        counts = ", ".join(f"{count} {what}" for what, count in self.counts.items())
        head = f"{self.file}: {self.verdict.upper()}" + (f" ({counts})" if counts else "")
        lines = [head]
        for finding in self.findings:
            if finding.kind == "refused":  # its examples are sentences
                lines.append(f"  refused {finding.count} x {finding.reason}")
                lines += [f"            {example}" for example in finding.examples]
            elif finding.kind != "noted" or self.verdict != "refused":
                lines.append(f"  {finding}")
        return lines

    def as_json(self) -> dict[str, Any]:
        """The report for programs."""
        return {
            "file": self.file,
            "verdict": self.verdict,
            "counts": self.counts,
            "findings": [vars(finding) for finding in self.findings],
        }


_said: WeakKeyDictionary[logging.Logger, set[str]] = WeakKeyDictionary()


def announce(report: FileReport) -> None:
    """Logs each finding once per run: a file is read by the data set and by its metric."""
    logger = MMLogger.get_current_instance()
    said = _said.setdefault(logger, set())
    for finding in report.findings:
        line = f"{report.file}: {finding}"
        if line not in said:
            said.add(line)
            logger.log(logging.INFO if finding.kind == "noted" else logging.WARNING, line)
