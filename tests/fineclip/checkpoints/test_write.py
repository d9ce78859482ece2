"""Files of tensors, as they lie on the disk."""

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from fineclip.checkpoints import CheckpointError, read_checkpoint
from fineclip.checkpoints.write import write_safetensors, write_torch


def test_the_same_content_gives_the_same_bytes(tmp_path):
    """Several times, for the library draws the order of the header's strings."""
    tensors = {"b": torch.ones(3), "a": torch.ones(2, dtype=torch.int64), "é": torch.ones(())}
    metadata = {key: key for key in "zyxwvuts"}
    for number in range(4):
        write_safetensors(tmp_path / f"{number}.safetensors", tensors, metadata)
    assert len({file.read_bytes() for file in tmp_path.iterdir()}) == 1
    file = tmp_path / "0.safetensors"
    with safe_open(file, "pt") as opened:
        assert opened.metadata() == {**metadata, "format": "pt"}
    for key, value in load_file(file).items():
        assert torch.equal(value, tensors[key])


def test_shared_memory_is_written_once_for_each_name(tmp_path):
    matrix = torch.arange(40_000.0).reshape(200, 200)
    tensors = {
        "tied": matrix,
        "again": matrix,
        "part": matrix[:3],
        "column": matrix[:, 1],
        "none": matrix[:0],
        "bits": matrix[0].bfloat16(),
    }
    for write, file in ((write_safetensors, "a.safetensors"), (write_torch, "a.pt")):
        write(tmp_path / file, tensors)
        for key, value in read_checkpoint(tmp_path / file).items():
            assert torch.equal(value, tensors[key])
            assert value.dtype == tensors[key].dtype
        assert (tmp_path / file).stat().st_size < 2 * matrix.nbytes + 16_000


def test_mapped_tensors_do_not_write_their_whole_file(tmp_path):
    save_file({str(n): torch.ones(10_000) for n in range(8)}, tmp_path / "many.safetensors")
    mapped = read_checkpoint(tmp_path / "many.safetensors", mmap=True)
    write_torch(tmp_path / "one.pt", {"0": mapped["0"]})
    assert (tmp_path / "one.pt").stat().st_size < 50_000


def test_types_without_a_name_are_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"do not hold torch\.complex128"):
        write_safetensors(tmp_path / "a.safetensors", {"a": torch.ones(2, dtype=torch.complex128)})
    assert list(tmp_path.iterdir()) == []
