"""System calls and syncs per put, counted in the kernel by `perf stat` on three members. For docs/performance.md, not for tests."""

import argparse
import signal
import subprocess
import tempfile
import time

from harness import Cluster
from load import bench, fill, settle

# What members are seen to use; whatever else there is shows in the total.
CALLS = ["read", "write", "readv", "writev", "sendmsg", "sendto", "recvmsg", "recvfrom", "epoll_wait", "epoll_pwait", "epoll_ctl", "futex",
         "pwrite64", "pwritev", "fdatasync", "fsync", "nanosleep", "sched_yield", "getpid", "tgkill"]
EVENTS = {"all": "raw_syscalls:sys_enter", "switches": "context-switches"} | {
    name: f"syscalls:sys_enter_{name}" for name in CALLS}
LOADS = {"1 x 1": [], "16 x 64": ["--connections=16", "--streams=64"]}


class Count:
    """Counts events of a process, its threads to come included, until stopped."""

    def __init__(self, process):
        self.output = tempfile.NamedTemporaryFile("r")
        self.perf = subprocess.Popen(
            ["perf", "stat", "-x", ";", "-o", self.output.name, "-e", ",".join(EVENTS.values()), "-p", str(process.pid)])

    def stop(self):
        self.perf.send_signal(signal.SIGINT)
        self.perf.wait()
        rows = (line.split(";") for line in self.output.read().splitlines() if ";" in line)
        counts = {row[2]: int(row[0]) for row in rows}
        return {name: counts[event] for name, event in EVENTS.items()}


def measure(kind, seconds):
    """Counts per put by load: of the leader, and of a follower in the mean."""
    results = {}
    with Cluster((kind,) * 3) as cluster:
        fill(cluster.leader().endpoint, 100_000)
        for name, arguments in LOADS.items():
            settle(cluster, cluster.leader().endpoint)
            leader = cluster.leader()
            counters = {member.name: Count(member.process) for member in cluster.members}
            time.sleep(0.5)  # Until they count.
            puts = bench(leader.endpoint, "put", *arguments, "-d", str(seconds))["results"]["put"]["count"]
            counts = {member: counter.stop() for member, counter in counters.items()}
            ours = counts.pop(leader.name)
            results[name] = {
                "puts": puts, "leader": {event: count / puts for event, count in ours.items()},
                "follower": {event: sum(each[event] for each in counts.values()) / len(counts) / puts for event in EVENTS}}
    return results


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kinds", default="apus,etcd34,etcd35")
    parser.add_argument("--seconds", type=int, default=4)
    options = parser.parse_args()
    for kind in options.kinds.split(","):
        for load, seen in measure(kind, options.seconds).items():
            for role in ("leader", "follower"):
                row = seen[role]
                syncs = row["fdatasync"] + row["fsync"]
                often = sorted((name for name in CALLS if row[name] > 0.0005), key=lambda name: -row[name])
                print(f"| {kind} | {load} | {seen['puts']:,} | {role} | {row['all']:.3f} | {syncs:.4f} | {row['switches']:.3f} | "
                      + ", ".join(f"{name} {row[name]:.3f}" for name in often) + " |", flush=True)


if __name__ == "__main__":
    main()
