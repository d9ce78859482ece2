"""Embeddings of words and pictures on disk: one entry each, so that one more costs one more."""

from __future__ import annotations

import hashlib
import json
import logging
import os
import sqlite3
import time
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

CACHE_VARIABLE = "FINECLIP_CACHE_DIR"
"""Environment variable that names the folder for caches."""

CACHE_FILE = "embeddings.sqlite"
MOST_BYTES = 512 * 1024**2
"""Size beyond which the entries that were used longest ago are forgotten, down to a half of it."""

_VERSION = 1  # of what keys are made of, and of rows
_PATIENCE = 10.0  # seconds that another process may write
_ASKED_AT_ONCE = 500  # keys in a query; SQLite takes a limited number
_DAY = 24 * 3600
_TABLE = """
CREATE TABLE IF NOT EXISTS embeddings (
    key BLOB PRIMARY KEY, row BLOB NOT NULL, checksum INTEGER NOT NULL, used INTEGER NOT NULL
)
"""

_logger = logging.getLogger(__name__)


class EmbeddingCache:
    """Rows of float32 by what they were made from, of one model with its weights.

    One SQLite file holds the rows of all models. Keys are hashes; a row has a checksum, and one
    that fails it is made again. What a call of :meth:`rows` makes is written in one transaction,
    so that processes that start together each make all of it, or find all of it. A file that is
    damaged, locked or on a full or read-only disk is a warning, and everything is made anew.

    Float arithmetic depends a little on how many texts are encoded together, so a row may differ
    in its last digits (about 1e-7) from what another batch would give. The cache keeps the first.

    Args:
        identity: What decides the values beside the content, such as the model's name and
            :func:`fineclip.models.class_embedding_files.weights_identity`.
        folder: Where the file is. None: ``class_embeddings`` in the folder that the environment
            variable :data:`CACHE_VARIABLE` names, by default ``fineclip`` in the user's cache
            folder (``$XDG_CACHE_HOME`` or ``~/.cache``).
        most_bytes: See :data:`MOST_BYTES`.
    """

    def __init__(
        self,
        identity: Sequence[str],
        folder: str | Path | None = None,
        *,
        most_bytes: int = MOST_BYTES,
    ) -> None:
        self.file = cache_folder(folder) / CACHE_FILE
        self._identity = [_VERSION, *identity]
        self._most_bytes = most_bytes

    def rows(self, contents: Sequence[Any], make: Callable[[list[int]], Tensor]) -> Tensor:
        """The rows of some contents, those that are not there made together.

        Args:
            contents: What each of n rows is made from, as plain values of JSON.
            make: Takes the places in ``contents`` of what is missing, m of them, each content
                once, and returns (m, D).

        Returns:
            (n, D) float32 on the CPU.
        """
        keys = [self._key(content) for content in contents]
        found = self._read(keys)
        missing: dict[bytes, int] = {}
        for place, key in enumerate(keys):
            if key not in found:
                missing.setdefault(key, place)
        if missing:
            made = make(list(missing.values())).float().cpu()
            new = dict(zip(missing, made.numpy(), strict=True))
            found |= new
            self._write(new)
        return torch.from_numpy(np.stack([found[key] for key in keys]))

    def _key(self, content: Any) -> bytes:
        text = json.dumps([*self._identity, content], separators=(",", ":"))
        return hashlib.sha256(text.encode()).digest()

    def _read(self, keys: Sequence[bytes]) -> dict[bytes, np.ndarray]:
        """What is there and whole."""
        found: dict[bytes, np.ndarray] = {}
        if not self.file.is_file():
            return found
        now = int(time.time())
        old: list[tuple[int, bytes]] = []
        with self._tolerating("not read"), self._connected() as connection:
            for start in range(0, len(keys), _ASKED_AT_ONCE):
                asked = keys[start : start + _ASKED_AT_ONCE]
                places = ",".join("?" * len(asked))
                query = f"SELECT key, row, checksum, used FROM embeddings WHERE key IN ({places})"
                for key, row, checksum, used in connection.execute(query, asked):
                    if len(row) % 4 or not row or zlib.crc32(row) != checksum:
                        _logger.warning("made again, as an entry of %s is damaged", self.file)
                        continue
                    found[key] = np.frombuffer(row, dtype="<f4").astype(np.float32)
                    if used < now - _DAY:
                        old.append((now, key))
            if old:  # once a day, so that reading seldom writes
                connection.executemany("UPDATE embeddings SET used = ? WHERE key = ?", old)
        return found

    def _write(self, rows: dict[bytes, np.ndarray]) -> None:
        now = int(time.time())
        entries = []
        for key, row in rows.items():
            content = row.astype("<f4").tobytes()
            entries.append((key, content, zlib.crc32(content), now))
        with self._tolerating("not cached"):
            self.file.parent.mkdir(parents=True, exist_ok=True)
            with self._connected() as connection:
                connection.execute(_TABLE)
                connection.executemany("REPLACE INTO embeddings VALUES (?, ?, ?, ?)", entries)
                self._forget_some(connection)

    def _forget_some(self, connection: sqlite3.Connection) -> None:
        if _used_bytes(connection) <= self._most_bytes:
            return
        (count,) = connection.execute("SELECT COUNT(*) FROM embeddings").fetchone()
        oldest = "SELECT key FROM embeddings ORDER BY used LIMIT ?"
        connection.execute(f"DELETE FROM embeddings WHERE key IN ({oldest})", (-(-count // 2),))

    @contextmanager
    def _connected(self) -> Iterator[sqlite3.Connection]:
        """A connection for one transaction, which is undone if the block raises."""
        with closing(sqlite3.connect(self.file, timeout=_PATIENCE)) as connection, connection:
            yield connection

    @contextmanager
    def _tolerating(self, what: str) -> Iterator[None]:
        """A cache that cannot be used is a warning; a damaged one is removed."""
        try:
            yield
        except (sqlite3.Error, OSError) as error:
            _logger.warning("class embeddings are %s (%s): %s", what, self.file, error)
            if not isinstance(error, sqlite3.OperationalError | OSError):  # neither locked nor full
                for leftover in (self.file, self.file.with_name(f"{CACHE_FILE}-journal")):
                    leftover.unlink(missing_ok=True)


def cache_folder(folder: str | Path | None = None) -> Path:
    """Where embeddings are cached; see :class:`EmbeddingCache`. It need not exist."""
    if folder is None:
        named = os.environ.get(CACHE_VARIABLE)
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        folder = (Path(named) if named else home / "fineclip") / "class_embeddings"
    return Path(folder).expanduser()


def _used_bytes(connection: sqlite3.Connection) -> int:
    size, pages, free = (
        connection.execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("page_size", "page_count", "freelist_count")
    )
    return size * (pages - free)
