"""From plain to TLS on a running cluster, client and peer ports, as docs/operations.md says it, under writes."""

import socket
import threading
import time

import grpc

from certificates import Authority
from harness import Cluster, free_ports


class Writer:
    """Puts one key after the other, to whichever member answers, and remembers what was acknowledged."""

    def __init__(self, api, channels):
        self.api, self.channels = api, channels
        self.acknowledged, self.gap = {}, 0.0
        self.is_over = threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        number, last = 0, time.monotonic()
        while not self.is_over.is_set():
            number += 1
            key, value = b"load/%06d" % number, b"%d" % number
            while not self.is_over.is_set():
                channel = self.channels[number % len(self.channels)]
                try:
                    answer = self.api.grpc.KVStub(channel).Put(self.api.rpc.PutRequest(key=key, value=value), timeout=1)
                except (grpc.RpcError, ValueError):
                    number += 1
                    key, value = b"load/%06d" % number, b"%d" % number
                    continue
                now = time.monotonic()
                self.acknowledged[key] = (value, answer.header.revision)
                self.gap, last = max(self.gap, now - last), now
                break
            time.sleep(0.005)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        self.thread.join()

    def lost(self, channel):
        """What was acknowledged and is not there as it was written."""
        found = self.api.grpc.KVStub(channel).Range(
            self.api.rpc.RangeRequest(key=b"load/", range_end=b"load0"), timeout=10, wait_for_ready=True).kvs
        present = {kv.key: (kv.value, kv.mod_revision) for kv in found}
        return [key for key, wanted in self.acknowledged.items() if present.get(key) != wanted]


def restart_all(cluster):
    """One after the other, the leader last."""
    leader = cluster.leader()
    for member in [m for m in cluster.members if m is not leader] + [leader]:
        member.stop()
        member.start().wait_ready()


def is_open(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def test_plain_to_tls_without_an_outage(api, tmp_path):
    authority = Authority(tmp_path / "pki")
    authority.sign("server")
    authority.sign("alice")
    tls = [*authority.server_flags("server"), "--trusted-ca-file", authority.root, "--client-cert-auth",
           *authority.server_flags("server", prefix="peer-"), "--peer-trusted-ca-file", authority.root,
           "--peer-client-cert-auth"]
    read = lambda path: open(path, "rb").read()
    certificate, key = authority.pair("alice")
    credentials = grpc.ssl_channel_credentials(read(authority.root), read(key), read(certificate))
    with Cluster() as cluster, \
            Writer(api, [grpc.insecure_channel(member.endpoint) for member in cluster.members]) as writer:
        plain = [(member.client_port, member.peer_port) for member in cluster.members]
        ids = {name: f"{each['ID']:x}" for name, each in cluster.listed().items()}
        # 1. Listeners of both kinds.
        cluster.flags += tls
        for member in cluster.members:
            member.secure = free_ports(2)
            client, peer = member.secure
            member.flags = ["--listen-client-urls", f"{member.client_url},https://127.0.0.1:{client}",
                            "--advertise-client-urls", f"https://127.0.0.1:{client}",
                            "--listen-peer-urls", f"http://127.0.0.1:{member.peer_port},https://127.0.0.1:{peer}"]
        restart_all(cluster)
        # 2. Members reach each other by TLS.
        for member in cluster.members:
            deadline = time.monotonic() + 20
            while True:
                done = cluster.ctl("member", "update", ids[member.name], f"--peer-urls=https://127.0.0.1:{member.secure[1]}")
                if done.returncode == 0:
                    break
                # Members count as healthy once they have been connected for five seconds.
                assert "unhealthy cluster" in done.stderr and time.monotonic() < deadline, done.stderr
                time.sleep(0.3)
        # 3. Clients, too.
        before = list(writer.channels)
        writer.channels[:] = [grpc.secure_channel(f"127.0.0.1:{m.secure[0]}", credentials) for m in cluster.members]
        time.sleep(1.5)
        for channel in before:
            channel.close()
        written = len(writer.acknowledged)
        # 4. The plain listeners go.
        cluster.client_scheme, cluster.peer_scheme = "https", "https"
        cluster.ctl_flags = authority.ctl_flags("alice")
        for member in cluster.members:
            member.client_port, member.peer_port = member.secure
            member.flags = []
        for member, (client, peer) in zip(cluster.members, plain):
            assert is_open(client) and is_open(peer)
        restart_all(cluster)
        for client, peer in plain:
            assert not is_open(client) and not is_open(peer)
        for name, each in cluster.listed().items():
            member = next(m for m in cluster.members if m.name == name)
            assert each["peerURLs"] == [member.peer_url] and each["clientURLs"] == [member.client_url]
        time.sleep(0.5)
        writer.__exit__()
        assert [writer.lost(channel) for channel in writer.channels] == [[], [], []]
        assert len(writer.acknowledged) > written > 20
        print(f"\n{len(writer.acknowledged)} writes, longest time without one {writer.gap:.2f} s")
        assert writer.gap < 10
