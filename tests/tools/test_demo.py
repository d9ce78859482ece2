"""The page is started through the command line: what is wrong is one line."""

from importlib.util import find_spec

import pytest
import torch
from tool_runs import absent

from fineclip.demo.serving import listening_socket
from fineclip.models import DenseCLIP

MODEL = "ViT-Ti-8-scenes"

needs_gradio = pytest.mark.skipif(find_spec("gradio") is None, reason="needs gradio")


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "clip.pt"
    torch.save(DenseCLIP.create(MODEL).clip.state_dict(), file)
    return file


def refused(done):
    assert (done.returncode, done.stdout, done.stderr.count("\n")) == (2, "", 1), done.stderr
    return done.stderr


def test_gradio_is_missing(run_tool):
    with absent("gradio"):
        assert "needs Gradio, which is not installed: pip install" in refused(run_tool("demo.py"))


@needs_gradio
def test_a_port_that_is_taken(run_tool, weights):
    with listening_socket("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        done = run_tool("demo.py", "--model", MODEL, "--pretrained", weights, "--port", port)
    assert f"--port {port} is taken" in refused(done)


@needs_gradio
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--weights", "no/such.pt"], "--weights: checkpoint no/such.pt does not exist"),
        (["--detector", "no/such.pt"], "--detector: checkpoint no/such.pt does not exist"),
        (["--segmenter", "no/such.pt"], "--segmenter: checkpoint no/such.pt does not exist"),
        (["--model", "ViT-Ti-8-scene"], "--model: unknown model"),
        (["--port", "0"], "--model: name the open_clip model of the weights"),
        (["--port", "-1"], "expected an integer from 0 on"),
    ],
)
def test_mistakes(run_tool, weights, arguments, message):
    given = [] if "--weights" in arguments else ["--weights", weights]
    assert message in refused(run_tool("demo.py", *given, *arguments))


@needs_gradio
def test_without_the_quickstart(run_tool, monkeypatch, tmp_path):
    monkeypatch.setattr("fineclip.weights.quickstart_result", lambda path: tmp_path / path)
    assert "does not exist" in refused(run_tool("demo.py"))
