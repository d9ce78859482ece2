"""What of the web reaches the page, and what the page may reach.

Gradio has addresses for much that this page is not: editing its code, proxies, plugins, recordings,
logs of runs. What is not listed here does not exist. Requests stay small, and no file in them may
be an address elsewhere, which Gradio would fetch. The browser is told to ask no other machine for
anything.
"""

from __future__ import annotations

import json
import re
from collections.abc import Awaitable, Callable, MutableMapping, Sequence
from typing import Any, TypeAlias

Message: TypeAlias = MutableMapping[str, Any]
Receive: TypeAlias = Callable[[], Awaitable[Message]]
Send: TypeAlias = Callable[[Message], Awaitable[None]]
App: TypeAlias = Callable[[Message, Receive, Send], Awaitable[None]]

_API = "/gradio_api/"
_UPLOAD, _JOIN = _API + "upload", _API + "queue/join"
_ADDRESSES = {
    "GET": re.compile(
        r"/|/(config|theme\.css|favicon\.ico|manifest\.json|robots\.txt)"
        r"|/(assets|static)/.*"
        rf"|{_API}(info|app_id|startup-events|upload_progress|queue/data|heartbeat/\w+|file=/.*)"
    ),
    "POST": re.compile(rf"{_UPLOAD}|{_JOIN}|{_API}(cancel|reset)"),
}
_ADDRESSES["HEAD"] = _ADDRESSES["GET"]

_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; img-src 'self' data: blob:; font-src 'self' data:; "
    "worker-src 'self' blob:; object-src 'none'; base-uri 'self'; form-action 'self'; "
    "frame-ancestors 'none'"
)
_HEADERS = (
    (b"content-security-policy", _POLICY.encode()),
    (b"x-content-type-options", b"nosniff"),
    (b"referrer-policy", b"no-referrer"),
)

MOST_BYTES = 1 << 20
"""Of a request that uploads nothing, and of what an upload has around its file."""


class Gate:
    """Stands before the page's application (ASGI).

    Args:
        app: The application.
        upload_bytes: Of a file.
        hosts: Names under which the page is asked for, without port; empty: any. A page elsewhere
            that leads its own name to this machine is refused that way.
    """

    def __init__(self, app: App, upload_bytes: int, hosts: Sequence[str] = ()) -> None:
        self._app = app
        self._upload_bytes = upload_bytes
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Passes a request on, or answers it with a refusal in one line."""
        if scope["type"] == "lifespan":
            await self._app(scope, receive, send)
            return
        if scope["type"] != "http":
            return
        refusal = self._refusal(scope)
        if refusal is None and scope["path"] == _JOIN:
            body = await _whole(receive)
            receive = _again(body, receive)
            if not _is_local(body):
                refusal = 400, "files are uploaded, not named by an address"
        if refusal is not None:
            await _refuse(send, *refusal)
            return

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                message["headers"] = [*message.get("headers", ()), *_HEADERS]
            await send(message)

        await self._app(scope, receive, send_with_headers)

    def _refusal(self, scope: Message) -> tuple[int, str] | None:
        """Status and reason, from the request's first lines."""
        headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        if self._hosts and re.sub(r":\d+$", "", host).strip("[]") not in self._hosts:
            return 400, f"this page is not {host}"
        known = _ADDRESSES.get(scope["method"])
        if known is None or not known.fullmatch(scope["path"]):
            return 404, "not found"
        if scope["method"] != "POST":
            return None
        length = headers.get(b"content-length", b"")
        most = MOST_BYTES + (self._upload_bytes if scope["path"] == _UPLOAD else 0)
        if not length.isdigit():
            return 411, "the request does not say how long it is"
        if int(length) > most:
            return 413, f"{int(length) / 1e6:.1f} MB, {most / 1e6:.0f} at most, please"
        return None


async def _whole(receive: Receive) -> bytes:
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    return body


def _again(body: bytes, receive: Receive) -> Receive:
    """Receives a body that was read, then what comes after it."""
    messages = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive_again() -> Message:
        return messages.pop() if messages else await receive()

    return receive_again


def _is_local(body: bytes) -> bool:
    """Whether a request in JSON names files of this machine alone."""
    try:
        todo = [json.loads(body)]
    except (ValueError, RecursionError):
        return False
    while todo:
        item = todo.pop()
        if isinstance(item, dict):
            if "://" in str(item.get("path", "")):
                return False
            todo.extend(item.values())
        elif isinstance(item, list):
            todo.extend(item)
    return True


async def _refuse(send: Send, status: int, reason: str) -> None:
    headers = [(b"content-type", b"text/plain; charset=utf-8"), *_HEADERS]
    await send({"type": "http.response.start", "status": status, "headers": headers})
    await send({"type": "http.response.body", "body": reason.encode()})
