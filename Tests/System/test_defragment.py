"""Defragmentation while the member serves: what it gives back, whom it keeps waiting, and kills."""

import os
import threading
import time

import grpc
import pytest

from harness import Cluster

KEYS = 400
VALUE = 64 << 10


def fill(stub, api, rounds=4):
    """Each round writes all keys anew: what the earlier ones wrote is history."""
    for _ in range(rounds):
        calls = [
            stub.Put.future(api.rpc.PutRequest(key=b"key/%04d" % key, value=os.urandom(VALUE)))
            for key in range(KEYS)
        ]
        for call in calls:
            call.result()


class Load(threading.Thread):
    """Puts and gets at a steady rate; notes how long each takes."""

    def __init__(self, stub, api):
        super().__init__(daemon=True)
        self.stub, self.api = stub, api
        self.ended = threading.Event()
        self.times = []

    def run(self):
        while not self.ended.wait(0.01):
            before = time.monotonic()
            self.stub.Put(self.api.rpc.PutRequest(key=b"load", value=b"%d" % len(self.times)))
            self.stub.Range(self.api.rpc.RangeRequest(key=b"load"))
            self.times.append(time.monotonic() - before)


def store_file(member):
    return member.data / "member" / "store" / "store.lmdb"


def test_gives_space_back_while_it_serves(api):
    with Cluster(("apus",) * 3) as cluster:
        member = cluster.leader()
        with grpc.insecure_channel(member.endpoint) as channel:
            stub = api.grpc.KVStub(channel)
            fill(stub, api)
            load = Load(stub, api)
            load.start()
            at = member.status()["header"]["revision"]
            cluster.ctl("compact", "--physical", str(at), check=True)
            before = member.status()
            assert before["dbSize"] > 90 << 20
            cluster.ctl("defrag", endpoints=[member.endpoint], check=True)
            after = member.status()
            load.ended.set()
            load.join(10)
        assert after["dbSize"] < 40 << 20
        # The file itself, and no more of the old one.
        assert store_file(member).stat().st_size < 40 << 20
        assert sorted(os.listdir(store_file(member).parent)) == [
            "store.lmdb", "store.lmdb-lock", "store.lock"]
        assert len(load.times) > 5
        assert max(load.times) < 3, sorted(load.times)[-5:]
        # Everything is still there, what was written meanwhile included.
        last = cluster.ctl("get", "load", "--print-value-only", check=True).stdout
        assert int(last) >= len(load.times) - 1
        assert cluster.ctl("get", "key/", "--prefix", "--count-only", "-w", "fields").stdout.count(
            f'"Count" : {KEYS}') == 1


@pytest.mark.parametrize("wait", [0.0, 0.02, 0.05, 0.1, 0.2])
def test_a_kill_leaves_a_good_store(api, wait):
    with Cluster(("apus",)) as cluster:
        member = cluster.leader()
        with grpc.insecure_channel(member.endpoint) as channel:
            fill(api.grpc.KVStub(channel), api)
            at = member.status()["header"]["revision"]
            cluster.ctl("compact", "--physical", str(at), check=True)
            maintenance = api.grpc.MaintenanceStub(channel)
            kv = api.grpc.KVStub(channel)
            hashed = maintenance.HashKV(api.rpc.HashKVRequest(revision=at)).hash
            defragmented = maintenance.Defragment.future(api.rpc.DefragmentRequest())
            kv.Put(api.rpc.PutRequest(key=b"during", value=b"it"))
            time.sleep(wait)
            member.kill()
            defragmented.exception()
        member.start().wait_ready()
        cluster.leader()
        with grpc.insecure_channel(member.endpoint) as channel:
            maintenance = api.grpc.MaintenanceStub(channel)
            assert maintenance.HashKV(api.rpc.HashKVRequest(revision=at)).hash == hashed
            got = api.grpc.KVStub(channel).Range(api.rpc.RangeRequest(key=b"during"))
            assert [each.value for each in got.kvs] == [b"it"]
        assert "store.lmdb.tmp" not in os.listdir(store_file(member).parent)
        cluster.ctl("defrag", check=True)
        assert member.status()["dbSize"] < 40 << 20
