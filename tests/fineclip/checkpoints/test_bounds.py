"""Files that would fill the memory: each is a few kilobytes, and stands for gigabytes."""

import pickle
import zipfile

import pytest
import torch

from fineclip.checkpoints import CheckpointError, read_checkpoint
from fineclip.checkpoints.bounds import ALLOWANCE, MAX_PACKED_PICKLE


def archive(path, entries, method=zipfile.ZIP_DEFLATED):
    with zipfile.ZipFile(path, "w", method) as file:
        for name, content in entries.items():
            file.writestr(name, content)
    return path


def zeros_in_torchscript(path):
    entries = {"m/constants.pkl": pickle.dumps(()), "m/data/0": bytes(2 * ALLOWANCE)}
    return archive(path, {**entries, "m/data.pkl": pickle.dumps({})})


def zeros_in_a_torch_file(path):
    return archive(path, {"m/data.pkl": pickle.dumps({}), "m/data/0": bytes(2 * ALLOWANCE)})


def a_packed_pickle(path):
    text = pickle.dumps([{}] * 10) + bytes(2 * MAX_PACKED_PICKLE)
    return archive(path, {"m/constants.pkl": pickle.dumps(()), "m/data.pkl": text})


def one_number_many_times(path):
    torch.save({"weight": torch.ones(1).expand(2 * ALLOWANCE)}, path)
    return path


def one_number_many_times_deep_inside(path):
    inner = [torch.ones(1).expand(2 * ALLOWANCE)]
    torch.save({"state_dict": {}, "other": {"a": inner, "b": inner}}, path)
    return path


def one_number_in_torchscript(path):
    class Holder(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.register_buffer("weight", torch.ones(1).expand(2 * ALLOWANCE))

        def forward(self, x):
            return x

    torch.jit.script(Holder()).save(str(path))
    return path


@pytest.mark.parametrize("mmap", [True, False])
@pytest.mark.parametrize(
    "make",
    [
        *(zeros_in_torchscript, zeros_in_a_torch_file, a_packed_pickle, one_number_many_times),
        *(one_number_many_times_deep_inside, one_number_in_torchscript),
    ],
)
def test_what_would_fill_the_memory_is_refused(tmp_path, make, mmap):
    path = make(tmp_path / "bomb.pt")
    assert path.stat().st_size < 200_000
    with pytest.raises(CheckpointError, match=r"bomb\.pt was refused: its .* bytes|is compressed"):
        read_checkpoint(path, mmap=mmap)


def test_an_archive_that_was_packed_again_is_read(tmp_path):
    torch.save({"weight": torch.arange(1000.0)}, tmp_path / "a.pt")
    with zipfile.ZipFile(tmp_path / "a.pt") as file:
        entries = {name: file.read(name) for name in file.namelist()}
    packed = archive(tmp_path / "packed.pt", entries)
    assert torch.equal(read_checkpoint(packed)["weight"], torch.arange(1000.0))


def test_shared_weights_are_counted_and_fit(tmp_path):
    weight = torch.ones(1000)
    torch.save({f"head.{i}": weight for i in range(10)}, tmp_path / "a.pt")
    assert len(read_checkpoint(tmp_path / "a.pt")) == 10
