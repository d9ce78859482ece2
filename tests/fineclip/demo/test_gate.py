"""What of the web reaches the page: asked with a made-up application behind the gate."""

import asyncio
import json

import pytest

from fineclip.demo.gate import MOST_BYTES, Gate

JOIN, UPLOAD = "/gradio_api/queue/join", "/gradio_api/upload"
LOCAL = ("127.0.0.1", "localhost")


def ask(method, path, body=b"", host="127.0.0.1:7860", length=None, hosts=LOCAL):
    """Status, headers, and what the application received as body."""
    received, sent = [], []
    halves = [body[: len(body) // 2], body[len(body) // 2 :]]

    async def app(scope, receive, send):
        more = True
        while more:
            message = await receive()
            received.append(message["body"])
            more = message["more_body"]
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def receive():
        return {"type": "http.request", "body": halves.pop(0), "more_body": bool(halves)}

    async def send(message):
        sent.append(message)

    headers = [(b"host", host.encode())]
    if length is not False:
        headers.append((b"content-length", str(len(body) if length is None else length).encode()))
    scope = {"type": "http", "method": method, "path": path, "headers": headers}
    asyncio.run(Gate(app, 5_000_000, hosts)(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), b"".join(received)


@pytest.mark.parametrize(
    "path",
    ["/", "/config", "/assets/a.js", "/gradio_api/file=/tmp/a.png", "/gradio_api/queue/data"],
)
def test_what_the_page_needs(path):
    status, headers, _ = ask("GET", path)
    assert status == 200
    assert b"default-src 'self'" in headers[b"content-security-policy"]


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/gradio_api/proxy=http://elsewhere/"),
        ("GET", "/gradio_api/file=http://elsewhere/"),
        ("GET", "/monitoring"),
        ("GET", "/dev/reload"),
        ("POST", "/gradio_api/vibe-edit"),
        ("POST", "/gradio_api/run/predict"),
        ("POST", "/gradio_api/call/answer"),
        ("POST", "/gradio_api/component_server"),
        ("POST", "/login"),
        ("POST", "/"),
        ("PUT", "/"),
    ],
)
def test_what_it_does_not_need_is_not_there(method, path):
    status, headers, _ = ask(method, path)
    assert status == 404
    assert b"content-security-policy" in headers


def test_a_request_is_passed_on_as_it_came():
    body = json.dumps({"data": [{"path": "/tmp/a.png"}, "zebra, http://name"]}).encode()
    assert ask("POST", JOIN, body)[::2] == (200, body)
    assert ask("POST", UPLOAD, b"a file")[::2] == (200, b"a file")


@pytest.mark.parametrize(
    "body",
    [
        json.dumps({"data": [{"path": "http://elsewhere/a.png"}]}).encode(),
        b'{"data": [[{"a": {"p\\u0061th": "https:\\/\\/elsewhere/a.png"}}]]}',
        b"[" * 100_000,
        b"no JSON",
    ],
)
def test_files_are_not_named_by_an_address(body):
    assert ask("POST", JOIN, body)[::2] == (400, b"")


def test_requests_are_small():
    assert ask("POST", JOIN, length=MOST_BYTES + 1)[0] == 413
    assert ask("POST", UPLOAD, length=MOST_BYTES + 1)[0] == 200
    assert ask("POST", UPLOAD, length=MOST_BYTES + 5_000_001)[0] == 413
    assert ask("POST", UPLOAD, length=False)[0] == 411
    assert ask("POST", UPLOAD, length="-1")[0] == 411


def test_a_name_from_elsewhere_that_leads_here():
    assert ask("GET", "/", host="elsewhere.example:7860")[0] == 400
    assert ask("GET", "/", host="elsewhere.example", hosts=())[0] == 200
    assert ask("GET", "/", host="[::1]:7860", hosts=("::1",))[0] == 200
