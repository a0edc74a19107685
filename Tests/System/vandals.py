"""What scanners and broken programs send to a port: any port, any bytes, all day. Only the standard library,
since it runs in processes of its own."""

import contextlib
import os
import random
import socket
import ssl
import struct
import time

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
SETTINGS = b"\x00\x00\x00\x04\x00\x00\x00\x00\x00"
PATH = b"/etcdserverpb.KV/Range"
CALL = b"\x83\x86\x44" + bytes([len(PATH)]) + PATH + b"\x41\x01x\x5f\x10application/grpc"
# The beginning of a greeting; its end never comes.
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"
PROBES = [
    b"", b"\r\n\r\n", b"GET / HTTP/1.0\r\n\r\n", b"OPTIONS / RTSP/1.0\r\n\r\n", b"HELP\r\n", b"\x00\x1e\x00\x06\x01\x00\x00\x01",
    b"SSH-2.0-scan\r\n", b"*1\r\n$4\r\nPING\r\n", b"stats\r\n", b"\x03\x00\x00\x13\x0e\xe0\x00\x00\x00\x00\x00\x01\x00\x08\x00\x03",
    b"GET /../../etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n", b"POST /v3/kv/put HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n{",
    b"POST /v3/kv/range HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\n",
    b"GET /health HTTP/1.1\r\n" + b"A: b\r\n" * 3000, b"POST /v3/watch HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n{{{{",
    # The peer port: wrong versions, bodies that are no message (a field of a type that does not exist), halves.
    b"POST /raft HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\n\x07\xff\xff\xff",
    b"GET /raft/stream/msgapp/1 HTTP/1.1\r\nHost: x\r\nX-Server-Version: 9.9\r\n\r\n",
    b"GET /raft/stream/message/zzz HTTP/1.1\r\nHost: x\r\nX-Raft-To: 1\r\nX-Etcd-Cluster-ID: 1\r\n\r\n",
    b"POST /raft/snapshot HTTP/1.1\r\nHost: x\r\nContent-Length: 500000000\r\n\r\n" + b"\xff" * 4096,
    b"POST /members/promote/x HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
]
HELD_MAX = 200


def frame(kind, flags, stream, payload):
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + (stream & 0x7fffffff).to_bytes(4, "big") + payload


def broken_http2(chance):
    """A session that begins well; then frames of every type, wrong in one way or another."""
    out = PREFACE + SETTINGS
    stream = 1
    for _ in range(chance.randrange(1, 20)):
        what = chance.randrange(8)
        if what == 0:
            out += frame(chance.randrange(256), chance.randrange(256), chance.getrandbits(31), chance.randbytes(chance.randrange(64)))
        elif what == 1:
            out += frame(1, 4, stream, CALL) + frame(0, 1, stream, chance.randbytes(chance.randrange(40)))
            stream += 2
        elif what == 2:
            block = bytearray(CALL)
            for _ in range(3):
                block[chance.randrange(len(block))] = chance.randrange(256)
            out += frame(1, chance.choice((0, 1, 4, 5)), stream, bytes(block))
            stream += 2
        elif what == 3:
            out += frame(4, 0, 0, struct.pack(">HI", chance.randrange(9), chance.getrandbits(32)) * chance.randrange(1, 5))
        elif what == 4:
            out += frame(8, 0, chance.choice((0, stream)), struct.pack(">I", chance.choice((0, 1, 0x7fffffff, 0xffffffff))))
        elif what == 5:
            out += frame(3, 0, chance.randrange(1, stream + 2), b"\0\0\0\x08")
        elif what == 6:
            out += frame(6, 0, 0, chance.randbytes(chance.choice((8, 8, 7))))
        else:
            out += (1 << 24).to_bytes(4, "big")[1:] + b"\x00\x00" + chance.randbytes(4)
    return out[:chance.randrange(len(PREFACE), len(out) + 1)] if chance.random() < 0.3 else out


def connect(port):
    connection = socket.create_connection(("127.0.0.1", port), timeout=2)
    connection.settimeout(0.02)
    return connection


def hang_up(connection, chance):
    """With a reset, politely, or in the middle of what the other end says."""
    with contextlib.suppress(OSError):
        if chance.random() < 0.4:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        elif chance.random() < 0.5:
            connection.recv(4096)
    connection.close()


def secured(connection, chance):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols(chance.choice((["h2"], ["http/1.1"], ["spdy"])))
    connection.settimeout(2)
    return context.wrap_socket(connection)


def molest(port, is_tls, chance, held):
    connection = connect(port)
    what = chance.randrange(6)
    if what == 0:
        connection.sendall(chance.choice(PROBES))
    elif what == 1:
        connection.sendall(chance.randbytes(chance.choice((1, 9, 100, 5000))))
    elif what == 2:
        connection.sendall(broken_http2(chance))
    elif what == 3:
        # Stays, half open, until there are too many of them.
        connection.sendall(HELLO[:chance.randrange(1, len(HELLO) + 1)] + chance.randbytes(chance.randrange(200)))
        held.append(connection)
        if len(held) > HELD_MAX:
            hang_up(held.pop(chance.randrange(len(held))), chance)
        return
    elif is_tls:
        connection = secured(connection, chance)
        connection.settimeout(0.02)
        if what == 4:
            connection.sendall(broken_http2(chance))
        else:
            connection.sendall(chance.choice(PROBES))
    hang_up(connection, chance)


def run(ports, seed, until, counter):
    """Until that time (of `time.time`); `ports` are pairs of a port and whether it speaks TLS."""
    chance, held, count = random.Random(seed), [], 0
    os.nice(5)
    while time.time() < until:
        port, is_tls = chance.choice(ports)
        count += 1
        with contextlib.suppress(OSError):
            molest(port, is_tls, chance, held)
        counter.value = count
    for connection in held:
        connection.close()
