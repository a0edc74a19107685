"""A minute of faults on real processes. The long runs are scripts/faults."""

import time

import pytest

from . import scenarios
from .injectors import ENOSPC, FaultCluster
from .run import run


@pytest.mark.parametrize("name", ["pause-leader", "compaction", "partition", "lagging", "sync-error",
                                  "power-cut-all"])
def test_scenario(name, tmp_path):
    """A run that was too slow to prove anything passes as well: slow machines are no bugs."""
    result = run(scenarios.ALL[name], seconds=2.5, seed=7, keep=tmp_path)
    assert result.verdict in ("pass", "void"), result.report()


def test_beside_etcd(tmp_path):
    """The same clients and the same checker in a cluster of both kinds."""
    result = run(scenarios.ALL["kill-leader"], seconds=2.5, seed=7, keep=tmp_path, kinds=("apus", "etcd35", "etcd35"))
    assert result.verdict in ("pass", "void"), result.report()


def test_full_disk_of_a_follower_stops_nobody():
    """A follower without room warns and goes on; a leader without room raises the alarm for all."""
    with FaultCluster(3, shimmed=True) as cluster:
        leader = cluster.leader_now()
        follower = next(m for m in cluster.members if m is not leader)
        full = ("write", "store.lmdb", "errno", ENOSPC, -1)
        follower.disk(full)
        cluster.ctl("put", "k", "1", check=True)
        follower.wait_log("disk of the data directory is full", 5)
        time.sleep(1)
        assert cluster.ctl("alarm", "list", check=True).stdout == ""
        for member in cluster.members:
            cluster.ctl("put", "k", "2", endpoints=[member.endpoint], check=True)
        follower.disk()
        leader.disk(full)
        cluster.ctl("put", "k", "3")  # may be refused: the one before is enough to find out
        deadline = time.monotonic() + 5
        while "NOSPACE" not in cluster.ctl("alarm", "list", check=True).stdout:
            assert time.monotonic() < deadline, "no alarm"
            time.sleep(0.1)
        assert "database space exceeded" in cluster.ctl("put", "k", "4").stderr
        leader.disk()
        time.sleep(1.2)
        cluster.ctl("alarm", "disarm", check=True)
        cluster.ctl("put", "k", "5", check=True)
