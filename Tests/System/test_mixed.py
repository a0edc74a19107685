"""One Apus member beside two etcd 3.5.1 members: either side leads, all agree."""

import json

import pytest
from harness import Cluster


def expect_agreement(cluster):
    put = json.loads(cluster.ctl("put", "agree", "1", "-w", "json", check=True).stdout)
    for member in cluster.members:
        cluster.ctl("get", "agree", endpoints=[member.endpoint], check=True)
    rows = json.loads(cluster.ctl("endpoint", "hashkv", "--rev", str(put["header"]["revision"]), "-w", "json",
                                  check=True).stdout)
    assert len({(row["HashKV"]["hash"], row["HashKV"].get("compact_revision")) for row in rows}) == 1, rows
    lists = {cluster.ctl("member", "list", endpoints=[m.endpoint], check=True).stdout for m in cluster.members}
    assert len(lists) == 1, lists


def use_every_member(cluster, prefix):
    for number in range(60):
        endpoint = [cluster.endpoints[number % 3]]
        cluster.ctl("put", f"{prefix}/{number}", str(number), endpoints=endpoint, check=True)
    cluster.ctl("del", f"{prefix}/1", endpoints=[cluster.endpoints[0]], check=True)
    cluster.ctl("txn", stdin=f'version("{prefix}/2") = "1"\n\nput {prefix}/2 again\ndel {prefix}/3\nget {prefix}/4\n\n\n',
                endpoints=[cluster.endpoints[1]], check=True)
    granted = json.loads(cluster.ctl("lease", "grant", "60", "-w", "json", endpoints=[cluster.endpoints[2]], check=True).stdout)
    lease = "%x" % granted["ID"]
    cluster.ctl("put", f"{prefix}/leased", "v", "--lease", lease, endpoints=[cluster.endpoints[0]], check=True)
    for member in cluster.members:
        shown = cluster.ctl("lease", "timetolive", lease, "--keys", endpoints=[member.endpoint], check=True).stdout
        assert "attached keys" in shown and f"{prefix}/leased" in shown
        cluster.ctl("lease", "keep-alive", "--once", lease, endpoints=[member.endpoint], check=True)
    cluster.ctl("lease", "revoke", lease, endpoints=[cluster.endpoints[1]], check=True)
    answers = {cluster.ctl("get", "--prefix", prefix, endpoints=[m.endpoint], check=True).stdout for m in cluster.members}
    assert len(answers) == 1
    expect_agreement(cluster)


@pytest.mark.parametrize("apus_leads", [False, True])
def test_mixed_cluster(apus_leads):
    with Cluster(("apus", "etcd35", "etcd35")) as cluster:
        ours = cluster.members[0]
        leader = cluster.leader()
        if (leader is ours) != apus_leads:
            target = ours if apus_leads else cluster.members[1]
            cluster.ctl("move-leader", "%x" % target.status()["header"]["member_id"], check=True)
            assert cluster.leader() is target
        use_every_member(cluster, "moved")
        # The leader dies; the other kind or the other member takes over; it comes back.
        leader = cluster.leader()
        leader.kill()
        survivors = [m for m in cluster.members if m is not leader]
        for _ in range(20):
            if cluster.ctl("put", "after", "kill", endpoints=[m.endpoint for m in survivors]).returncode == 0:
                break
        leader.start()
        leader.wait_ready(30)
        use_every_member(cluster, "back")
        revision = json.loads(cluster.ctl("get", "x", "-w", "json", check=True).stdout)["header"]["revision"]
        cluster.ctl("compaction", str(revision - 10), check=True)
        expect_agreement(cluster)
        for member in cluster.members:
            assert member.process.poll() is None, member.log_text()[-2000:]


@pytest.mark.parametrize("behind", ["apus", "etcd35"])
def test_snapshot_between_kinds(behind):
    """A member that fell behind gets the other kind's store, and restarts on it."""
    with Cluster(("apus", "apus", "etcd35") if behind == "etcd35" else ("apus", "etcd35", "etcd35"),
                 flags=["--snapshot-count", "200"]) as cluster:
        lagging = next(m for m in cluster.members if m.kind == behind)
        lagging.stop()
        others = [m for m in cluster.members if m is not lagging]
        cluster.leader()
        for number in range(10):
            lines = "".join(f"put many/{number}/{n} {n}\n" for n in range(100))
            cluster.ctl("txn", stdin=f"\n{lines}\n\n", endpoints=[m.endpoint for m in others], check=True)
        import grpc
        # Enough entries that the log no longer reaches back (5000 are kept for slow members).
        channels = [grpc.insecure_channel(m.endpoint) for m in others]
        calls = [channel.unary_unary("/etcdserverpb.KV/Put") for channel in channels]
        body = b"\n\x04fill\x12\x01x"
        for _ in range(14):
            pending = [calls[n % 2].future(body, timeout=20) for n in range(500)]
            for each in pending:
                each.result()
        lagging.start()
        lagging.wait_ready(30)
        expect_agreement(cluster)
        lagging.kill()
        lagging.start()
        lagging.wait_ready(30)
        expect_agreement(cluster)
