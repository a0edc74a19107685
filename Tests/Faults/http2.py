"""A bare HTTP/2 client: many calls on one connection, as fast as Python can, and broken frames."""

import socket
import struct

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RESET, SETTINGS, PING, GOAWAY, WINDOW = 0, 1, 3, 4, 6, 7, 8
END_STREAM, END_HEADERS, ACK = 1, 4, 1


def frame(kind, flags, stream, payload=b""):
    return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", stream) + payload


def literal(name, value):
    """A header that is not indexed."""
    return b"\0" + bytes([len(name)]) + name + bytes([len(value)]) + value


def head(path):
    return (b"\x83\x86" + literal(b":path", path) + literal(b":authority", b"x")
            + literal(b"content-type", b"application/grpc") + literal(b"te", b"trailers"))


def hello(window=0):
    """The start of a connection; `window` more bytes may come on it."""
    settings = struct.pack(">HI", 4, 1 << 20)  # initial window of a stream
    start = PREFACE + frame(SETTINGS, 0, 0, settings)
    return start + frame(WINDOW, 0, 0, struct.pack(">I", window)) if window else start


def request(stream, path, message):
    body = b"\0" + struct.pack(">I", len(message)) + message
    return frame(HEADERS, END_HEADERS, stream, head(path)) + frame(DATA, END_STREAM, stream, body)


class Connection:
    def __init__(self, endpoint):
        host, port = endpoint.rsplit(":", 1)
        self.socket = socket.create_connection((host, int(port)), timeout=20)
        self.socket.sendall(hello(1 << 30))
        self.stream, self.buffer = -1, b""

    def frames(self):
        while True:
            while len(self.buffer) >= 9:
                size = int.from_bytes(self.buffer[:3], "big")
                if len(self.buffer) < 9 + size:
                    break
                kind, flags = self.buffer[3], self.buffer[4]
                payload, self.buffer = self.buffer[9:9 + size], self.buffer[9 + size:]
                if kind == SETTINGS and not flags & ACK:
                    self.socket.sendall(frame(SETTINGS, ACK, 0))
                elif kind == PING and not flags & ACK:
                    self.socket.sendall(frame(PING, ACK, 0, payload))
                elif kind == GOAWAY:
                    raise OSError("told to go away")
                yield kind, flags
            got = self.socket.recv(1 << 18)
            if not got:
                raise OSError("closed")
            self.buffer += got

    def call_all(self, path, messages):
        """Sends all requests, at most a few hundred; returns once all are answered."""
        out = b""
        for message in messages:
            self.stream += 2
            out += request(self.stream, path, message)
        self.socket.sendall(out)
        left = len(messages)
        for kind, flags in self.frames():
            left -= kind == RESET or (kind in (HEADERS, DATA) and flags & END_STREAM)
            if left == 0:
                return

    def close(self):
        self.socket.close()
