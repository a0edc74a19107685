"""Two figures of operation: how long writes stop when a leader is killed, and what a slow follower costs."""

import statistics
import threading
import time

import protos

from .injectors import FaultCluster
from .recorder import Stubs

ELECTION = 1.0  # seconds; the members' default
KILLS = 20


class Writer(threading.Thread):
    """Puts one after another at one member; keeps when each was acknowledged and how long it took."""

    def __init__(self, cluster, member, number, pause=0.0):
        super().__init__(daemon=True)
        self.api, self.member, self.number, self.pause = protos.load(), member, number, pause
        self.calls, self.over = Stubs(self.api, member.endpoint), threading.Event()
        self.done = []  # (returned, seconds)

    def run(self):
        count = 0
        while not self.over.is_set():
            count += 1
            called = time.monotonic()
            try:
                # A call that is with a dead leader is lost; its client asks again soon.
                self.calls.kv.Put(self.api.rpc.PutRequest(key=b"m%d" % self.number, value=b"%d" % count), timeout=0.25)
                self.done.append((time.monotonic(), time.monotonic() - called))
            except Exception:  # whatever it is, it was not acknowledged
                time.sleep(0.005)
            if self.pause:
                time.sleep(self.pause)

    def stop(self):
        self.over.set()
        self.join()
        self.calls.channel.close()


def failover(kills=KILLS):
    """Seconds from each kill -9 of the leader to the next write acknowledged by the survivors."""
    times = []
    with FaultCluster(3) as cluster:
        for _ in range(kills):
            leader = cluster.leader_now(20)
            writers = [Writer(cluster, m, number) for number, m in enumerate(
                [each for each in cluster.members if each is not leader] * 2)]
            for each in writers:
                each.start()
            time.sleep(0.5)
            killed = time.monotonic()
            leader.kill()
            deadline = killed + 10
            # An answer that was on its way when the leader died says nothing of its successor.
            def first():
                return min((done for w in writers for done, _ in w.done[-5:] if done > killed + 0.02), default=None)

            while time.monotonic() < deadline and first() is None:
                time.sleep(0.001)
            times.append((first() or deadline) - killed)
            for each in writers:
                each.stop()
            leader.start()
            leader.wait_ready()
            time.sleep(0.3)
    return times


def percentile(values, part):
    return sorted(values)[min(len(values) - 1, int(len(values) * part))]


def load(cluster, members, seconds, count=8):
    writers = [Writer(cluster, members[n % len(members)], n) for n in range(count)]
    for each in writers:
        each.start()
    time.sleep(seconds)
    for each in writers:
        each.stop()
    return [took for each in writers for _, took in each.done[len(each.done) // 20:]]


def slow_follower(seconds=6, rounds=3):
    """p50 and p99 of puts at the leader: all well, one follower at 200 ms per sync, one paused."""
    found = {"all well": [], "one follower needs 200 ms per sync": [], "one follower paused": []}
    with FaultCluster(3, shimmed=True) as cluster:
        for _ in range(rounds):
            leader = cluster.leader_now(20)
            follower = next(m for m in cluster.members if m is not leader)
            load(cluster, [leader], 1)
            found["all well"] += load(cluster, [leader], seconds)
            follower.disk(("sync", "/member/", "delay", 200, -1))
            time.sleep(0.3)
            found["one follower needs 200 ms per sync"] += load(cluster, [leader], seconds)
            follower.disk()
            time.sleep(1.5)
            follower.pause()
            found["one follower paused"] += load(cluster, [leader], seconds)
            follower.resume()
            time.sleep(2)
    return found


def main():
    times = failover()
    median = statistics.median(times)
    print(f"failover over {len(times)} kills of the leader: median {median:.3f} s, {min(times):.3f} to "
          f"{max(times):.3f} s; the goal is {1.5 * ELECTION:.1f} s")
    print("  " + " ".join(f"{each:.2f}" for each in sorted(times)))
    found = slow_follower()
    normal = percentile(found["all well"], 0.99)
    bad = median > 1.5 * ELECTION
    for name, times in found.items():
        p99 = percentile(times, 0.99)
        bad |= p99 > 2 * normal
        print(f"{name}: {len(times)} puts, p50 {1000 * statistics.median(times):.2f} ms, p99 {1000 * p99:.2f} ms "
              f"({p99 / normal:.2f} of normal), longest {1000 * max(times):.0f} ms")
    return bad
