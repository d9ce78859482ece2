"""The command: what it prints, its exit codes, and that bad input leaves nothing behind."""

import os
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file

from fineclip.models import DenseCLIP

TOOL = "convert_checkpoint.py"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    torch.manual_seed(0)
    path = tmp_path_factory.mktemp("source") / "clip.safetensors"
    save_file(DenseCLIP.create("EVA02-Ti-16").clip.state_dict(), path)
    return path


class RunsCode:
    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (str(self.path),)


def test_reports_and_writes(run_tool, source, tmp_path):
    dry = run_tool(
        "convert_checkpoint.py", source, tmp_path / "eva.pt", "--to", "eva_clip", "--dry-run"
    )
    assert dry.returncode == 0, dry.stderr
    assert "dry run: nothing written" in dry.stdout
    assert not list(tmp_path.iterdir())
    done = run_tool(TOOL, source, tmp_path / "eva.pt", "--to", "eva_clip")
    assert done.returncode == 0, done.stderr
    assert (
        "visual.trunk.blocks.{i}.mlp.fc1_g.weight -> visual.blocks.{i}.mlp.w1.weight  x3"
    ) in done.stdout
    assert "visual.rope.freqs_cos: rotary table" in done.stdout
    assert done.stdout.replace(f"wrote {tmp_path / 'eva.pt'}", "") == dry.stdout.replace(
        "dry run: nothing written", ""
    )
    back = run_tool(
        "convert_checkpoint.py",
        tmp_path / "eva.pt",
        tmp_path / "b.safetensors",
        "--to",
        "open_clip",
    )
    assert back.returncode == 0, back.stderr
    result, start = load_file(tmp_path / "b.safetensors"), load_file(source)
    assert result.keys() == start.keys()
    assert all(torch.equal(result[key], start[key]) for key in start)


def truncated(folder, source):
    (folder / "in.safetensors").write_bytes(source.read_bytes()[:100_000])
    return folder / "in.safetensors", "not a complete safetensors file"


def truncated_torch(folder, source):
    torch.save(load_file(source), folder / "whole.pt")
    (folder / "in.pt").write_bytes((folder / "whole.pt").read_bytes()[:100_000])
    return folder / "in.pt", "in.pt"


def runs_code(folder, source):
    state = {**load_file(source), "extra": RunsCode(folder / "ran")}
    torch.save(state, folder / "in.pt")
    return folder / "in.pt", "was refused"


def plain_pickle(folder, source):
    (folder / "in.pt").write_bytes(pickle.dumps(RunsCode(folder / "ran")))
    return folder / "in.pt", "was refused"


def wrong_architecture(folder, source):
    torch.save(torch.nn.Linear(2, 2).state_dict(), folder / "in.pt")
    return folder / "in.pt", "in no known format"


def empty(folder, source):
    (folder / "in.pt").touch()
    return folder / "in.pt", "is empty"


def directory(folder, source):
    (folder / "in").mkdir()
    return folder / "in", "without a readable config.json"


def text(folder, source):
    (folder / "in.pt").write_text("not a checkpoint\n")
    return folder / "in.pt", "in.pt"


def missing(folder, source):
    return folder / "none.pt", "does not exist"


@pytest.mark.parametrize(
    "make",
    [
        *(truncated, truncated_torch, runs_code, plain_pickle, wrong_architecture),
        *(empty, directory, text, missing),
    ],
)
def test_bad_input(run_tool, source, tmp_path, make):
    bad, message = make(tmp_path, source)
    out = tmp_path / "out"
    out.mkdir()
    done = run_tool(TOOL, bad, out / "clip.safetensors", "--to", "open_clip")
    assert done.returncode == 2
    lines = [line for line in done.stderr.splitlines() if line]
    assert len(lines) == 1, lines
    assert lines[0].startswith("error: ")
    assert message in lines[0]
    assert not list(out.iterdir())
    assert not (tmp_path / "ran").exists()


def test_bad_input_of_the_process(run_tool, tmp_path):
    (tmp_path / "in.pt").write_bytes(pickle.dumps(RunsCode(tmp_path / "ran")))
    result = run_tool(TOOL, tmp_path / "in.pt", tmp_path / "out.pt", "--to", "open_clip")
    assert result.returncode == 2
    assert result.stderr.startswith("error: ")
    assert [path.name for path in tmp_path.iterdir()] == ["in.pt"]


@pytest.mark.parametrize(
    ("dst", "options", "message"),
    [
        ("clip.onnx", ["--to", "open_clip"], "the suffix decides"),
        ("none/clip.pt", ["--to", "open_clip"], "does not exist"),
        ("clip.pt", ["--to", "huggingface"], "name a folder"),
        ("clip.pt", ["--to", "catseg", "--published"], "option of the target fvit"),
        ("clip.pt", ["--to", "onnx"], "invalid choice"),
        ("clip.pt", ["--to", "catseg", "--image-size", "7"], "no multiple of the patch"),
    ],
)
def test_bad_usage(run_tool, source, tmp_path, dst, options, message):
    done = run_tool(TOOL, source, tmp_path / dst, *options)
    assert done.returncode == 2
    assert message in done.stderr
    assert not list(tmp_path.iterdir())


def test_options_for_what_is_refused_otherwise(run_tool, source, tmp_path):
    state = load_file(source) | {"adapter.a": torch.ones(1), "adapter.b": torch.ones(1)}
    state["logit_scale"] = torch.tensor(torch.nan)
    save_file(state, tmp_path / "in.safetensors")
    command = [TOOL, tmp_path / "in.safetensors", tmp_path / "out.pt", "--to", "open_clip"]
    done = run_tool(*command)
    assert done.returncode == 2
    assert "2 unknown keys: adapter.a, adapter.b" in done.stderr
    done = run_tool(*command, "--ignore", "adapter.a", "--ignore", "*.b")
    assert done.returncode == 2
    assert "in 1 of" in done.stderr and "logit_scale" in done.stderr
    done = run_tool(*command, "--ignore", "adapter.*", "--allow-nonfinite")
    assert done.returncode == 0, done.stderr
    assert "note: NaN or infinite values in 1 tensors: logit_scale" in done.stdout
    assert "adapter.a: ignored as told, by adapter.*" in done.stdout
