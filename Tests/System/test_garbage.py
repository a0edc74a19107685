"""Scanners at every port of every member, while clients work: nothing ends, nothing leaks, nobody waits.

A few seconds of it here; `APUS_GARBAGE=600 scripts/test system -k garbage -s` takes ten minutes and prints figures."""

import multiprocessing
import os
import threading
import time

import grpc

import vandals
from certificates import Authority
from harness import Cluster, free_ports
from test_hostile import resident

SECONDS = float(os.environ.get("APUS_GARBAGE", "4"))
VANDALS = 3
CALL_SECONDS = 15
SLOWEST = 8.0
GROWTH = 96 << 20


def descriptors(member):
    return len(os.listdir(f"/proc/{member.process.pid}/fd"))


def scanned_cluster(folder):
    """Three members with plain and secure listeners of every kind, and their ports with whether they speak TLS."""
    authority = Authority(folder / "pki")
    authority.sign("server")
    flags = [*authority.server_flags("server"), *authority.server_flags("server", prefix="peer-"),
             "--peer-trusted-ca-file", authority.root]
    cluster, ports = Cluster(flags=flags), []
    for member in cluster.members:
        client, peer, plain, secure = free_ports(4)
        member.flags = ["--listen-client-urls", f"http://127.0.0.1:{member.client_port},https://127.0.0.1:{client}",
                        "--listen-peer-urls", f"http://127.0.0.1:{member.peer_port},https://127.0.0.1:{peer}",
                        "--listen-metrics-urls", f"http://127.0.0.1:{plain},https://127.0.0.1:{secure}"]
        ports += [(member.client_port, False), (member.peer_port, False), (plain, False),
                  (client, True), (peer, True), (secure, True)]
    return cluster, ports


class Load:
    """Clients of every member that put, read, and watch what they put."""

    def __init__(self, api, cluster):
        self.api, self.times, self.failures, self.seen, self.put = api, [], [], set(), set()
        self.is_over = threading.Event()
        self.channels = [grpc.insecure_channel(member.endpoint) for member in cluster.members]
        self.threads = [threading.Thread(target=self.work, args=(index, channel))
                        for index, channel in enumerate(self.channels)]
        self.watching = api.grpc.WatchStub(self.channels[0]).Watch(self.questions())
        self.watcher = threading.Thread(target=self.watch)
        assert next(self.watching).created

    def questions(self):
        rpc = self.api.rpc
        yield rpc.WatchRequest(create_request=rpc.WatchCreateRequest(key=b"load/", range_end=b"load0"))
        self.is_over.wait()

    def watch(self):
        try:
            for answer in self.watching:
                self.seen.update((event.kv.key, event.kv.value) for event in answer.events)
        except grpc.RpcError:
            pass

    def work(self, index, channel):
        rpc, kv, number = self.api.rpc, self.api.grpc.KVStub(channel), 0
        key = b"load/%d" % index
        while not self.is_over.is_set():
            number += 1
            for call in (lambda: kv.Put(rpc.PutRequest(key=key, value=b"%d" % number), timeout=CALL_SECONDS),
                         lambda: kv.Range(rpc.RangeRequest(key=key), timeout=CALL_SECONDS)):
                begun = time.monotonic()
                try:
                    call()
                except grpc.RpcError as error:
                    self.failures.append(error.details())
                self.times.append(time.monotonic() - begun)
            self.put.add((key, b"%d" % number))
            time.sleep(0.01)

    def __enter__(self):
        for each in (self.watcher, *self.threads):
            each.start()
        return self

    def __exit__(self, *_):
        self.is_over.set()
        for each in self.threads:
            each.join()
        deadline = time.monotonic() + 5
        while not self.seen >= self.put and time.monotonic() < deadline:
            time.sleep(0.05)
        self.watching.cancel()
        self.watcher.join()
        for channel in self.channels:
            channel.close()


def test_garbage_at_every_port(api, tmp_path):
    cluster, ports = scanned_cluster(tmp_path)
    context = multiprocessing.get_context("spawn")
    counters = [context.Value("q", 0) for _ in range(VANDALS)]
    with cluster, Load(api, cluster) as load:
        time.sleep(1)
        before = [(resident(m.process), descriptors(m)) for m in cluster.members]
        quiet = sorted(load.times)
        load.times.clear()
        until = time.time() + SECONDS + 0.5
        scanners = [context.Process(target=vandals.run, args=(ports, seed, until, counters[seed]))
                    for seed in range(VANDALS)]
        for each in scanners:
            each.start()
        most = 0
        while any(each.is_alive() for each in scanners):
            time.sleep(0.2)
            assert all(m.process.poll() is None for m in cluster.members)
            most = max(most, *(resident(m.process) for m in cluster.members))
        times = sorted(load.times)
        deadline = time.monotonic() + 20
        # Members may open some more connections to each other.
        while any(descriptors(m) > files + 10 for m, (_, files) in zip(cluster.members, before)):
            assert time.monotonic() < deadline, [descriptors(m) for m in cluster.members]
            time.sleep(0.2)
        after = [(resident(m.process), descriptors(m)) for m in cluster.members]
        connections = sum(counter.value for counter in counters)
        mib = lambda sizes: "/".join(f"{size / (1 << 20):.0f}" for size in sizes)
        at = lambda values, share: values[int(len(values) * share)] * 1000
        print(f"\n{SECONDS:.0f} s, {connections} connections; memory {mib(m for m, _ in before)} MiB before, at most "
              f"{mib([most])}, {mib(m for m, _ in after)} after; files {[n for _, n in before]} before, "
              f"{[n for _, n in after]} after; {len(times)} calls, p50 {at(times, 0.5):.1f} ms, p99 {at(times, 0.99):.1f} ms, "
              f"slowest {times[-1] * 1000:.0f} ms (before: p50 {at(quiet, 0.5):.1f} ms, p99 {at(quiet, 0.99):.1f} ms)")
        assert connections > 5 * SECONDS and times
        assert not load.failures and times[-1] < SLOWEST
        assert all(grown[0] - first[0] < GROWTH for first, grown in zip(before, after)) and most < GROWTH + max(before)[0]
        for member in cluster.members:
            assert not [line for line in member.log_text().splitlines() if '"level":"fatal"' in line or '"level":"error"' in line]
    assert load.seen >= load.put
