"""Clusters of Apus and etcd members: either side leads, either side makes the majority, all agree."""

import json
import signal
import time

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


def put_by(member, key, timeout="2s"):
    return member.cluster.ctl(f"--command-timeout={timeout}", "put", key, "v", endpoints=[member.endpoint])


@pytest.mark.parametrize("kind", ["etcd34", "etcd35"])
def test_etcd_breaks_the_tie(kind):
    """With one of two members of Apus gone, the one of etcd makes the majority; with both gone, nobody does."""
    with Cluster(("apus", "apus", kind)) as cluster:
        first, second, other = cluster.members
        cluster.leader()
        first.kill()
        for _ in range(20):
            if put_by(second, "with a tie-breaker").returncode == 0:
                break
        assert put_by(other, "from the other").returncode == 0
        second.kill()
        assert put_by(other, "alone", "1s").returncode != 0
        assert cluster.ctl("--command-timeout=1s", "get", "alone", endpoints=[other.endpoint]).returncode != 0
        shown = cluster.ctl("get", "from the other", "--consistency=s", endpoints=[other.endpoint], check=True)
        assert shown.stdout.split() == ["from", "the", "other", "v"]
        first.start()
        first.wait_ready()
        for _ in range(20):
            if put_by(first, "again").returncode == 0:
                break
        second.start()
        second.wait_ready()
        expect_agreement(cluster)


@pytest.mark.parametrize("leads", ["apus", "etcd35"])
def test_leases_under_either_leader(leads):
    """Leases granted and renewed at either kind live until either kind's leader ends them, also a new one."""
    with Cluster(("apus", "etcd35", "apus" if leads == "etcd35" else "etcd35")) as cluster:
        lead_by(cluster, leads)
        leases = []
        for member in cluster.members:
            granted = cluster.ctl("lease", "grant", "3", "-w", "json", endpoints=[member.endpoint], check=True)
            leases.append("%x" % json.loads(granted.stdout)["ID"])
            cluster.ctl("put", f"leased/{member.name}", "v", "--lease", leases[-1], check=True)
        # A new leader gives each its full time again.
        lead_by(cluster, "apus" if leads == "etcd35" else "etcd35")
        for lease, member in zip(leases, reversed(cluster.members)):
            cluster.ctl("lease", "keep-alive", "--once", lease, endpoints=[member.endpoint], check=True)
        assert len(cluster.ctl("get", "leased/", "--prefix", "--keys-only", check=True).stdout.split()) == 3
        deadline = time.monotonic() + 15
        while cluster.ctl("get", "leased/", "--prefix", check=True).stdout:
            assert time.monotonic() < deadline, "leases that do not end"
            time.sleep(0.2)
        expect_agreement(cluster)


def lead_by(cluster, kind):
    """Gives leadership to a member of this kind."""
    for _ in range(50):
        leader = cluster.leader()
        if leader.kind == kind:
            return leader
        target = next(m for m in cluster.members if m.kind == kind)
        cluster.ctl("move-leader", "%x" % target.status()["header"]["member_id"], endpoints=[leader.endpoint])
        time.sleep(0.1)
    raise AssertionError(f"no leader of kind {kind}")


@pytest.mark.parametrize("full", ["apus", "etcd35"])
def test_full_quota_of_either_kind(full):
    """One member's quota is used up: all refuse writes alike, and take them again once the alarm is disarmed."""
    quota = ["--quota-backend-bytes", str(2 << 20)]
    with Cluster(("apus", "apus", "etcd35")) as cluster:
        small = next(m for m in cluster.members if m.kind == full)
        small.stop()
        cluster.flags.extend(quota)
        small.start()
        small.wait_ready()
        for number in range(40):
            done = cluster.ctl("put", "big", "x" * 100_000, endpoints=[cluster.endpoints[number % 3]])
            if "database space exceeded" in done.stderr:
                break
        else:
            raise AssertionError("no alarm")
        listed = [cluster.ctl("alarm", "list", endpoints=[m.endpoint], check=True).stdout for m in cluster.members]
        assert len(set(listed)) == 1 and "NOSPACE" in listed[0], listed
        for member in cluster.members:
            assert "database space exceeded" in put_by(member, "more").stderr
        revision = json.loads(cluster.ctl("get", "x", "-w", "json", check=True).stdout)["header"]["revision"]
        cluster.ctl("compaction", str(revision), check=True)
        time.sleep(0.5)
        cluster.ctl("defrag", check=True)
        cluster.ctl("alarm", "disarm", check=True)
        for member in cluster.members:
            assert put_by(member, "again").returncode == 0
        expect_agreement(cluster)


@pytest.mark.parametrize("leads", ["apus", "etcd35"])
def test_leader_of_either_kind_is_paused(leads):
    """What followers of the other kind forwarded to a paused leader is lost or late, and never answered falsely."""
    with Cluster(("apus", "etcd35", "apus" if leads == "etcd35" else "etcd35")) as cluster:
        leader = lead_by(cluster, leads)
        others = [m for m in cluster.members if m is not leader]
        cluster.ctl("put", "before", "0", check=True)
        leader.signal(signal.SIGSTOP)
        acknowledged = []
        for number in range(1, 12):
            # Each to a key of its own: one that nobody acknowledged may still come about, at any later time.
            done = cluster.ctl("--command-timeout=3s", "put", f"paused/{number}", "x",
                               endpoints=[others[number % 2].endpoint])
            acknowledged += [f"paused/{number}"] if done.returncode == 0 else []
        leader.signal(signal.SIGCONT)
        assert acknowledged, "no write succeeds without the paused leader"
        shown = cluster.ctl("get", "paused/", "--prefix", "--keys-only", endpoints=[leader.endpoint], check=True).stdout
        assert set(acknowledged) <= set(shown.split())
        expect_agreement(cluster)
