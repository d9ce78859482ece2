"""The cache of embeddings on disk: what is made once, what is made again, and what is forgotten."""

import logging
import sqlite3
from concurrent.futures import ThreadPoolExecutor

import pytest
import torch

from fineclip.models.embedding_cache import CACHE_FILE, CACHE_VARIABLE, EmbeddingCache, cache_folder


class Numbers:
    """Makes the row (n, n + 1/3, ...) of a number n, and remembers what was asked."""

    def __init__(self, contents, width=3):
        self.contents, self.width, self.asked = contents, width, []

    def __call__(self, places):
        self.asked.append([self.contents[place] for place in places])
        rows = torch.tensor(self.asked[-1], dtype=torch.float32)[:, None]
        return rows + torch.linspace(0, 1, self.width)


def rows(cache, contents, width=3):
    make = Numbers(contents, width)
    found = cache.rows(contents, make)
    assert torch.equal(found, Numbers(contents, width)(range(len(contents))))
    return make.asked


def test_what_is_missing_is_made_together_and_once(tmp_path):
    cache = EmbeddingCache(["m", "w"], tmp_path)
    assert rows(cache, [1, 2, 1]) == [[1, 2]]
    assert rows(cache, [3, 2, 1]) == [[3]]
    assert rows(EmbeddingCache(["m", "w"], tmp_path), [1, 3]) == []
    assert rows(EmbeddingCache(["m", "other"], tmp_path), [1]) == [[1]]
    many = list(range(1200))  # more than a query takes
    assert rows(cache, many) == [[n for n in many if n not in (1, 2, 3)]]
    assert rows(cache, many) == []
    assert [file.name for file in tmp_path.iterdir()] == [CACHE_FILE]


def test_an_interrupted_making_leaves_nothing(tmp_path):
    cache = EmbeddingCache(["m"], tmp_path)

    def interrupted(places):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cache.rows([1, 2], interrupted)
    assert rows(cache, [1, 2]) == [[1, 2]]


@pytest.mark.parametrize(
    "damage", ["UPDATE embeddings SET checksum = 1", "UPDATE embeddings SET row = x'00'"]
)
def test_a_damaged_entry_is_made_again(tmp_path, caplog, damage):
    cache = EmbeddingCache(["m"], tmp_path)
    rows(cache, [1])
    with sqlite3.connect(cache.file) as connection:
        connection.execute(damage)
    with caplog.at_level(logging.WARNING):
        assert rows(cache, [1, 2]) == [[1, 2]]
    assert "damaged" in caplog.text
    assert rows(cache, [1, 2]) == []


@pytest.mark.parametrize("content", [b"no database, but long enough to be taken for one" * 99, b""])
def test_a_file_that_is_no_database_is_replaced(tmp_path, caplog, content):
    cache = EmbeddingCache(["m"], tmp_path)
    cache.file.write_bytes(content)
    assert rows(cache, [1]) == [[1]]
    assert str(cache.file) in caplog.text
    assert rows(cache, [1]) == []


def test_a_cache_that_cannot_be_used_is_only_a_warning(tmp_path, caplog, monkeypatch):
    (tmp_path / "file").touch()
    assert rows(EmbeddingCache(["m"], tmp_path / "file" / "x"), [1]) == [[1]]
    assert "not cached" in caplog.text
    cache = EmbeddingCache(["m"], tmp_path)
    rows(cache, [1])
    monkeypatch.setattr("fineclip.models.embedding_cache._PATIENCE", 0.01)
    with sqlite3.connect(cache.file) as other:
        other.execute("BEGIN EXCLUSIVE")  # another process that does not come to an end
        assert rows(cache, [1]) == [[1]]
    assert "locked" in caplog.text
    assert rows(cache, [1]) == []


def test_what_was_used_longest_ago_is_forgotten(tmp_path):
    cache = EmbeddingCache(["m"], tmp_path, most_bytes=256 * 1024)
    for start in range(0, 200, 20):  # 4 kB each
        rows(cache, list(range(start, start + 20)), width=1024)
        with sqlite3.connect(cache.file) as connection:  # a day passes
            connection.execute("UPDATE embeddings SET used = used - ?", (24 * 3600 + 1,))
        rows(cache, [0], width=1024)
    assert cache.file.stat().st_size < 512 * 1024
    assert rows(cache, [0], width=1024) == []
    assert rows(cache, [1], width=1024) == [[1]]


def test_where_it_is(monkeypatch, tmp_path):
    assert cache_folder("~/x").is_absolute()
    monkeypatch.delenv(CACHE_VARIABLE, raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "fineclip" / "class_embeddings"


def test_many_may_use_it_at_a_time(tmp_path):
    def use(start):
        cache = EmbeddingCache(["m"], tmp_path)
        for count in range(1, 6):
            rows(cache, list(range(start, start + 4 * count)))

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(use, (0, 5, 10, 0)))
    assert rows(EmbeddingCache(["m"], tmp_path), list(range(30))) == []
