"""Members are killed, paused and left behind; nothing acknowledged is lost, nothing stale is read."""

import signal
import threading
import time

import grpc
import pytest
from harness import Cluster


class Client:
    """A gRPC client that follows no leader: it uses the member it is given."""

    def __init__(self, api, endpoint):
        self.api = api
        self.channel = grpc.insecure_channel(endpoint, options=[("grpc.initial_reconnect_backoff_ms", 50),
                                                                ("grpc.max_reconnect_backoff_ms", 200)])
        self.kv = api.grpc.KVStub(self.channel)
        self.maintenance = api.grpc.MaintenanceStub(self.channel)

    def put(self, key, value, timeout=3):
        return self.kv.Put(self.api.rpc.PutRequest(key=key, value=value), timeout=timeout)

    def get(self, key, serializable=False, timeout=3):
        return self.kv.Range(self.api.rpc.RangeRequest(key=key, serializable=serializable), timeout=timeout)

    def hash_kv(self, revision=0):
        return self.maintenance.HashKV(self.api.rpc.HashKVRequest(revision=revision), timeout=10)


class Writers(threading.Thread):
    """Puts without pause through the given members, and remembers what was acknowledged when."""

    def __init__(self, api, endpoints, prefix=b"load"):
        super().__init__(daemon=True)
        self.clients = [Client(api, endpoint) for endpoint in endpoints]
        self.prefix, self.acknowledged, self.times = prefix, {}, []
        self.halt = threading.Event()

    def run(self):
        number = 0
        while not self.halt.is_set():
            client = self.clients[number % len(self.clients)]
            key = b"%s/%d" % (self.prefix, number)
            try:
                client.put(key, b"%d" % number, timeout=0.4)
                self.acknowledged[key] = b"%d" % number
                self.times.append(time.monotonic())
            except grpc.RpcError:
                time.sleep(0.005)
            number += 1

    def finish(self):
        self.halt.set()
        self.join(10)

    def longest_gap(self, since):
        """Seconds between two acknowledgements after `since`."""
        times = [since] + [each for each in self.times if each > since]
        return max(after - before for before, after in zip(times, times[1:]))


def expect_all(api, cluster, acknowledged):
    for member in cluster.members:
        client = Client(api, member.endpoint)
        stored = {}
        answer = client.kv.Range(api.rpc.RangeRequest(key=b"load/", range_end=b"load0"), timeout=20)
        stored = {kv.key: kv.value for kv in answer.kvs}
        missing = [key for key, value in acknowledged.items() if stored.get(key) != value]
        assert not missing, f"{member.name} lost {len(missing)} of {len(acknowledged)}: {missing[:3]}"


def expect_equal_hashes(api, cluster, timeout=20):
    deadline = time.monotonic() + timeout
    while True:
        revision = max(Client(api, m.endpoint).get(b"x").header.revision for m in cluster.members)
        hashes = {Client(api, m.endpoint).hash_kv(revision).hash for m in cluster.members}
        if len(hashes) == 1:
            return
        assert time.monotonic() < deadline, f"hashes differ: {hashes}"
        time.sleep(0.2)


def test_kill_leader_under_load(api):
    with Cluster() as cluster:
        leader = cluster.leader()
        survivors = [m for m in cluster.members if m is not leader]
        writers = [Writers(api, [m.endpoint]) for m in survivors]
        for number, each in enumerate(writers):
            each.prefix = b"load/%d" % number
            each.start()
        time.sleep(2)
        killed_at = time.monotonic()
        leader.kill()
        time.sleep(4)
        leader.start()
        leader.wait_ready()
        time.sleep(1)
        for each in writers:
            each.finish()
            assert each.longest_gap(killed_at) < 2, "writes must succeed again within 2 s"
            assert len(each.acknowledged) > 200
        expect_all(api, cluster, {k: v for each in writers for k, v in each.acknowledged.items()})
        expect_equal_hashes(api, cluster)


def test_puts_to_followers_wait_for_the_next_leader(api):
    """Nobody reigns for about a second after a leader's end: what a follower is asked then must not be
    sent to the dead, or its caller would wait for nothing until the request timeout."""
    with Cluster() as cluster:
        leader = cluster.leader()
        followers = [Client(api, m.endpoint) for m in cluster.members if m is not leader]
        for client in followers:
            client.put(b"warm", b"up")
        leader.kill()
        time.sleep(0.05)
        puts = []
        for number in range(20):
            key = b"load/%d" % number
            call = followers[number % 2].kv.Put.future(api.rpc.PutRequest(key=key, value=b"%d" % number), timeout=4)
            puts.append(call)
            time.sleep(0.02)
        for call in puts:
            call.result()
        leader.start()
        leader.wait_ready()
        expect_all(api, cluster, {b"load/%d" % n: b"%d" % n for n in range(20)})


def test_kill_all_at_once(api):
    with Cluster() as cluster:
        writers = [Writers(api, [m.endpoint], b"load/%d" % n) for n, m in enumerate(cluster.members)]
        for each in writers:
            each.start()
        time.sleep(2)
        for member in cluster.members:
            member.signal(signal.SIGKILL)
        for member in cluster.members:
            member.process.wait()
        for each in writers:
            each.finish()
        for member in cluster.members:
            member.start()
        for member in cluster.members:
            member.wait_ready()
        expect_all(api, cluster, {k: v for each in writers for k, v in each.acknowledged.items()})
        expect_equal_hashes(api, cluster)


def test_paused_leader_serves_nothing_stale(api):
    with Cluster() as cluster:
        old = cluster.leader()
        client = Client(api, old.endpoint)
        client.put(b"k", b"old")
        waiting = []
        stop = threading.Event()

        def read():
            # A read is in flight at any moment, also while the leader wakes up.
            while not stop.is_set():
                called = time.monotonic()
                try:
                    answer = client.get(b"k", timeout=9)
                    waiting.append((called, answer.kvs[0].value))
                except grpc.RpcError:
                    pass

        readers = [threading.Thread(target=read, daemon=True) for _ in range(4)]
        for each in readers:
            each.start()
        time.sleep(0.3)
        old.signal(signal.SIGSTOP)
        time.sleep(3)
        others = [m for m in cluster.members if m is not old]
        written = None
        deadline = time.monotonic() + 5
        while written is None:
            try:
                Client(api, others[0].endpoint).put(b"k", b"new", timeout=2)
                written = time.monotonic()
            except grpc.RpcError:
                assert time.monotonic() < deadline, "no new leader"
        time.sleep(2)
        woken = time.monotonic()
        old.signal(signal.SIGCONT)
        time.sleep(3)
        stop.set()
        for each in readers:
            each.join(12)
        stale = [entry for entry in waiting if entry[0] > written and entry[1] == b"old"]
        assert not stale
        assert any(called > woken and value == b"new" for called, value in waiting), "the old leader must serve again"
        assert cluster.leader() is not None


@pytest.mark.parametrize("count", [50_000])
def test_member_far_behind_comes_back_through_a_snapshot(api, count):
    with Cluster(flags=["--snapshot-count", "5000"]) as cluster:
        behind = cluster.followers()[0]
        behind.stop()
        others = [m for m in cluster.members if m is not behind]
        futures = []
        stubs = [api.grpc.KVStub(grpc.insecure_channel(m.endpoint)) for m in others]
        for number in range(count):
            request = api.rpc.PutRequest(key=b"far/%d" % (number % 7000), value=b"%d" % number)
            futures.append(stubs[number % 2].Put.future(request, timeout=30))
            if len(futures) >= 1000:
                for each in futures:
                    each.result()
                futures = []
        for each in futures:
            each.result()
        behind.start()
        behind.wait_ready(30)
        assert "applied snapshot" in behind.log_text()
        assert "sent database snapshot" in "".join(m.log_text() for m in others)
        expect_equal_hashes(api, cluster)
        # And the restored member survives a restart on its own data.
        behind.kill()
        behind.start()
        behind.wait_ready()
        expect_equal_hashes(api, cluster)
