"""A name server on loopback that knows a few names, for processes that ask nobody else."""

import os
import pathlib
import socket
import struct
import subprocess
import threading

A, SRV = 1, 33
NO_SUCH_NAME, SERVER_FAILURE = 3, 2


def _name(name):
    labels = [label.encode() for label in name.rstrip(".").split(".")]
    return b"".join(bytes([len(label)]) + label for label in labels) + b"\0"


class NameServer:
    """Answers over UDP on port 53 of an address of its own. Use as a context manager.

    `addresses`: host names with their IPv4 addresses. `services`: full names of SRV records
    with lists of (host, port). `failing`: names that are answered with a failure of the server.
    """

    ADDRESS = "127.0.53.53"

    def __init__(self, folder, addresses=None, services=None, failing=()):
        self.addresses, self.services, self.failing = addresses or {}, services or {}, set(failing)
        self.asked = []
        self.configuration = pathlib.Path(folder) / "resolv.conf"
        self.configuration.write_text(f"nameserver {self.ADDRESS}\noptions timeout:1 attempts:1\n")

    def __enter__(self):
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind((self.ADDRESS, 53))
        self.socket.settimeout(0.05)
        self.is_running = True
        self.thread = threading.Thread(target=self._serve, daemon=True)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.is_running = False
        self.thread.join()
        self.socket.close()

    def _serve(self):
        while self.is_running:
            try:
                query, sender = self.socket.recvfrom(4096)
            except TimeoutError:
                continue
            self.socket.sendto(self._answer(query), sender)

    def _answer(self, query):
        position, labels = 12, []
        while query[position]:
            labels.append(query[position + 1:position + 1 + query[position]].decode().lower())
            position += query[position] + 1
        name, kind = ".".join(labels), struct.unpack_from(">H", query, position + 1)[0]
        self.asked.append((name, kind))
        records, code = [], 0
        if name in self.failing:
            code = SERVER_FAILURE
        elif name in self.addresses:
            if kind == A:
                records = [socket.inet_aton(self.addresses[name])]
        elif name in self.services:
            if kind == SRV:
                records = [struct.pack(">HHH", 0, 0, port) + _name(host) for host, port in self.services[name]]
        else:
            code = NO_SUCH_NAME
        head = query[:2] + struct.pack(">HHHHH", 0x8580 | code, 1, len(records), 0, 0)
        question = query[12:position + 5]
        answers = b"".join(b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 60, len(data)) + data for data in records)
        return head + question + answers

    def prefix(self):
        """What to put before a command so that it asks this server, in a mount namespace of its own."""
        return ["unshare", "-m", "sh", "-c", 'mount --bind "$0" /etc/resolv.conf && exec "$@"',
                str(self.configuration)]


def is_possible():
    """Whether this process may take port 53, and mount."""
    if os.geteuid() != 0:
        return False
    return subprocess.run(["unshare", "-m", "mount", "--bind", "/etc/hosts", "/etc/resolv.conf"],
                          capture_output=True).returncode == 0
