"""The command: what it writes, its exit codes, and that bad input leaves nothing behind."""

import json

import pytest
import torch
from safetensors.torch import save_file

from fineclip.models import DenseCLIP, build_class_embeddings, read_class_embeddings
from fineclip.models.embedding_cache import CACHE_FILE

TOOL = "build_class_embeddings.py"
MODEL = "ViT-Ti-16"


@pytest.fixture(scope="module")
def clip():
    torch.manual_seed(0)
    return DenseCLIP.create(MODEL).eval()


@pytest.fixture(scope="module")
def weights(clip, tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "clip.safetensors"
    save_file(clip.clip.state_dict(), path)
    return path


def test_writes_names_and_embeddings(run_tool, clip, weights, tmp_path):
    (tmp_path / "v.json").write_text(json.dumps({"fire_hydrant": ["fire_hydrant"], "owl": None}))
    out, cache = tmp_path / "e.safetensors", tmp_path / "cache"
    options = ["--model", MODEL, "--pretrained", weights, "--background"]
    options += ["--templates", "a sketch of {article} {}", "the {}", "--cache-dir", cache]
    done = run_tool(TOOL, tmp_path / "v.json", out, *options)
    assert done.returncode == 0, done.stderr
    assert f"wrote {out}: 3 embeddings of width" in done.stdout
    result = read_class_embeddings(out)
    assert (result.names, result.background) == (("fire_hydrant", "owl"), "background")
    expected = build_class_embeddings(
        clip, ["fire_hydrant", "owl", "background"], ["a sketch of {article} {}", "the {}"]
    )
    assert torch.allclose(result.embeddings, expected, atol=1e-6)
    assert result.metadata["model"] == MODEL
    assert result.metadata["templates"] == "a sketch of {article} {} | the {}"
    assert [f.name for f in cache.iterdir()] == [CACHE_FILE]


@pytest.mark.parametrize(
    ("vocabulary", "out", "options", "message"),
    [
        ("cocoa", "e.safetensors", [], "unknown vocabulary 'cocoa'"),
        ("v.json", "e.npy", [], "must end in .safetensors"),
        ("v.json", "e.safetensors", ["--templates", "vidl"], "unknown templates 'vidl'"),
    ],
)
def test_bad_input(run_tool, weights, tmp_path, vocabulary, out, options, message):
    (tmp_path / "v.json").write_text('["owl"]')
    if vocabulary == "v.json":
        vocabulary = tmp_path / vocabulary
    arguments = ["--model", MODEL, "--pretrained", weights, "--no-cache", *options]
    done = run_tool(TOOL, vocabulary, tmp_path / out, *arguments)
    assert done.returncode == 2
    assert done.stderr.startswith("error: ")
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert [f.name for f in tmp_path.iterdir()] == ["v.json"]
