"""From a file to its mended content."""

from __future__ import annotations

import codecs
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from fineclip.annotations.report import FileReport
from fineclip.files import read_json

Content = TypeVar("Content")
Audit = Callable[[Any, str], tuple[Content, FileReport]]


def audit_file(path: str | Path, what: str, audit: Audit[Content]) -> tuple[Content, FileReport]:
    """Reads a file and has its content checked.

    Args:
        path: JSON file.
        what: What it should be, for messages.
        audit: Checks and mends parsed JSON, given what messages call the file.

    Returns:
        The mended content, of no use if the report refuses it, and the report.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not JSON.
    """
    data = read_json(path, what)
    content, report = audit(data, str(path))
    with Path(path).open("rb") as file:
        if file.read(len(codecs.BOM_UTF8)) == codecs.BOM_UTF8:
            report.add("mended", "byte order mark at the start of the file, skipped")
    return content, report


def read_audited(path: str | Path, what: str, audit: Audit[Content]) -> tuple[Content, FileReport]:
    """As :func:`audit_file`, for content that is to be used.

    Raises:
        FileNotFoundError: There is no such file.
        ValueError: It is not JSON, or refused; the message names file and places.
    """
    content, report = audit_file(path, what, audit)
    report.raise_if_refused()
    return content, report
