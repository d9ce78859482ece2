"""Taking a port, serving, and ending with one line while somebody still reads."""

import signal
import socket
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

from fineclip.demo.serving import address_of, expected_hosts, listening_socket

ROOT = Path(__file__).parents[3]
PROGRAM = """
import asyncio
from fineclip.demo.serving import address_of, listening_socket, make_server
from fineclip.interrupts import run_command

async def endless(scope, receive, send):
    if scope["type"] == "http":
        await send({"type": "http.response.start", "status": 200, "headers": []})
        while True:
            await send({"type": "http.response.body", "body": b"more", "more_body": True})
            await asyncio.sleep(0.1)

def main():
    listening = listening_socket("127.0.0.1", 0)
    print(address_of(listening), flush=True)
    make_server(endless).run(sockets=[listening])

raise SystemExit(run_command(main))
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_ends_it_with_one_line(number):
    pytest.importorskip("uvicorn")
    started = subprocess.Popen(
        [sys.executable, "-c", PROGRAM],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        with urllib.request.urlopen(started.stdout.readline().strip()) as answer:
            assert answer.read(4) == b"more"
            started.send_signal(number)
            out, err = started.communicate(timeout=20)
    finally:
        started.kill()
    assert (started.returncode, out, err) == (128 + number, "", "interrupted\n")


def test_a_port_that_is_taken():
    with listening_socket("127.0.0.1", 0) as first:
        port = first.getsockname()[1]
        assert address_of(first) == f"http://127.0.0.1:{port}"
        with pytest.raises(ValueError, match=rf"--port {port} is taken on 127\.0\.0\.1; name"):
            listening_socket("127.0.0.1", port)
    listening_socket("127.0.0.1", port).close()


def test_hosts():
    with pytest.raises(ValueError, match=r"--host no such\.host: "):
        listening_socket("no such.host", 0)
    with pytest.raises(ValueError, match="--port 65536: ports end at 65535"):
        listening_socket("127.0.0.1", 65536)
    with listening_socket("0.0.0.0", 0) as everywhere:
        assert address_of(everywhere).startswith("http://127.0.0.1:")
    if socket.has_ipv6 and Path("/proc/net/if_inet6").exists():
        with listening_socket("::1", 0) as six:
            assert address_of(six).startswith("http://[::1]:")
    assert "localhost" in expected_hosts("127.0.0.1")
    assert expected_hosts("0.0.0.0") == ()
