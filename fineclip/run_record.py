"""What ran in a work dir: command, toolkit, machine, time; one small JSON beside the weights."""

from __future__ import annotations

import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import fineclip
from fineclip.files import write_atomically

RECORD = "run.json"
"""Its name in a work dir."""

_FORMAT, _VERSION = "fineclip-run", 1
_ROOT = Path(__file__).parents[1]
_GIT_SECONDS = 10


class RunRecord:
    """The record of one training, kept up to date while it runs.

    What earlier calls recorded in the folder stays: a training that is continued has a part for
    each call.

    Args:
        folder: The work dir.
        config: Name of the configuration; None where it has none.
        device: What is computed on, in words.
        seed: Of the training; None: it was drawn and not kept.
    """

    def __init__(
        self, folder: str | Path, *, config: str | None, device: str, seed: int | None
    ) -> None:
        self._file = Path(folder) / RECORD
        self._earlier = read_record(folder)
        self._began = time.monotonic()
        self._part: dict[str, Any] = {
            "command": command_line(),
            "config": config,
            "toolkit": toolkit(),
            "machine": machine(device),
            "seed": seed,
            "started": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        }

    def write(self, step: int, *, finished: bool = False) -> None:
        """Notes how far the training is.

        Args:
            step: Steps that it has taken, those of earlier calls included.
            finished: It has taken its last one.

        Raises:
            OSError: The folder cannot be written to.
        """
        seconds = round(time.monotonic() - self._began, 1)
        self._part |= {"seconds": seconds, "step": step, "finished": finished}
        content = {"format": _FORMAT, "version": _VERSION, "parts": [*self._earlier, self._part]}
        write_atomically(self._file, json.dumps(content, indent=1) + "\n")


def read_record(folder: str | Path) -> list[dict[str, Any]]:
    """The parts of a training's record, the first call's first; none where there is no record."""
    try:
        content = json.loads((Path(folder) / RECORD).read_bytes())
    except (OSError, ValueError, RecursionError):
        return []
    if not isinstance(content, Mapping) or content.get("format") != _FORMAT:
        return []
    parts = content.get("parts")
    return [part for part in parts if isinstance(part, dict)] if isinstance(parts, list) else []


def command_line(words: Sequence[str] | None = None, module: str | None = None) -> str:
    """How this process was called, as one would type it.

    Args:
        words: The program and its arguments; None: this process's.
        module: The module that was run by ``python -m``; None: this process's, if one was.
    """
    if words is None:
        words = sys.argv
        spec = getattr(sys.modules.get("__main__"), "__spec__", None)
        module = spec.name if spec is not None else None
    program = ["-m", module] if module else [_near(word) for word in words[:1]]
    # Arguments stay as they were given, but for a job's, whose folder the toolkit has spelled out.
    rest = [_near(word) for word in words[1:]] if module else list(words[1:])
    return shlex.join(["python", *program, *rest])


def _near(word: str) -> str:
    """A path as it is called from the current folder or the toolkit's, if it lies below one."""
    for folder in (Path.cwd(), _ROOT):
        if Path(word).is_absolute() and Path(word).is_relative_to(folder):
            return str(Path(word).relative_to(folder))
    return word


def toolkit() -> dict[str, Any]:
    """Version and, in a clone, ``commit``, and whether files differ from it (``changed``)."""
    found: dict[str, Any] = {"version": fineclip.__version__, "commit": None, "changed": None}
    answer = _git("rev-parse", "--show-toplevel", "HEAD")
    if answer:
        top, commit = [*answer.splitlines(), ""][:2]
        if Path(top) == _ROOT:  # not of a repository that an environment lies in
            found |= {"commit": commit, "changed": bool(_git("diff", "--name-only", "HEAD"))}
    return found


def _git(*words: str) -> str:
    try:
        done = subprocess.run(
            ["git", "-C", str(_ROOT), *words],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def machine(device: str) -> dict[str, Any]:
    """What a training runs on; neither its name nor its user's."""
    try:
        torch = version("torch")
    except PackageNotFoundError:
        torch = None
    return {
        "device": device,
        "cores": len(os.sched_getaffinity(0)),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "torch": torch,
    }
