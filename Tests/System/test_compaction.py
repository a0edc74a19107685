"""Compaction: automatic, physical, and what is left of it by a kill."""

import json
import time

import pytest

from harness import Cluster


def revision(member):
    return member.status()["header"]["revision"]


def compacted(cluster, member, at):
    """Whether reads at this revision are refused."""
    done = cluster.ctl("get", "key", f"--rev={at}", endpoints=[member.endpoint])
    return "required revision has been compacted" in done.stderr


def put_many(cluster, api, count, keys, prefix="k"):
    """Puts through one connection, many at a time."""
    import grpc

    with grpc.insecure_channel(cluster.leader().endpoint) as channel:
        stub = api.grpc.KVStub(channel)
        calls = []
        for index in range(count):
            request = api.rpc.PutRequest(key=f"{prefix}{index % keys}".encode(), value=b"v" * 64)
            calls.append(stub.Put.future(request))
            if len(calls) >= 2000:
                for call in calls:
                    call.result()
                calls = []
        for call in calls:
            call.result()


@pytest.mark.parametrize("mode, retention", [("periodic", "2s"), ("revision", "10")])
def test_automatic_compaction(mode, retention):
    flags = [f"--auto-compaction-mode={mode}", f"--auto-compaction-retention={retention}"]
    with Cluster(("apus",) * 3, flags=flags) as cluster:
        leader = cluster.leader()
        for index in range(20):
            cluster.ctl("put", "key", str(index), check=True)
        if mode == "revision":
            # Every five minutes: only that it does nothing before.
            time.sleep(2)
            assert not compacted(cluster, leader, 2)
            return
        deadline = time.monotonic() + 15
        while not compacted(cluster, leader, 10):
            assert time.monotonic() < deadline
            time.sleep(0.2)
        for member in cluster.members:
            while not compacted(cluster, member, 10):  # A follower may be a moment behind.
                assert time.monotonic() < deadline
                time.sleep(0.05)
            logged = "starting auto periodic compaction" in member.log_text()
            assert logged == (member is leader)
        # A new leader goes on with it.
        leader.kill()
        new = cluster.leader()
        assert new is not leader
        before = revision(new)
        for index in range(5):
            cluster.ctl("put", "key", str(index), endpoints=[new.endpoint], check=True)
        deadline = time.monotonic() + 15
        while not compacted(cluster, new, before):
            assert time.monotonic() < deadline
            time.sleep(0.2)


def test_physical_compaction_waits_for_the_file(api):
    with Cluster(("apus",)) as cluster:
        member = cluster.leader()
        put_many(cluster, api, 5000, 50)
        at = revision(member)
        done = cluster.ctl("compact", "--physical", str(at), check=True)
        assert done.stdout == f"compacted revision {at}\n"
        assert "finished scheduled compaction" in member.log_text()
        # Again: refused, and the current revision stays what it was.
        again = cluster.ctl("compact", "--physical", str(at))
        assert "required revision has been compacted" in again.stderr
        member.kill()
        member.start().wait_ready()
        cluster.leader()
        assert revision(member) == at
        # It was all in the file: nothing is left to do.
        assert "finished scheduled compaction" not in member.log_since_start()
        assert compacted(cluster, member, at - 1)


def test_revision_stays_when_everything_is_compacted():
    with Cluster(("apus",)) as cluster:
        member = cluster.leader()
        for index in range(10):
            cluster.ctl("put", f"k{index}", "v", check=True)
        cluster.ctl("del", "", "--from-key", check=True)
        cluster.ctl("put", "k", "v", check=True)
        cluster.ctl("del", "k", check=True)
        at = revision(member)
        cluster.ctl("compact", "--physical", str(at), check=True)
        for _ in range(2):
            member.kill()
            member.start().wait_ready()
            cluster.leader()
            assert revision(member) == at
        assert json.loads(cluster.ctl("put", "k", "v", "-w", "json").stdout)["header"][
            "revision"] == at + 1


@pytest.mark.parametrize("wait", [0.02, 0.15, 0.4])
def test_a_kill_in_the_middle_of_a_compaction(api, wait):
    flags = ["--compaction-batch-limit=100"]
    with Cluster(("apus",), flags=flags) as cluster:
        member = cluster.leader()
        put_many(cluster, api, 12000, 30)
        at = revision(member)
        expected = cluster.ctl("get", "", "--from-key", f"--rev={at}", check=True).stdout
        hash_before = cluster.ctl("endpoint", "hashkv", "-w", "json").stdout
        cluster.ctl("compact", str(at), check=True)
        time.sleep(wait)
        member.kill()
        assert "finished scheduled compaction" not in member.log_text()
        member.start().wait_ready()
        cluster.leader()
        assert compacted(cluster, member, at - 1)
        assert revision(member) == at
        member.wait_log("finished scheduled compaction", 30)
        assert cluster.ctl("get", "", "--from-key", f"--rev={at}", check=True).stdout == expected
        assert json.loads(hash_before)[0]["HashKV"]["hash"] != 0
        # What is left is one record for each key: the file is small once it is rewritten.
        cluster.ctl("defrag", check=True)
        assert member.status()["dbSize"] < 300_000
