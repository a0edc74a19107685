"""No put is acknowledged before a quorum has synced it: a record of writes and syncs of real members says so."""

import pathlib
import subprocess
import threading
import time

import grpc
from harness import Cluster
from load import field

PUTS, CLIENTS = 300, 4


class RecordedCluster(Cluster):
    """Members whose log writes and syncs are recorded."""

    def start(self):
        shim = self.folder / "recorder.so"
        source = pathlib.Path(__file__).parent / "sync_recorder.c"
        subprocess.run(["cc", "-shared", "-fPIC", "-O2", "-o", shim, source, "-ldl"], check=True)
        for member in self.members:
            member.record = self.folder / f"{member.name}.record"
            member.environment = {"LD_PRELOAD": str(shim), "SYNC_RECORD": str(member.record)}
        return super().start()


def durable_at(record):
    """When each marker was durable on this member: the end of the first sync begun after it was written."""
    written, durable = {}, {}
    for line in record.read_text().splitlines():
        kind, file, *rest = line.split()
        if kind == "W":
            written.setdefault(file, []).append((int(rest[0]), rest[1]))
            continue
        begun, ended = map(int, rest)
        covered = [marker for at, marker in written.get(file, []) if at <= begun]
        written[file] = [(at, marker) for at, marker in written.get(file, []) if at > begun]
        for marker in covered:
            durable.setdefault(marker, ended)
    return durable


def wait_until_segments_are_ready(cluster):
    """A new segment is filled and synced bit by bit, without any entry asking for it."""
    sizes, deadline = None, time.monotonic() + 20
    while (now := [member.record.stat().st_size for member in cluster.members]) != sizes:
        assert time.monotonic() < deadline, "the logs are synced without end"
        sizes = now
        time.sleep(0.5)


def test_a_quorum_syncs_before_the_answer():
    acknowledged = {}
    with RecordedCluster() as cluster:
        endpoint = cluster.leader().endpoint

        def client(first):
            put = grpc.insecure_channel(endpoint).unary_unary("/etcdserverpb.KV/Put")
            for number in range(first, PUTS, CLIENTS):
                marker = f"mark-{number:06d}"
                put(field(1, b"sync-order") + field(2, marker.encode()), timeout=20)
                acknowledged[marker] = time.clock_gettime_ns(time.CLOCK_MONOTONIC)

        threads = [threading.Thread(target=client, args=(each,)) for each in range(CLIENTS)]
        for each in threads:
            each.start()
        for each in threads:
            each.join()
        members = [durable_at(member.record) for member in cluster.members]
    assert len(acknowledged) == PUTS
    for marker, answered in acknowledged.items():
        synced = sum(member.get(marker, answered + 1) <= answered for member in members)
        assert synced >= 2, f"{marker} was acknowledged with {synced} of 3 members synced"


def test_the_record_can_tell():
    """Without syncs no put is known to be durable: the test above would fail."""
    with RecordedCluster(flags=["--unsafe-no-fsync"]) as cluster:
        put = grpc.insecure_channel(cluster.leader().endpoint).unary_unary("/etcdserverpb.KV/Put")
        wait_until_segments_are_ready(cluster)
        put(field(1, b"sync-order") + field(2, b"mark-000000"), timeout=20)
        assert all("mark-000000" not in durable_at(member.record) for member in cluster.members)
