"""Clients that mean no good, or do not know better: nobody else notices them, and they cost little."""

import contextlib
import os
import resource
import socket
import subprocess
import sys
import time

import grpc
import pytest
from harness import PROGRAMS, Cluster
from test_endpoints import get

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"


def resident(process):
    with open(f"/proc/{process.pid}/statm") as statm:
        return int(statm.read().split()[1]) * resource.getpagesize()


@contextlib.contextmanager
def connected(member, count=1):
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(socket.create_connection(("127.0.0.1", member.client_port), timeout=10))
               for _ in range(count)]


def ends(connection, seconds):
    """Whether the server closes the connection within that time."""
    connection.settimeout(seconds)
    try:
        while connection.recv(65536):
            pass
        return True
    except (TimeoutError, socket.timeout):
        return False
    except OSError:
        return True


@pytest.fixture(scope="module")
def single():
    with Cluster(("apus",)) as cluster:
        yield cluster


@pytest.fixture
def member(single):
    """The member, which has to be there and quick after whatever a test has done to it."""
    member = single.members[0]
    yield member
    assert member.process.poll() is None, member.log_text()[-2000:]
    started = time.monotonic()
    assert get(member.client_port, "/health")[0] == 200
    assert time.monotonic() - started < 2


@pytest.mark.parametrize("garbage", [
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(100), b"\x00" * 1000, b"GET\r\n\r\n", os.urandom(4096),
    b"PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", PREFACE + b"\xff" * 64, PREFACE + SETTINGS + b"\x00\x00\x01\x00\x00\x00\x00\x00\x01x",
    b"POST /v3/kv/put HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    b"POST /v3/kv/put HTTP/1.1\r\nHost: x\r\nContent-Length: -5\r\n\r\n",
    b"GET / HTTP/9.9\r\n\r\n", b"GET /health HTTP/1.1\r\n" + b"A: b\r\n" * 20000,
    b"GET /" + b"a" * 200_000 + b" HTTP/1.1\r\n\r\n"])
def test_garbage_ends_the_connection(member, garbage):
    with connected(member) as (connection,):
        with contextlib.suppress(OSError):
            connection.sendall(garbage)
        assert ends(connection, 5)


def test_pings_without_end(member):
    with connected(member) as (connection,):
        connection.sendall(PREFACE + SETTINGS)
        with contextlib.suppress(OSError):
            for _ in range(200):
                connection.sendall(b"\x00\x00\x08\x06\x00\x00\x00\x00\x00" + b"p" * 8)
        assert ends(connection, 5)


def test_resets_without_end(member):
    """Streams opened and reset at once: the session ends when the budget is used up."""
    headers = (b"\x83\x86\x44\x15/etcdserverpb.KV/Range".replace(b"\x15", bytes([22])) + b"\x41\x01x"
               + b"\x5f\x10application/grpc")
    with connected(member) as (connection,):
        connection.sendall(PREFACE + SETTINGS)
        with contextlib.suppress(OSError):
            for first in range(1, 60_001, 1000):
                connection.sendall(b"".join(
                    len(headers).to_bytes(3, "big") + b"\x01\x04" + stream.to_bytes(4, "big") + headers
                    + b"\x00\x00\x04\x03\x00" + stream.to_bytes(4, "big") + b"\x00\x00\x00\x08"
                    for stream in range(first, first + 1000, 2)))
        assert ends(connection, 5)


def test_a_large_body_is_refused(member):
    """Neither a JSON value nor a body that nobody reads takes memory without bound."""
    before = resident(member.process)
    for path in ("/v3/kv/put", "/health", "/v3/nothing"):
        with connected(member) as (connection,):
            head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000000\r\n\r\n".encode()
            with contextlib.suppress(OSError):
                connection.sendall(head + b'{"key":"')
                for _ in range(100):
                    connection.sendall(b"a" * 1_000_000)
            assert ends(connection, 5), path
    assert resident(member.process) - before < 64 << 20


def test_many_requests_at_once_on_a_connection(member):
    with connected(member) as (connection,):
        connection.sendall(b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n" * 500)
        received = b""
        connection.settimeout(10)
        while received.count(b"HTTP/1.1 200 OK") < 500:
            received += connection.recv(65536)


def puts(api, member, key):
    """Writes 60 MB; returns by how much the member has grown."""
    before = resident(member.process)
    with grpc.insecure_channel(member.endpoint) as channel:
        kv = api.grpc.KVStub(channel)
        for _ in range(300):
            kv.Put(api.rpc.PutRequest(key=key, value=b"v" * 200_000), timeout=5)
    return resident(member.process) - before


def test_a_watcher_that_does_not_read(single, api, member):
    """A JSON watch whose client does not read holds up neither memory nor others."""
    puts(api, member, b"warm")
    unwatched = puts(api, member, b"slow")
    with connected(member) as (connection,):
        body = b'{"create_request":{"key":"c2xvdw=="}}'
        connection.sendall(b"POST /v3/watch HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))
        time.sleep(0.3)
        watched = puts(api, member, b"slow")
        assert watched < unwatched + (32 << 20), f"{watched >> 20} MiB against {unwatched >> 20}"
        # Everything is there once it reads. A window that was closed by full buffers opens only by crumbs otherwise.
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        connection.settimeout(15)
        seen, tail = 0, b""
        while seen < 300:
            piece = connection.recv(1 << 20)
            assert piece
            tail += piece
            seen += tail.count(b'"kv":{')
            tail = tail[-5:]


def test_no_room(tmp_path, monkeypatch):
    """When descriptors run short, connections without requests make room; the others stay."""
    limited = tmp_path / "apus"
    limited.write_text(f'#!/bin/sh\nulimit -n 350\nexec {PROGRAMS["apus"]} "$@"\n')
    limited.chmod(0o755)
    monkeypatch.setitem(PROGRAMS, "apus", limited)
    cluster = Cluster(("apus",))
    with contextlib.ExitStack() as stack:
        stack.enter_context(cluster)
        member = cluster.members[0]
        held = []
        for _ in range(190):
            held.append(stack.enter_context(socket.create_connection(("127.0.0.1", member.client_port), timeout=5)))
        time.sleep(5.5)
        for _ in range(60):
            held.append(stack.enter_context(socket.create_connection(("127.0.0.1", member.client_port), timeout=5)))
            time.sleep(0.02)
        deadline = time.monotonic() + 5
        while True:
            with contextlib.suppress(OSError):
                if get(member.client_port, "/health")[0] == 200:
                    break
            assert time.monotonic() < deadline
        assert "too many client connections" in member.log_text()


IDLE = """
import resource, socket, sys, time
port, count = int(sys.argv[1]), int(sys.argv[2])
preface = bytes.fromhex(sys.argv[3])
held = []
for index in range(count):
    each = socket.create_connection(("127.0.0.%d" % (1 + index // 20000), port))
    each.sendall(preface)
    held.append(each)
print("held", flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif("APUS_IDLE" not in os.environ, reason="a measurement: APUS_IDLE=10000 runs it")
@pytest.mark.parametrize("kind", ["silent", "http1", "http2"])
def test_idle_connections(kind):
    """Memory of connections that say nothing, or have said what they had to. Figures: docs/security.md."""
    count = int(os.environ["APUS_IDLE"])
    first = {"silent": b"", "http1": b"GET /version HTTP/1.1\r\nHost: x\r\n\r\n", "http2": PREFACE + SETTINGS}[kind]
    with Cluster(("apus",)) as cluster:
        member = cluster.members[0]
        before = resident(member.process)
        client = subprocess.Popen([sys.executable, "-c", IDLE, str(member.client_port), str(count), first.hex()],
                                  stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        try:
            assert client.stdout.readline() == "held\n"
            time.sleep(2)
            started = time.monotonic()
            assert get(member.client_port, "/health")[0] == 200
            took = time.monotonic() - started
            each = (resident(member.process) - before) / count
            print(f"\n{count} {kind} connections: {each / 1024:.1f} KiB each, /health in {took * 1000:.1f} ms")
            assert each < 100 << 10
        finally:
            client.kill()
            client.wait()
        time.sleep(2)
        print(f"after they are gone: {(resident(member.process) - before) / 1024 / 1024:.1f} MiB more than before")
