"""Checkpoints of leases on real processes whose clocks run twenty times as fast: five minutes are fifteen seconds."""

import os
import time

import pytest

from .injectors import FaultCluster

RATE = 20
TTL = 2000
INTERVAL = 300  # etcd's, between two checkpoints of a lease
EXTENSION = 20  # what a new leader adds: the election timeout

# In seconds of the members' clocks. In real ones they are etcd's defaults.
SLOW = ("--heartbeat-interval", "2000", "--election-timeout", "20000")


def remaining(cluster, lease):
    """What the leader says is left, asked through any member."""
    for _ in range(100):
        shown = cluster.ctl("lease", "timetolive", lease).stdout.split()
        # lease 694d8f0e0c1a3302 granted with TTL(2000s), remaining(1999s)
        if len(shown) == 6:
            return int(shown[-1].removeprefix("remaining(").removesuffix("s)"))
        time.sleep(0.1)
    raise AssertionError("nobody knows the lease")


def lead_anew(cluster, old):
    """Kills the leader; the others find a new one."""
    old.kill()
    deadline = time.monotonic() + 20
    while (leader := cluster.leader_now()) is None or leader is old:
        assert time.monotonic() < deadline
    old.start()
    old.wait_ready()
    return leader


@pytest.mark.skipif(not os.environ.get("APUS_CHECKPOINTS"), reason="takes a minute: APUS_CHECKPOINTS=1")
@pytest.mark.parametrize("flags", [
    (), ("--experimental-enable-lease-checkpoint",),
    ("--experimental-enable-lease-checkpoint", "--experimental-enable-lease-checkpoint-persist"),
    ("--feature-gates=LeaseCheckpoint=true",)], ids=["off", "on", "kept", "gate"])
def test_a_new_leader_knows_what_is_left(flags):
    """With checkpoints the remaining time is kept over a change of leader and over restarts of all members; without
    them each begins anew."""
    cluster = FaultCluster(3, SLOW, clocked=True)
    for each in cluster.members:
        each.rate, each.flags = RATE, flags
    with cluster:
        leader = cluster.leader_now(15)
        lease = cluster.ctl("lease", "grant", str(TTL), check=True).stdout.split()[1]
        kept = cluster.ctl("lease", "grant", str(TTL), check=True).stdout.split()[1]
        time.sleep(1.15 * INTERVAL / RATE)
        before = remaining(cluster, lease)
        assert TTL - 2 * INTERVAL < before < TTL - INTERVAL
        # One that is renewed has its checkpoint taken back.
        cluster.ctl("lease", "keep-alive", "--once", kept, check=True)
        assert remaining(cluster, kept) > TTL - INTERVAL
        for _ in range(2):
            leader = lead_anew(cluster, leader)
            anew = remaining(cluster, lease)
            if flags:
                assert TTL - 3 * INTERVAL < anew <= TTL - INTERVAL + EXTENSION
            else:
                assert TTL - INTERVAL + EXTENSION < anew <= TTL + EXTENSION
            assert TTL - INTERVAL + EXTENSION < remaining(cluster, kept) <= TTL + EXTENSION
        for each in cluster.members:
            each.stop()
        for each in cluster.members:
            each.start()
        for each in cluster.members:
            each.wait_ready()
        anew = remaining(cluster, lease)
        assert anew <= TTL - INTERVAL + EXTENSION if flags else anew > TTL - INTERVAL + EXTENSION
        # Nothing runs out before its time.
        assert remaining(cluster, kept) > TTL - INTERVAL + EXTENSION
