"""Captioners behind an OpenAI-compatible endpoint: vLLM, ``transformers serve`` and the like."""

from __future__ import annotations

import base64
import email.utils
import io
import json
import os
import random
import threading
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import httpx
from PIL import Image

from fineclip.annotation.captioners.huggingface import PROMPT
from fineclip.annotation.interfaces import CaptionFailure, RegionInfo
from fineclip.annotation.proposers.found import as_rgb
from fineclip.checks import integer_from, real

API_KEY_VARIABLE = "OPENAI_API_KEY"

_LARGEST_ANSWER = 1 << 20
"""Bytes; a caption's answer has about a thousand."""

_LONGEST_CAPTION = 2000
"""Characters of an answer that are kept."""

_FIRST_WAIT, _LONGEST_WAIT, _LONGEST_ASKED_WAIT = 0.5, 30.0, 300.0
"""Seconds between tries: the first, the longest of our own, the longest that a server may ask."""

_TRY_AGAIN = frozenset({408, 409, 425, 429})
"""Of 4xx; all 5xx are tried again as well."""

_HOPELESS = {401: "the API key is refused", 403: "access is refused", 404: "nothing is there"}
"""What no other crop will change."""


class _TryAgain(Exception):
    """An answer that may be another next time.

    Args:
        reason: See :class:`CaptionFailure`.
        seconds: What the server asks to wait.
    """

    def __init__(self, reason: str, seconds: float | None = None) -> None:
        super().__init__(reason)
        self.reason, self.seconds = reason, seconds


@dataclass(frozen=True)
class _Limits:
    """How patient a captioner is: seconds of a request, further tries, requests at once."""

    timeout: float
    retries: int
    concurrency: int

    def __post_init__(self) -> None:
        real(0, above=True).require(self.timeout, "timeout")
        integer_from(0).require(self.retries, "retries")
        integer_from(1).require(self.concurrency, "concurrency")


class EndpointCaptioner:
    """Asks a server about crops; see :class:`fineclip.annotation.interfaces.Captioner`.

    What goes wrong with a request (no answer in time, 5xx, 429, something else than an answer, half
    an answer) is tried again, after waits that double and vary, or as long as the server asks
    (``Retry-After``). A crop without an answer in the end is a :class:`CaptionFailure`.

    Args:
        argument: ``URL,MODEL``: where ``/chat/completions`` is added, and the model's name there.
        prompt: What is asked about each crop.
        max_tokens: Of an answer. One that is cut off there ends with its last whole sentence, if
            it has any.
        timeout: Seconds of one request.
        retries: Further tries of a request.
        concurrency: Requests at a time.
        max_side: Larger crops are shrunk to so many pixels.
        min_side: Smaller crops are enlarged: models refuse some that are narrower than a patch.
        quality: Of the JPEG files that are sent.
        api_key_variable: Environment variable that holds the key, if one is needed.

    Raises:
        ValueError: A malformed argument or option.
    """

    needs_crops = True

    def __init__(
        self,
        argument: str,
        *,
        prompt: str = PROMPT,
        max_tokens: int = 60,
        timeout: float = 60.0,
        retries: int = 5,
        concurrency: int = 16,
        max_side: int = 768,
        min_side: int = 32,
        quality: int = 90,
        api_key_variable: str = API_KEY_VARIABLE,
    ) -> None:
        url, _, model = argument.partition(",")
        self._url = _checked_url(url, model, argument)
        for name, value in (("max_tokens", max_tokens), ("min_side", min_side)):
            integer_from(1).require(value, name)
        integer_from(min_side).require(max_side, "max_side")
        integer_from(1, 100).require(quality, "quality")
        self._limits = _Limits(timeout, retries, concurrency)
        self._model, self._prompt, self._max_tokens = model.strip(), prompt, max_tokens
        self._sides, self._quality = (min_side, max_side), quality
        key = os.environ.get(api_key_variable, "").strip()
        self._headers = {"Authorization": f"Bearer {key}"} if key else {}
        if not key.isascii() or any(letter.isspace() for letter in key):
            raise ValueError(f"{api_key_variable}: expected a key without spaces, in ASCII")
        # Without a user's name and password, which a URL may have.
        where = self._url.copy_with(username=None, password=None, query=None, fragment=None)
        self.identity = f"openai:{where},{self._model} prompt {prompt!r} max_tokens {max_tokens}"

    def caption(
        self, crops: Sequence[Image.Image | None], regions: Sequence[RegionInfo]
    ) -> list[str | CaptionFailure]:
        """Describes some regions.

        Raises:
            ValueError: The server does not know us, or the model: the others would fail as well.
        """
        stop = threading.Event()
        with (
            httpx.Client(headers=self._headers, timeout=self._limits.timeout) as client,
            ThreadPoolExecutor(self._limits.concurrency) as pool,
        ):
            try:
                return list(
                    pool.map(lambda crop: self._describe(client, crop, stop), as_rgb(crops))
                )
            except BaseException:
                stop.set()  # nobody waits for another try
                pool.shutdown(wait=False, cancel_futures=True)
                raise

    def _describe(
        self, client: httpx.Client, crop: Image.Image, stop: threading.Event
    ) -> str | CaptionFailure:
        question = self._question(crop)
        reason = ""
        for attempt in range(self._limits.retries + 1):
            try:
                return self._answer(client, question)
            except _TryAgain as failure:
                reason = failure.reason
                if attempt == self._limits.retries or stop.wait(_pause(attempt, failure.seconds)):
                    break
        return CaptionFailure(reason)

    def _question(self, crop: Image.Image) -> bytes:
        """The body of a request."""
        jpeg = io.BytesIO()
        _resized(crop, *self._sides).save(jpeg, "JPEG", quality=self._quality)
        url = f"data:image/jpeg;base64,{base64.b64encode(jpeg.getvalue()).decode()}"
        content = [
            {"type": "image_url", "image_url": {"url": url}},
            {"type": "text", "text": self._prompt},
        ]
        body = {
            "model": self._model,
            "messages": [{"role": "user", "content": content}],
            "max_tokens": self._max_tokens,
            "temperature": 0,
        }
        return json.dumps(body).encode()

    def _answer(self, client: httpx.Client, question: bytes) -> str | CaptionFailure:
        """The text of one answer.

        Raises:
            _TryAgain: There is none this time.
            ValueError: There will never be one.
        """
        try:
            status, headers, content = self._sent(client, question)
        except httpx.TimeoutException:
            raise _TryAgain("endpoint timed out") from None
        except httpx.RemoteProtocolError:
            raise _TryAgain("endpoint broke off its answer") from None
        except httpx.ConnectError:
            raise _TryAgain("endpoint cannot be reached") from None
        except (httpx.TransportError, httpx.DecodingError):
            raise _TryAgain("endpoint's connection failed") from None
        if status in _HOPELESS:
            raise ValueError(
                f"captioner openai: {self.identity.split(' ')[0]}: {_HOPELESS[status]} ({status}); "
                "check the URL, the model's name and the key"
            )
        if status >= 500 or status in _TRY_AGAIN:
            raise _TryAgain(f"endpoint answered {status}", _asked_wait(headers))
        if status != 200:
            return CaptionFailure(f"endpoint answered {status}")
        return _text_of(content)

    def _sent(self, client: httpx.Client, question: bytes) -> tuple[int, httpx.Headers, bytes]:
        """Status, headers and content of one answer, within the time and size of one.

        The library's limit is of each part of an answer, of which there may be any number.
        """
        deadline = time.monotonic() + self._limits.timeout
        headers = {"Content-Type": "application/json"}
        url = self._url.copy_with(path=f"{self._url.path.rstrip('/')}/chat/completions")
        with client.stream("POST", url, content=question, headers=headers) as answer:
            content = bytearray()
            for part in answer.iter_bytes():
                content += part
                if len(content) > _LARGEST_ANSWER:
                    raise _TryAgain("endpoint's answer is no caption")
                if time.monotonic() > deadline:
                    raise _TryAgain("endpoint timed out")
            return answer.status_code, answer.headers, bytes(content)


def _checked_url(url: str, model: str, argument: str) -> httpx.URL:
    wanted = "expected openai:URL,MODEL such as openai:http://localhost:8000/v1,NAME"
    if not model.strip():
        raise ValueError(f"captioner openai: {wanted}, got no model's name")
    try:
        parsed = httpx.URL(url.strip())
    except httpx.InvalidURL:
        raise ValueError(f"captioner openai: {wanted}, got a malformed URL") from None
    if parsed.scheme not in ("http", "https") or not parsed.host:
        raise ValueError(f"captioner openai: {wanted}, got {parsed.copy_with(password=None)}")
    return parsed


def _resized(crop: Image.Image, shortest: int, longest: int) -> Image.Image:
    """Shrinks what is too long, then enlarges what is too narrow; the aspect ratio gives way."""
    factor = min(1.0, longest / max(crop.size))
    width, height = (max(shortest, round(side * factor)) for side in crop.size)
    return crop if (width, height) == crop.size else crop.resize((width, height))


def _text_of(content: bytes) -> str:
    """The caption in an answer.

    Raises:
        _TryAgain: It is something else.
    """
    try:
        choice: Any = json.loads(content)["choices"][0]
        text = choice["message"]["content"]
    except (ValueError, LookupError, TypeError, RecursionError):
        raise _TryAgain("endpoint's answer is no caption") from None
    if not isinstance(text, str):
        raise _TryAgain("endpoint's answer is no caption")
    text = " ".join(text[:_LONGEST_CAPTION].split())
    if not text:
        raise _TryAgain("endpoint's answer is empty")
    if choice.get("finish_reason") == "length":
        end = max(text.rfind(mark) for mark in ".!?")
        text = text[: end + 1] or text
    return text


def _pause(attempt: int, asked: float | None) -> float:
    """Seconds before the next try, never the same for many at once."""
    own = min(_FIRST_WAIT * 2**attempt, _LONGEST_WAIT) * random.uniform(0.5, 1.5)
    return own if asked is None else min(asked, _LONGEST_ASKED_WAIT) + own


def _asked_wait(headers: httpx.Headers) -> float | None:
    """Seconds of ``Retry-After``, which are a number or a date."""
    value = headers.get("Retry-After", "").strip()
    if value.isdecimal():
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
