"""Captions by an endpoint: what it is asked, what it may answer, and a real server."""

import base64
import io
import json
import logging
import socket
import threading
import time
from email.utils import formatdate
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import tiny_transformers as tiny
from PIL import Image

from fineclip.annotation.captioners import endpoint
from fineclip.annotation.interfaces import CaptionFailure, create_captioner


def answer(text, reason="stop"):
    return json.dumps({"choices": [{"message": {"content": text}, "finish_reason": reason}]})


class Server(ThreadingHTTPServer):
    """Gives the answers of a list, one after the other and the last again and again.

    An answer is a text, or (status, text), or a function that is given the handler.
    """

    daemon_threads = True

    def __init__(self):
        super().__init__(("127.0.0.1", 0), Handler)
        self.answers, self.asked, self.headers, self.lock = (
            [answer("a cat")],
            [],
            [],
            threading.Lock(),
        )

    def next_answer(self, handler, body):
        with self.lock:
            self.asked.append((handler.path, json.loads(body)))
            self.headers.append(handler.headers)
            return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


class Handler(BaseHTTPRequestHandler):
    def do_POST(self):
        body = self.rfile.read(int(self.headers["Content-Length"]))
        given = self.server.next_answer(self, body)
        if callable(given):
            given(self)
            return
        status, text, *headers = (200, given) if isinstance(given, str) else given
        self.send_response(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", len(text))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, *args):
        pass


def half(handler):
    """The connection ends within the answer."""
    handler.send_response(200)
    handler.send_header("Content-Length", 1000)
    handler.end_headers()
    handler.wfile.write(answer("a cat")[:20].encode())


def silence(handler):
    time.sleep(0.5)


def drip(handler):
    """A byte now and then, for ever."""
    handler.send_response(200)
    handler.end_headers()
    for _ in range(100):
        handler.wfile.write(b" ")
        time.sleep(0.05)


def flood(handler):
    """A megabyte after the other."""
    handler.send_response(200)
    handler.end_headers()
    for _ in range(50):
        handler.wfile.write(b" " * (1 << 20))


@pytest.fixture
def server():
    server = Server()
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield server
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(autouse=True)
def _short_waits(monkeypatch):
    monkeypatch.setattr(endpoint, "_FIRST_WAIT", 0.001)


def captioner(server, **options):
    options = {"timeout": 0.2, "retries": 2, **options}
    return create_captioner(f"openai:http://127.0.0.1:{server.server_port}/v1/,tiny", **options)


def crop(side=40):
    return Image.new("RGB", (side, 30), (200, 10, 10))


def test_what_is_asked_and_answered(server, monkeypatch, caplog):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret")
    caplog.set_level(logging.DEBUG)
    made = captioner(server, prompt="What is this?", max_tokens=7)
    server.answers = [answer("  a\n red   cat ")]
    assert made.caption([crop(2000), crop(3), Image.new("L", (1, 1))], []) == ["a red cat"] * 3
    assert made.caption([], []) == []
    sizes = set()
    for path, body in server.asked:
        assert path == "/v1/chat/completions"
        picture, text = body.pop("messages")[0]["content"]
        assert text == {"type": "text", "text": "What is this?"}
        kind, _, data = picture["image_url"]["url"].partition(",")
        assert kind == "data:image/jpeg;base64"
        sizes.add(Image.open(io.BytesIO(base64.b64decode(data))).size)
        assert body == {"model": "tiny", "max_tokens": 7, "temperature": 0}
    assert sizes == {(768, 32), (32, 32)}
    assert server.headers[0]["Authorization"] == "Bearer sk-secret"
    assert "sk-secret" not in caplog.text + made.identity + repr(vars(made)["identity"])


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ((500, "oh"), "endpoint answered 500"),
        ((429, "slow down"), "endpoint answered 429"),
        (silence, "endpoint timed out"),
        (drip, "endpoint timed out"),
        (half, "endpoint broke off its answer"),
        (flood, "endpoint's answer is no caption"),
        ("<html>", "endpoint's answer is no caption"),
        ("[" * 100_000, "endpoint's answer is no caption"),
        ('{"choices": []}', "endpoint's answer is no caption"),
        (answer(None), "endpoint's answer is no caption"),
        (answer(" "), "endpoint's answer is empty"),
    ],
)
def test_tried_again_then_counted(server, bad, reason):
    server.answers = [bad, bad, answer("a cat")]
    made = captioner(server)
    assert made.caption([crop()], []) == ["a cat"]
    assert len(server.asked) == 3
    server.answers = [bad]
    assert made.caption([crop()], []) == [CaptionFailure(reason)]
    assert len(server.asked) == 6


def test_some_fail_and_the_others_stay_in_order(server):
    def next_answer(handler, body):
        picture = json.loads(body)["messages"][0]["content"][0]["image_url"]["url"]
        data = base64.b64decode(picture.partition(",")[2])
        width = Image.open(io.BytesIO(data)).width
        return (500 if width == 42 else 200, answer(f"{width} wide"))

    server.next_answer = next_answer
    found = captioner(server, timeout=5).caption([crop(side) for side in range(40, 46)], [])
    assert found[2] == CaptionFailure("endpoint answered 500")
    wide = [f"{side} wide" for side in (40, 41, 43, 44, 45)]
    assert [text for text in found if isinstance(text, str)] == wide


def test_waits(monkeypatch):
    monkeypatch.setattr(endpoint, "_FIRST_WAIT", 1.0)
    waits = [endpoint._pause(attempt, None) for attempt in range(8)]
    assert all(0.5 * min(2**n, 30) <= wait <= 1.5 * min(2**n, 30) for n, wait in enumerate(waits))
    assert 7 < endpoint._pause(0, 7) < 9
    assert endpoint._pause(0, 1e9) < 302
    asked = {"Retry-After": "3"}
    assert endpoint._asked_wait(asked) == 3
    asked["Retry-After"] = formatdate(time.time() + 20, usegmt=True)
    assert 15 < endpoint._asked_wait(asked) <= 20
    for nothing in ("", "soon", "-1", "1e9", "²"):
        asked["Retry-After"] = nothing
        assert endpoint._asked_wait(asked) is None


def test_the_servers_wait_is_kept(server):
    server.answers = [(503, "wait", ("Retry-After", "1")), answer("a cat")]
    begin = time.monotonic()
    assert captioner(server).caption([crop()], []) == ["a cat"]
    assert time.monotonic() - begin >= 1


def test_not_tried_again(server):
    server.answers = [(400, "no such picture")]
    assert captioner(server).caption([crop()], []) == [CaptionFailure("endpoint answered 400")]
    assert len(server.asked) == 1
    server.answers = [(401, "who?")]
    with pytest.raises(ValueError, match="the API key is refused"):
        captioner(server).caption([crop()] * 3, [])


def test_long_answers(server):
    server.answers = [answer("A cat. It is on the", "length"), answer("a cat on", "length")]
    made = captioner(server, concurrency=1)
    assert made.caption([crop()] * 2, []) == ["A cat.", "a cat on"]
    server.answers = [answer("cat " * 10_000)]
    assert len(made.caption([crop()], [])[0]) < 2001


def test_nobody_is_there():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        made = create_captioner(f"openai:http://127.0.0.1:{port}/v1,tiny", retries=1, timeout=5)
        failure = CaptionFailure("endpoint cannot be reached")
        assert made.caption([crop()] * 2, []) == [failure] * 2


@pytest.mark.parametrize("spec", ["", "tiny", "http://host/v1", "file:///x,tiny", "http://,tiny"])
def test_a_url_and_a_model_are_needed(spec):
    with pytest.raises(ValueError, match="expected openai:URL,MODEL"):
        create_captioner(f"openai:{spec}")


def test_options_and_secrets():
    made = create_captioner("openai:https://me:secret@host/v1?key=secret,tiny")
    assert made.identity.startswith("openai:https://host/v1,tiny ")
    assert "secret" not in made.identity
    for name, value in (("timeout", 0), ("concurrency", 0), ("quality", 101), ("max_side", 5)):
        with pytest.raises(ValueError, match=name):
            create_captioner("openai:http://host/v1,tiny", **{name: value})


def test_transformers_serve(tmp_path, monkeypatch):
    """The server of transformers itself, with a tiny LLaVA; the command starts the same."""
    pytest.importorskip("openai")
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    from transformers.cli.serve import Serve

    folder = tiny.make(tiny.chat, tmp_path / "chat")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    serving = Serve(str(folder), device="cpu", host="127.0.0.1", port=port, non_blocking=True)
    try:
        while not serving.server.started:
            time.sleep(0.02)
        spec = f"openai:http://127.0.0.1:{port}/v1,{folder}"
        made = create_captioner(spec, max_tokens=5, timeout=30, quality=100)
        found = made.caption([crop(), crop(60)], [])
    finally:
        serving.kill_server()
    assert all(isinstance(text, str) and text for text in found), found
    assert all(set(text.split()) <= set(tiny.WORDS) for text in found)
