"""Apus on the data directories of etcd: restored ones, and those of members that ran."""

import json
import shutil
import subprocess
import time

import pytest

from harness import ETCDCTL, ETCDUTL, Cluster

TOOLS = {
    "etcdutl": [str(ETCDUTL), "snapshot", "restore"],
    "etcdctl34": [str(ETCDCTL["3.4"]), "snapshot", "restore"],
}


def fill(cluster):
    """Keys, a lease, a compaction, a user and an alarm-free store. Returns the lease's id."""
    for number in range(40):
        cluster.ctl("put", f"k/{number % 20}", f"v{number}", check=True)
    cluster.ctl("del", "k/3", check=True)
    lease = json.loads(cluster.ctl("lease", "grant", "600", "-w", "json", check=True).stdout)["ID"]
    cluster.ctl("put", "leased", "too", "--lease", "%x" % lease, check=True)
    cluster.ctl("compact", "20", check=True)
    cluster.ctl("role", "add", "reader", check=True)
    cluster.ctl("user", "add", "someone:pw", check=True)
    return "%x" % lease


def contents(cluster, endpoint):
    """What a client sees of the store."""
    ask = lambda *words: cluster.ctl(*words, endpoints=[endpoint], check=True).stdout
    keys = json.loads(ask("get", "", "--prefix", "-w", "json"))
    return (keys["kvs"], keys["header"]["revision"], ask("user", "list"), ask("role", "list"),
            ask("lease", "list").splitlines()[1:])


def check_serving(cluster, told, leases):
    """All members hold what was told, compare hashes, and go on."""
    for member in cluster.members:
        assert contents(cluster, member.endpoint) == told
        assert "took over a data directory of etcd" in member.log_text() or member.kind != "apus"
        timed = cluster.ctl("lease", "timetolive", leases, "--keys", endpoints=[member.endpoint], check=True).stdout
        assert "attached keys([leased])" in timed
        past = cluster.ctl("get", "k/1", "--rev", "30", endpoints=[member.endpoint], check=True)
        assert past.stdout.startswith("k/1\n")
        gone = cluster.ctl("get", "k/1", "--rev", "10", endpoints=[member.endpoint])
        assert "required revision has been compacted" in gone.stderr
    for member in cluster.members:
        cluster.ctl("put", f"after/{member.name}", "x", endpoints=[member.endpoint], check=True)
    cluster.ctl("get", "after", endpoints=cluster.endpoints, check=True)
    hashes = {json.dumps(row["HashKV"]["hash"]) for row in json.loads(cluster.ctl(
        "endpoint", "hashkv", "--rev", str(told[1] + 3), "-w", "json", check=True).stdout)}
    assert len(hashes) == 1


@pytest.mark.parametrize("tool, kinds", [
    ("etcdutl", ("apus", "apus", "apus")), ("etcdctl34", ("apus", "apus", "apus")), ("etcdutl", ("apus", "etcd35", "apus"))])
def test_a_restored_cluster_serves(tmp_path, tool, kinds):
    """One backup, restored for three members with the stock tool; Apus starts on what it makes."""
    file = tmp_path / "backup.db"
    with Cluster(("apus",)) as source:
        leases = fill(source)
        told = contents(source, source.endpoints[0])
        source.ctl("snapshot", "save", str(file), check=True)
    with Cluster(kinds) as cluster:
        for member in cluster.members:
            member.kill()
        for member in cluster.members:
            shutil.rmtree(member.data)
            subprocess.run(
                [*TOOLS[tool], str(file), "--data-dir", str(member.data), "--name", member.name,
                 "--initial-cluster", cluster.initial_cluster, "--initial-advertise-peer-urls", member.peer_url,
                 "--initial-cluster-token", "restored"],
                check=True, capture_output=True, env={"ETCDCTL_API": "3"})
            member.start()
        for member in cluster.members:
            member.wait_ready()
        assert sorted(cluster.listed()) == ["m1", "m2", "m3"]
        check_serving(cluster, told, leases)
        # What was made at the first start is what the second one finds.
        again = next(m for m in cluster.members if m.kind == "apus")
        again.stop()
        again.start().wait_ready()
        assert "taking over" not in again.log_since_start()
        assert cluster.ctl("get", "after/m1", endpoints=[again.endpoint], check=True).stdout == "after/m1\nx\n"


@pytest.mark.parametrize("snapshots", [False, True], ids=["log-only", "with-snapshots"])
@pytest.mark.parametrize("old, new", [("etcd34", "apus"), ("etcd35", "apus")])
def test_members_go_on_under_another_program(old, new, snapshots):
    """Each member of a cluster of etcd is stopped, by force too, and Apus is started on its data."""
    flags = ["--snapshot-count", "15"] if snapshots else []
    with Cluster((old,) * 3, flags=flags) as cluster:
        leases = fill(cluster)
        # Members that came and went are part of the truth that lies beside the store.
        gone = cluster.add(old, "gone", learner=True)
        gone.wait_log("published local member to cluster")
        cluster.remove("gone", endpoints=cluster.endpoints[:3])
        members = cluster.listed()
        for index, member in enumerate(cluster.members):
            told = contents(cluster, member.endpoint)
            member.kill() if index % 2 else member.stop()
            others = [m.endpoint for m in cluster.members if m is not member]
            deadline = time.monotonic() + 20
            while cluster.ctl("put", "while", member.name, endpoints=others).returncode:
                assert time.monotonic() < deadline
            member.kind = new
            member.start().wait_ready()
            assert "took over a data directory of etcd" in member.log_since_start()
            assert cluster.ctl("get", "while", endpoints=[member.endpoint], check=True).stdout == f"while\n{member.name}\n"
        now = cluster.listed()
        assert {n: (m["ID"], m["peerURLs"], m["clientURLs"]) for n, m in now.items()} == \
            {n: (m["ID"], m["peerURLs"], m["clientURLs"]) for n, m in members.items()}
        told = contents(cluster, cluster.endpoints[0])
        check_serving(cluster, told, leases)


def test_what_cannot_be_taken_over_is_left_alone(tmp_path):
    with Cluster(("etcd35",)) as cluster:
        member = cluster.members[0]
        cluster.ctl("put", "k", "v", check=True)
        member.kind = "apus"
        # In use.
        second = subprocess.run(
            [str(p) for p in (arguments_of(member))], capture_output=True, text=True, timeout=15)
        assert second.returncode == 1 and "in use" in second.stderr, second.stderr
        member.kill()
        db = member.data / "member" / "snap" / "db"
        wal = member.data / "member" / "wal"
        kept = db.read_bytes()

        def refusal():
            member.start()
            assert member.process.wait(15) == 1
            assert not (member.data / "member" / "store" / "store.lmdb").exists()
            return json.loads(member.log_since_start().splitlines()[-1])["error"]

        wal.rename(tmp_path / "wal")
        assert "no log that goes with it" in refusal()
        (tmp_path / "wal").rename(wal)
        db.write_bytes(kept[:8192] + b"\0" * (len(kept) - 8192))
        assert str(db) in refusal()
        db.write_bytes(kept)
        member.start().wait_ready()
        assert cluster.ctl("get", "k", check=True).stdout == "k\nv\n"


def arguments_of(member):
    from harness import PROGRAMS, free_ports
    client, peer = free_ports(2)
    return [PROGRAMS["apus"], "--name", member.name, "--data-dir", member.data,
            "--listen-client-urls", f"http://127.0.0.1:{client}", "--advertise-client-urls", f"http://127.0.0.1:{client}",
            "--listen-peer-urls", f"http://127.0.0.1:{peer}", "--initial-advertise-peer-urls", f"http://127.0.0.1:{peer}",
            "--initial-cluster", f"{member.name}=http://127.0.0.1:{peer}"]
