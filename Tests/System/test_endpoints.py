"""The pages of the HTTP ports: health, probes, version, metrics, debug; their addresses and checks; readiness."""

import base64
import gzip
import hashlib
import http.client
import json
import os
import socket
import struct
import subprocess
import tempfile
import time

import pytest
from harness import PROGRAMS, Cluster, free_ports


def get(port, path, method="GET", headers=None, body=None, timeout=12):
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=timeout)
    try:
        connection.request(method, path, body, headers or {})
        answer = connection.getresponse()
        return answer.status, answer.read().decode(), answer.headers
    finally:
        connection.close()


@pytest.fixture(scope="module")
def single():
    """One member with all kinds of HTTP addresses, small quota, and profiles."""
    http_port, metrics_port = free_ports(2)
    flags = ["--listen-client-http-urls", f"http://127.0.0.1:{http_port}",
             "--listen-metrics-urls", f"http://127.0.0.1:{metrics_port}", "--enable-pprof",
             "--cors", "http://a.example:80", "--host-whitelist", "127.0.0.1,b.example"]
    with Cluster(("apus",), flags=flags) as cluster:
        cluster.http_port, cluster.metrics_port = http_port, metrics_port
        yield cluster


def test_health_and_probes(single):
    for port in (single.http_port, single.metrics_port):
        assert get(port, "/health")[:2] == (200, '{"health":"true","reason":""}')
        for path in ("/livez", "/readyz", "/livez/serializable_read", "/readyz/data_corruption",
                     "/readyz/serializable_read", "/readyz/linearizable_read", "/readyz/non_learner"):
            status, body, headers = get(port, path)
            assert (status, body) == (200, "ok\n"), path
            assert headers["X-Content-Type-Options"] == "nosniff"
        assert get(port, "/livez?verbose")[1] == "[+]serializable_read ok\nok\n"
        lines = get(port, "/readyz?verbose=1")[1].splitlines()
        assert sorted(lines[:-1]) == [f"[+]{name} ok" for name in (
            "data_corruption", "linearizable_read", "non_learner", "serializable_read")]
        assert get(port, "/readyz?verbose&exclude=linearizable_read&exclude=non_learner&exclude=x")[1] == (
            "[+]data_corruption ok\n[+]serializable_read ok\nok\n")
        assert get(port, "/livez/linearizable_read")[0] == 404
        assert get(port, "/readyz/")[0] == 404
        status, body, headers = get(port, "/readyz", "POST")
        assert (status, body, headers["Allow"]) == (405, "Method Not Allowed\n", "GET")
    assert "some health checks cannot be excluded" in single.members[0].log_text()


def test_alarms_show(single):
    ctl = single.ctl
    member = json.loads(ctl("endpoint", "status", "-w", "json").stdout)[0]["Status"]["header"]["member_id"]
    alarm = "/v3/maintenance/alarm"
    port = single.http_port
    for kind, ready in (("NOSPACE", 200), ("CORRUPT", 503)):
        request = json.dumps({"action": "ACTIVATE", "memberID": str(member), "alarm": kind})
        assert get(port, alarm, "POST", body=request)[0] == 200
        status, body, _ = get(port, "/health")
        assert (status, body) == (503, '{"health":"false","reason":"ALARM %s"}\n' % kind)
        assert get(port, f"/health?exclude={kind}")[0] == 200
        status, body, _ = get(port, "/readyz")
        assert status == ready
        if kind == "CORRUPT":
            assert "[-]data_corruption failed: alarm activated: CORRUPT\n" in body and body.endswith("\n\n")
            assert get(port, "/readyz?exclude=data_corruption")[0] == 200
            assert get(port, "/readyz/non_learner")[0] == 200
        assert get(port, "/livez")[0] == 200
        assert get(port, alarm, "POST", body=request.replace("ACTIVATE", "DEACTIVATE"))[0] == 200
    assert get(port, "/health")[0] == 200


def test_without_quorum():
    with Cluster() as cluster:
        survivor = cluster.members[0]
        for member in cluster.members[1:]:
            member.kill()
        deadline = time.monotonic() + 15
        while get(survivor.client_port, "/health")[1] != '{"health":"false","reason":"RAFT NO LEADER"}\n':
            assert time.monotonic() < deadline, get(survivor.client_port, "/health")
        assert get(survivor.client_port, "/health?serializable=true")[0] == 200
        assert get(survivor.client_port, "/livez")[0] == 200
        assert get(survivor.client_port, "/readyz?exclude=linearizable_read")[0] == 200
        status, body, _ = get(survivor.client_port, "/readyz")
        assert status == 503 and "[-]linearizable_read failed: " in body and "[+]serializable_read ok\n" in body
        # A linearizable call as JSON has the same fate as one over gRPC.
        status, body, _ = get(survivor.client_port, "/v3/kv/put", "POST", {"Grpc-Metadata-hasleader": "true"},
                              '{"key":"eA=="}')
        assert (status, json.loads(body)["message"]) == (503, "etcdserver: no leader")


def test_addresses(single):
    """What each address serves, and what it does not."""
    client = single.members[0].client_port
    assert single.ctl("put", "a", "b").returncode == 0
    with pytest.raises((http.client.HTTPException, OSError)):
        get(client, "/health")
    assert single.ctl("get", "a", endpoints=[f"127.0.0.1:{single.http_port}"], timeout=10).returncode != 0
    version = '{"etcdserver":"3.7.1","etcdcluster":"3.7.0","storage":"3.7.0"}'
    assert get(single.http_port, "/version")[:2] == (200, version)
    assert get(single.members[0].peer_port, "/version")[:2] == (200, version)
    for path in ("/version", "/debug/vars", "/v3/kv/range", "/debug/pprof/", "/"):
        assert get(single.metrics_port, path)[:2] == (404, "404 page not found\n"), path
    assert get(single.metrics_port, "/health", headers={"Host": "evil"})[2]["Access-Control-Allow-Origin"] is None


def test_metrics(single):
    for port in (single.http_port, single.metrics_port):
        status, body, headers = get(port, "/metrics")
        assert status == 200 and "\netcd_server_has_leader 1\n" in body
        assert headers["Content-Type"] == "text/plain; version=0.0.4; charset=utf-8"
    connection = http.client.HTTPConnection("127.0.0.1", single.http_port)
    connection.request("GET", "/metrics", headers={"Accept-Encoding": "deflate, gzip;q=0.5"})
    answer = connection.getresponse()
    assert answer.headers["Content-Encoding"] == "gzip"
    assert b"\netcd_server_has_leader 1\n" in gzip.decompress(answer.read())
    connection.close()


def test_debug_pages(single):
    port = single.http_port
    variables = json.loads(get(port, "/debug/vars")[1])
    assert variables["cmdline"][0].endswith("apus") and variables["raft.status"]["raftState"] == "StateLeader"
    assert get(port, "/debug/pprof")[0] == 301
    assert "threadcreate" in get(port, "/debug/pprof/")[1]
    assert get(port, "/debug/pprof/cmdline")[1].split("\0")[0].endswith("apus")
    assert "apus-store" in get(port, "/debug/pprof/threadcreate")[1]
    assert "VmRSS" in get(port, "/debug/pprof/heap")[1]
    assert get(port, "/debug/pprof/profile")[0] == 501
    assert get(port, "/debug/pprof/nothing")[:2] == (404, "Unknown profile\n")


def test_hosts_and_origins(single):
    port = single.http_port
    assert get(port, "/version", headers={"Host": "b.example:99"})[0] == 200
    status, body, headers = get(port, "/version", headers={"Host": "evil:99"})
    assert status == 421 and body.startswith("\netcd received your request, but the Host header was unrecognized.\n")
    assert '--host-whitelist "evil"' in body and "CVE-2018-5702" in body
    assert headers["Access-Control-Allow-Origin"] is None
    name = "Access-Control-Allow-Origin"
    assert get(port, "/version", headers={"Origin": "http://a.example:80"})[2][name] == "http://a.example:80"
    assert get(port, "/version", headers={"Origin": "http://c.example:80"})[2][name] is None
    assert get(port, "/v3/kv/range", "OPTIONS", {"Origin": "http://a.example:80"})[0] == 200


def test_without_gateway_and_profiles():
    with Cluster(("apus",), flags=["--enable-grpc-gateway=false"]) as cluster:
        port = cluster.members[0].client_port
        assert get(port, "/v3/kv/range", "POST", body="{}")[:2] == (404, "404 page not found\n")
        assert get(port, "/debug/pprof/")[0] == 404
        assert get(port, "/health")[0] == 200
        handshake = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
                     "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
        assert get(port, "/v3/watch", headers=handshake)[0] == 404


@pytest.mark.parametrize("abstract", [False, True])
def test_service_manager_is_told(abstract):
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        path = f"@apus-{os.getpid()}" if abstract else folder + "/notify"
        manager.bind("\0" + path[1:] if abstract else path)
        manager.settimeout(15)
        client, peer = free_ports(2)
        process = subprocess.Popen(
            [str(PROGRAMS["apus"]), "--data-dir", folder + "/data", "--listen-client-urls", f"http://127.0.0.1:{client}",
             "--advertise-client-urls", f"http://127.0.0.1:{client}", "--listen-peer-urls", f"http://127.0.0.1:{peer}",
             "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}",
             "--initial-cluster", f"default=http://127.0.0.1:{peer}"],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env={"NOTIFY_SOCKET": path})
        try:
            assert manager.recv(100) == b"READY=1"
            assert get(client, "/health")[0] == 200
        finally:
            process.kill()
            process.wait()


class WebSocket:
    """The client side of RFC 6455, as far as the tests need it."""

    def __init__(self, port, path, protocol=None):
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=8)
        key = base64.b64encode(os.urandom(16)).decode()
        extra = f"Sec-WebSocket-Protocol: {protocol}\r\n" if protocol else ""
        self.socket.sendall((f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                             f"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: {key}\r\n{extra}\r\n").encode())
        self.buffer = b""
        while b"\r\n\r\n" not in self.buffer:
            self.fill()
        self.head, self.buffer = self.buffer.split(b"\r\n\r\n", 1)
        assert self.head.startswith(b"HTTP/1.1 101 "), self.head
        accept = base64.b64encode(hashlib.sha1((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").encode()).digest())
        assert b"Sec-WebSocket-Accept: " + accept in self.head

    def fill(self):
        piece = self.socket.recv(65536)
        assert piece, "the connection has ended"
        self.buffer += piece

    def send(self, text, opcode=1):
        data = text.encode()
        assert len(data) < 126
        mask = os.urandom(4)
        self.socket.sendall(bytes([0x80 | opcode, 0x80 | len(data)]) + mask
                            + bytes(byte ^ mask[index % 4] for index, byte in enumerate(data)))

    def receive(self):
        while len(self.buffer) < 2:
            self.fill()
        opcode, count, at = self.buffer[0] & 15, self.buffer[1], 2
        if count == 126:
            while len(self.buffer) < 4:
                self.fill()
            count, at = struct.unpack(">H", self.buffer[2:4])[0], 4
        while len(self.buffer) < at + count:
            self.fill()
        data, self.buffer = self.buffer[at:at + count], self.buffer[at + count:]
        return opcode, data


def test_websocket(single):
    port = single.http_port
    watch = WebSocket(port, "/v3/watch", "Bearer, some-token")
    assert b"Sec-WebSocket-Protocol: Bearer" in watch.head
    watch.send('{"create_request":{"key":"d3M="}}')
    opcode, data = watch.receive()
    assert opcode == 1 and json.loads(data)["result"]["created"]
    watch.send("hello", opcode=9)
    assert watch.receive() == (10, b"hello")
    get(port, "/v3/kv/put", "POST", body='{"key":"d3M=","value":"MQ=="}')
    assert json.loads(watch.receive()[1])["result"]["events"][0]["kv"]["value"] == "MQ=="
    watch.send("", opcode=8)
    assert watch.receive()[0] == 8
    watch.socket.close()

    unary = WebSocket(port, "/v3/kv/range")
    unary.send('{"key":"d3M="}')
    assert json.loads(unary.receive()[1])["count"] == "1"
    assert unary.receive()[0] == 8
    faulty = WebSocket(port, "/v3/watch")
    faulty.socket.sendall(b"\x81\x01x")  # unmasked
    assert faulty.receive() == (8, b"\x03\xea")


def exchange(port, request, until, timeout=5):
    """Sends raw bytes and reads until the answer has so many of a text, or the connection ends."""
    text, count = until
    with socket.create_connection(("127.0.0.1", port), timeout=timeout) as connection:
        connection.sendall(request)
        received = b""
        while received.count(text) < count:
            piece = connection.recv(65536)
            if not piece:
                return received + b"(end)"
            received += piece
        return received


def test_manners_of_http1(single):
    port = single.http_port
    put = b"POST /v3/kv/put HTTP/1.%d\r\nHost: 127.0.0.1\r\n%sContent-Length: 14\r\n\r\n"
    body = b'{"key":"bWFu"}'
    # Kept open, closed when asked to, and closed for HTTP/1.0.
    assert exchange(port, (put % (1, b"") + body) * 3, (b'"header"', 3)).count(b"200 OK") == 3
    assert exchange(port, put % (1, b"Connection: close\r\n") + body, (b"never", 1)).endswith(b"}(end)")
    assert exchange(port, put % (0, b"") + body, (b"never", 1)).endswith(b"}(end)")
    # A stream for a client that knows no chunks lasts until the end of the connection.
    stream = exchange(port, b"POST /v3/maintenance/snapshot HTTP/1.0\r\nHost: 127.0.0.1\r\n\r\n", (b"never", 1))
    assert b"chunked" not in stream and stream.count(b'{"result":') > 1 and stream.endswith(b"}\n(end)")
    # A client that asks first is told to go on, and then answered.
    with socket.create_connection(("127.0.0.1", port), timeout=5) as connection:
        connection.sendall(put % (1, b"Expect: 100-continue\r\n"))
        assert connection.recv(1000) == b"HTTP/1.1 100 Continue\r\n\r\n"
        connection.sendall(body)
        assert connection.recv(1000).startswith(b"HTTP/1.1 200 OK\r\n")
    # A body that no page wants, and one in chunks, do not confuse what follows.
    chunks = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (b'{"ke', b'y":"bW', b'Fu"}')) + b"0\r\n\r\n"
    head = b"POST /v3/kv/range HTTP/1.1\r\nHost: 127.0.0.1\r\nTransfer-Encoding: chunked\r\n\r\n"
    page = b"GET /health HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 5\r\n\r\nhello"
    answers = exchange(port, page + head + chunks + page, (b"200 OK", 3))
    assert answers.count(b'"health"') == 2 and b'"count":"1"' in answers


def test_http2_without_grpc(single):
    """Pages and the gateway over HTTP/2."""
    port = single.http_port
    with tempfile.NamedTemporaryFile() as body:
        body.write(b'{"key":"aDI=","value":"MQ=="}')
        body.flush()
        done = subprocess.run(["nghttp", "-v", "-d", body.name, f"http://127.0.0.1:{port}/v3/kv/put"],
                              capture_output=True, text=True, timeout=10)
        assert ":status: 200" in done.stdout and '"revision"' in done.stdout, done.stdout + done.stderr
        done = subprocess.run(["nghttp", f"http://127.0.0.1:{port}/health"], capture_output=True, text=True, timeout=10)
        assert done.stdout == '{"health":"true","reason":""}'


def test_a_large_answer(single):
    """JSON that another thread writes: whole, in order, and nobody waits for it."""
    port = single.http_port
    for number in range(40):
        value = base64.b64encode(b"%d" % number * 20_000).decode()
        get(port, "/v3/kv/put", "POST", body=json.dumps({"key": base64.b64encode(b"big/%02d" % number).decode(),
                                                          "value": value}))
    request = {"key": base64.b64encode(b"big/").decode(), "range_end": base64.b64encode(b"big0").decode()}
    answer = json.loads(get(port, "/v3/kv/range", "POST", body=json.dumps(request))[1])
    assert [base64.b64decode(each["key"]) for each in answer["kvs"]] == [b"big/%02d" % n for n in range(40)]
    create = json.dumps({"create_request": {**request, "start_revision": answer["kvs"][0]["mod_revision"]}})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    connection.request("POST", "/v3/watch", create)
    stream = connection.getresponse()
    keys = []
    while len(keys) < 40:
        result = json.loads(stream.readline())["result"]
        keys += [base64.b64decode(event["kv"]["key"]) for event in result.get("events", [])]
    assert keys == [b"big/%02d" % n for n in range(40)]
    connection.close()
