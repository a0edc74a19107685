"""A member whose data is not the cluster's: found, named, and what goes on meanwhile."""

import re
import time

import lmdb
import pytest

from harness import Cluster

CORRUPT = "etcdserver: corrupt cluster"


def damage(member, what=b"precious", becomes=b"pretious"):
    """Changes bytes of a stored value, as a bad disk would, in a stopped member's store."""
    file = member.data / "member" / "store" / "store.lmdb"
    with lmdb.open(str(file), subdir=False, max_dbs=16, lock=False) as environment:
        with environment.begin(write=True) as transaction:
            table = environment.open_db(b"key", transaction, create=False)
            with transaction.cursor(table) as cursor:
                for key, value in list(cursor):
                    if what in value:
                        transaction.put(key, value.replace(what, becomes), db=table)
                        return
    raise AssertionError("there is no such value")


def fill(cluster):
    for index in range(5):
        cluster.ctl("put", f"k{index}", f"precious {index}", check=True)


def restart_damaged(cluster, member):
    member.stop()
    damage(member)
    member.start()


def wait_alarm(cluster, seconds=20):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        lines = cluster.ctl("alarm", "list", check=True).stdout
        if "CORRUPT" in lines:
            return sorted(int(each) for each in re.findall(r"memberID:(\d+)", lines))
        time.sleep(0.1)
    raise AssertionError("no alarm")


def member_id(member):
    return member.status()["header"]["member_id"]


@pytest.mark.parametrize("victim", ["leader", "follower"])
def test_the_periodic_check_finds_it(victim):
    with Cluster(("apus",) * 3, flags=["--corrupt-check-time=1s"]) as cluster:
        fill(cluster)
        leader = cluster.leader()
        leader.wait_log("finished peer corruption check")
        assert '"number-of-peers-checked":2' in leader.log_text()
        assert cluster.ctl("alarm", "list", check=True).stdout == ""
        damaged = leader if victim == "leader" else cluster.followers()[0]
        damaged_id = member_id(damaged)
        restart_damaged(cluster, damaged)
        damaged.wait_ready()
        if victim == "leader":
            cluster.ctl("move-leader", f"{damaged_id:x}")
        assert wait_alarm(cluster) == [damaged_id]
        for member in cluster.members:
            one = [member.endpoint]
            assert CORRUPT in cluster.ctl("put", "k", "v", endpoints=one).stderr
            assert CORRUPT in cluster.ctl("del", "k0", endpoints=one).stderr
            assert CORRUPT in cluster.ctl("lease", "grant", "60", endpoints=one).stderr
            assert CORRUPT in cluster.ctl("compact", "2", endpoints=one).stderr
            assert cluster.ctl("get", "k4", endpoints=one, check=True).stdout == "k4\nprecious 4\n"
        # The member is replaced by one that learns everything anew; here, its peers' data.
        disarmed = cluster.ctl("alarm", "disarm", check=True).stdout
        assert f"memberID:{damaged_id} alarm:CORRUPT" in disarmed
        assert cluster.ctl("put", "k", "v").returncode == 0
        # It is still there, so it is found again.
        assert wait_alarm(cluster) == [damaged_id]


def test_old_spelling_and_no_false_alarm_under_load():
    flags = ["--experimental-corrupt-check-time=300ms"]
    with Cluster(("apus",) * 3, flags=flags) as cluster:
        leader = cluster.leader()
        for index in range(150):
            cluster.ctl("put", f"k{index % 7}", str(index), check=True)
            if index % 40 == 39:
                cluster.ctl("compact", str(leader.status()["header"]["revision"] - 3), check=True)
        assert cluster.ctl("alarm", "list", check=True).stdout == ""
        assert leader.log_text().count("finished peer corruption check") > 3


def test_the_check_of_compactions_finds_it():
    flags = ["--feature-gates=CompactHashCheck=true", "--compact-hash-check-time=1s"]
    with Cluster(("apus",) * 3, flags=flags) as cluster:
        fill(cluster)
        leader = cluster.leader()
        cluster.ctl("compact", "3", check=True)
        leader.wait_log("finished compaction hash check")
        damaged = cluster.followers()[0]
        damaged_id = member_id(damaged)
        restart_damaged(cluster, damaged)
        damaged.wait_ready()
        cluster.ctl("compact", "5", check=True)
        assert wait_alarm(cluster) == [damaged_id]


@pytest.mark.parametrize(
    "flag", ["--feature-gates=InitialCorruptCheck=true", "--experimental-initial-corrupt-check"])
def test_the_check_at_start_refuses(flag):
    with Cluster(("apus",) * 3, flags=[flag]) as cluster:
        fill(cluster)
        member = cluster.followers()[0]
        member.stop()
        member.start().wait_ready()
        assert "initial corruption checking passed; no corruption" in member.log_since_start()
        restart_damaged(cluster, member)
        assert member.process.wait(20) == 1
        log = member.log_since_start()
        assert "checkInitialHashKV failed" in log
        assert "found data inconsistency with peers" in log
        assert "ready to serve client requests" not in log


def test_the_check_at_start_passes_over_the_unreachable():
    with Cluster(("apus",) * 3, flags=["--feature-gates=InitialCorruptCheck=true"]) as cluster:
        fill(cluster)
        for member in cluster.members:
            member.kill()
        for member in cluster.members:
            member.start()
        for member in cluster.members:
            member.wait_ready()
        assert cluster.ctl("get", "k4", check=True).stdout == "k4\nprecious 4\n"


def test_etcd_compares_with_apus():
    """An etcd leader finds the hashes of Apus members equal to its own, compacted or not."""
    flags = ["--experimental-corrupt-check-time=1s", "--experimental-initial-corrupt-check"]
    with Cluster(("etcd35", "apus", "apus"), flags=flags) as cluster:
        fill(cluster)
        cluster.ctl("del", "k1", check=True)
        cluster.ctl("compact", "5", check=True)
        etcd = cluster.members[0]
        if cluster.leader() is not etcd:
            cluster.ctl("move-leader", f"{member_id(etcd):x}", check=True)
        etcd.wait_log("finished peer corruption check")
        time.sleep(2)
        assert cluster.ctl("alarm", "list", check=True).stdout == ""
        assert '"number-of-peers-checked":2' in etcd.log_text()
