"""What a run has done so far: files beside its result, by which it is continued.

``OUT/.work`` holds the plan, what the first pass has found in each shard, and what became of each
shard in the second. A file appears as a whole, and after what it speaks of: whoever is killed,
whenever, has lost the shard at hand.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from fineclip.annotation.scan import ShardScan
from fineclip.checks import shown
from fineclip.datasets.shards import INDEX
from fineclip.files import read_json, sweep_leftovers, write_atomically

MANIFEST = "manifest.json"
COCO_FILES = ("proposals.json", "region_captions.json", "captions.json")

_FOLDER = ".work"


class WorkFolder:
    """The state of a run.

    Args:
        out: Folder of the result.
        shards: Number of input shards.
    """

    def __init__(self, out: Path, shards: int) -> None:
        self.out, self.shards = out, shards
        self._work = out / _FOLDER
        self.staged = self._work / "staged"

    def begin(self, plan: Mapping[str, Any], *, overwrite: bool = False) -> None:
        """Takes the folder for a run, or goes on with the same one.

        Args:
            plan: What the result depends on, plain values.
            overwrite: Begin anew whatever there is.

        Raises:
            FileExistsError: The folder holds something else.
            ValueError: It holds a run with another plan.
        """
        plan = json.loads(json.dumps(plan))
        file = self._work / "plan.json"
        if self.out.exists() and not self.out.is_dir():
            raise FileExistsError(f"{self.out} is a file; name a folder")
        if overwrite and (self._work.is_dir() or (self.out / MANIFEST).is_file()):
            self._clear()
        there = {entry.name for entry in self.out.iterdir()} if self.out.is_dir() else set()
        if not file.is_file() and (others := sorted(there - {_FOLDER})):
            raise FileExistsError(f"{self.out} exists and holds {others[0]}; name a new folder")
        for folder in ("scans", "shards", "staged"):
            (self._work / folder).mkdir(parents=True, exist_ok=True)
        if not file.is_file():
            write_atomically(file, json.dumps(plan))
        found = read_json(file, "plan")
        if found != plan:
            raise ValueError(
                f"{self.out} was begun otherwise ({_difference(found, plan)}); name a "
                "new folder, or begin anew with --overwrite"
            )

    def _clear(self) -> None:
        """Removes what a run writes; a kill on the way leaves a run that has yet to begin."""
        for name in ("shards", "staged", "scans"):
            shutil.rmtree(self._work / name, ignore_errors=True)
        files = [self.out / name for name in (MANIFEST, INDEX, *COCO_FILES)]
        for end in ("tar", "jsonl"):
            files += self.out.glob(f"[0-9]*.{end}")
        for file in files:
            file.unlink(missing_ok=True)
        shutil.rmtree(self._work)

    def scan_file(self, number: int) -> Path:
        """Where the first pass writes about a shard."""
        return self._work / "scans" / f"{number:06d}.npz"

    def scans(self) -> list[ShardScan] | None:
        """What the first pass has found; None while shards are missing."""
        files = [self.scan_file(number) for number in range(self.shards)]
        if not all(file.is_file() for file in files):
            return None
        return [ShardScan.load(file) for file in files]

    def target(self, number: int, *, staged: bool) -> Path:
        """Path of a shard to write, without suffix; staged: images may have to be taken out."""
        return (self.staged if staged else self.out) / f"{number:06d}"

    def record_file(self, number: int, *, staged: bool) -> Path:
        """Where it is written what became of a shard."""
        folder = self.staged if staged else self._work / "shards"
        return folder / f"{number:06d}.json"

    def record(self, number: int, *, staged: bool = False) -> dict[str, Any] | None:
        """What became of a shard; None: nothing yet, or its file is gone since."""
        file = self.record_file(number, staged=staged)
        if not file.is_file():
            return None
        record = read_json(file, "record of a shard")
        if (entry := record["entry"]) is not None:
            folder = self.target(number, staged=staged).parent
            for listed in (entry, entry["records"]):
                path = folder / listed["file"]
                if not path.is_file() or path.stat().st_size != listed["bytes"]:
                    return None
        return record

    def is_done(self, number: int) -> bool:
        """Whether a shard went through the second pass."""
        return any(self.record(number, staged=staged) is not None for staged in (False, True))

    @contextmanager
    def alone(self) -> Iterator[None]:
        """One process at a time."""
        with (self._work / "lock").open("w") as file:
            with suppress(OSError):  # of file systems that lock nothing
                fcntl.flock(file, fcntl.LOCK_EX)
            yield

    def sweep(self) -> None:
        """Removes what killed processes have left, when all is done."""
        for folder in (self.out, self._work / "scans", self._work / "shards"):
            sweep_leftovers(folder)
        for file in self.staged.iterdir():
            file.unlink()


def write_record(file: Path, record: Mapping[str, Any]) -> None:
    """Writes what became of a shard, which is done then."""
    write_atomically(file, json.dumps(record))


def checksum(file: Path) -> str:
    """SHA-256 of a file."""
    digest = hashlib.sha256()
    with file.open("rb") as content:
        while block := content.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _difference(found: Any, plan: Any, where: str = "") -> str:
    """The first entry in which two plans differ."""
    if isinstance(found, dict) and isinstance(plan, dict):
        for key in sorted({*found, *plan}):
            if found.get(key) != plan.get(key):
                return _difference(found.get(key), plan.get(key), f"{where}.{key}".lstrip("."))
    return f"{where} was {shown(found)}, is {shown(plan)} now"
