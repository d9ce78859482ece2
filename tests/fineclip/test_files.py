"""Reading JSON with clear errors, and folders that are whole or absent."""

import os
import resource
import socket
import subprocess
import sys
from contextlib import contextmanager

import pytest
import torch

from fineclip.checkpoints.write import write_safetensors, write_torch
from fineclip.files import (
    parse_json,
    read_json,
    replacing_folder,
    require_keys,
    sweep_leftovers,
    write_atomically,
)


def test_a_file_is_read(tmp_path):
    (tmp_path / "a.json").write_bytes('{"é": [1]}'.encode())
    assert read_json(tmp_path / "a.json", "captions") == {"é": [1]}


def test_errors_say_what_was_expected_and_what_came(tmp_path):
    file = tmp_path / "a.json"
    with pytest.raises(FileNotFoundError, match=r"^captions: .*a\.json does not exist$"):
        read_json(file, "captions")
    for content in (b"{", b"\xff\xfe\xfa"):
        file.write_bytes(content)
        with pytest.raises(ValueError, match=r"^captions: .*a\.json is not valid JSON: "):
            read_json(file, "captions")
    with pytest.raises(ValueError, match=r"^captions: .* cannot be read: Is a directory$"):
        read_json(tmp_path, "captions")
    with pytest.raises(ValueError, match=r"^shard: 1\.json is not valid JSON: "):
        parse_json("[1", "shard: 1.json")


def test_keys_are_required_of_objects():
    require_keys({"a": 1, "b": 2}, ["a"], "here")
    with pytest.raises(ValueError, match=r"^here: missing key 'b'$"):
        require_keys({"a": 1}, ["a", "b"], "here")
    with pytest.raises(ValueError, match=r"^here: expected a JSON object, got list$"):
        require_keys([], ["a"], "here")


def test_a_folder_appears_as_a_whole(tmp_path):
    target = tmp_path / "out"
    for text in ("old", "new"):
        with replacing_folder(target) as folder:
            assert folder.parent == tmp_path
            (folder / text).write_text(text)
        assert [file.name for file in target.iterdir()] == [text]
    with pytest.raises(ZeroDivisionError), replacing_folder(target) as folder:
        (folder / "half").write_text("")
        _ = 1 / 0
    assert [file.name for file in target.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [target]


def test_leftovers_of_killed_processes_are_swept(tmp_path):
    """By the next process that writes there, but not what another one writes just now."""
    write = (
        "import os; from fineclip.files import replacing\n"
        f"with replacing('{tmp_path}/a.json') as file:\n    file.touch(); os._exit(9)"
    )
    assert subprocess.run([sys.executable, "-c", write]).returncode == 9
    (dead,) = tmp_path.iterdir()
    mine = tmp_path / dead.name.replace("a.json", "b.json").replace(
        dead.name.rpartition("@")[2], f"{os.getpid()}.tmp"
    )
    elsewhere = tmp_path / dead.name.replace("@", "x@")
    mine.mkdir()
    elsewhere.touch()
    (tmp_path / ".hidden.tmp").touch()
    write_atomically(tmp_path / "c.json", "{}")
    there = {file.name for file in tmp_path.iterdir()}
    assert there == {"c.json", ".hidden.tmp", mine.name, elsewhere.name}, socket.gethostname()
    assert set(sweep_leftovers(tmp_path, all_of_them=True)) == {mine.name, elsewhere.name}
    assert {file.name for file in tmp_path.iterdir()} == {"c.json", ".hidden.tmp"}


@contextmanager
def full_disk(size):
    """No file of this process can grow beyond so many bytes."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    "write",
    [
        lambda path, size: write_atomically(path, "x" * size),
        lambda path, size: write_torch(path, {"a": torch.zeros(size // 4)}),
        lambda path, size: write_safetensors(path, {"a": torch.zeros(size // 4)}),
    ],
)
def test_a_full_disk_leaves_what_was_there(tmp_path, write):
    target = tmp_path / "out"
    write(target, 400)
    before = target.read_bytes()
    with full_disk(10_000), pytest.raises(OSError, match="too large"):
        write(target, 1_000_000)
    assert list(tmp_path.iterdir()) == [target] and target.read_bytes() == before
