"""The folder that a training writes to: one run's alone, with a pointer to its last checkpoint."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import shutil
import socket
from collections.abc import Collection
from pathlib import Path
from typing import TextIO

from fineclip.files import sweep_leftovers, write_atomically

POINTER = "last_checkpoint"
INTERRUPTED = "interrupted.pth"
"""Checkpoint of a step at which none was due."""

_LOCK = ".lock"
_NUMBERED = re.compile(r"(?:epoch|iter|model)_(?:\d+|final)\.pth")
# What trainings of mmengine and of detectron2 write beside checkpoints.
_LOGS = (
    *("[0-9]" * 8 + "_" + "[0-9]" * 6, "log.txt*", "metrics.json", "events.out.tfevents.*"),
    *("results.json", "inference", "run.json"),
)
_held: dict[Path, TextIO] = {}


class WorkDirError(ValueError):
    """A work dir that a training cannot begin or continue in."""


def claim(folder: str | Path, *, resume: bool = False, overwrite: bool = False) -> None:
    """Takes a folder for a training of this process, until the process ends, however it ends.

    What killed runs left half-written is removed.

    Args:
        folder: Made if it does not exist.
        resume: The training continues one in the folder.
        overwrite: It takes the place of one; :func:`clear` removes that, once all is well.

    Raises:
        WorkDirError: Another process trains there, or neither is true and the folder holds
            checkpoints.
        OSError: The folder cannot be made or written to.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    _lock(folder)
    sweep_leftovers(folder, all_of_them=True)
    if not (resume or overwrite) and (found := _checkpoints(folder)):
        raise WorkDirError(
            f"work dir {folder} holds a training already ({found[-1].name}): continue it with "
            "--resume, replace it with --overwrite, or name another folder"
        )


def clear(folder: str | Path, *, keep: Collection[str | Path] = ()) -> None:
    """Removes the training that a folder holds: pointer, checkpoints and logs.

    Args:
        folder: The folder.
        keep: What of it is this run's already, or needed by it.
    """
    kept = {Path(path).resolve() for path in keep if path}
    folder = Path(folder)
    # The pointer first: whatever is left without it, nobody takes it for the run's last state.
    (folder / POINTER).unlink(missing_ok=True)
    logs = [entry for pattern in _LOGS for entry in folder.glob(pattern)]
    for entry in (*_checkpoints(folder), *logs):
        if entry.resolve() in kept:
            continue
        if entry.is_dir():
            shutil.rmtree(entry)
        else:
            entry.unlink()


def last_checkpoint(folder: str | Path) -> Path | None:
    """The checkpoint that a training in a folder continues from.

    It is looked for in the folder itself, wherever that was when the pointer was written. Where a
    run was killed between its first checkpoint and the pointer, it is the newest checkpoint.

    Returns:
        The file; None where there is no checkpoint at all.

    Raises:
        WorkDirError: The pointer is empty, or names a file that does not exist.
        OSError: The pointer cannot be read.
    """
    folder = Path(folder)
    pointer = folder / POINTER
    if not pointer.is_file():
        return max(_checkpoints(folder), key=lambda file: file.stat().st_mtime_ns, default=None)
    name = pointer.read_text(encoding="utf-8", errors="replace").strip()
    there = ", ".join(file.name for file in _checkpoints(folder)) or "none"
    hint = f"write the name of a checkpoint into it (there are: {there}), or give --resume a file"
    if not name:
        raise WorkDirError(f"{pointer} is empty, it should name the last checkpoint; {hint}")
    for file in (folder / Path(name).name, Path(name)):
        if file.is_file():
            return file
    raise WorkDirError(f"{pointer} names {name}, which does not exist; {hint}")


def point_to(file: Path) -> None:
    """Notes a complete file as the last checkpoint of its folder.

    Raises:
        OSError: The folder cannot be written to.
    """
    write_atomically(file.parent / POINTER, file.name)


def _checkpoints(folder: Path) -> list[Path]:
    """Checkpoints of trainings, the oldest first."""
    if not folder.is_dir():
        return []
    found = [
        file
        for file in folder.iterdir()
        if file.name == INTERRUPTED or _NUMBERED.fullmatch(file.name)
    ]
    return sorted(found, key=lambda file: (file.stat().st_mtime_ns, file.name))


def _lock(folder: Path) -> None:
    """The system releases the lock with the process; processes that it forks do not share it."""
    place = folder.resolve()
    if place in _held:
        return
    file = (folder / _LOCK).open("a+", encoding="utf-8")
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        file.seek(0)
        holder = file.read().strip()
        file.close()
        if error.errno in (errno.EACCES, errno.EAGAIN):
            raise WorkDirError(
                f"work dir {folder} is in use by another run{f' ({holder})' if holder else ''}: "
                "wait for its end, or name another folder"
            ) from None
        if error.errno not in (errno.ENOLCK, errno.ENOTSUP):  # file systems that lock nothing
            raise
        return
    file.truncate(0)
    file.write(f"process {os.getpid()} on {socket.gethostname()}")
    file.flush()
    _held[place] = file
