"""Apus beside etcd under the same load on the same machine: alternating rounds, medians, ratios, curves.

Figures are kept in docs/benchmarks.json; the page and its plots are made from them, so that a part can be measured again alone.
"""

import argparse
import contextlib
import datetime
import json
import os
import pathlib
import platform
import resource
import statistics
import subprocess
import time

import benchmark_page
import grpc
from harness import PROGRAMS, ROOT, Cluster
from load import LARGE_QUOTA, NothingAnswered, bench, cpu_seconds, drive, field, fill, memory_mib, settle, varint

FIGURES = ROOT / "docs" / "benchmarks.json"

MANY = ["--connections=16", "--streams=64"]
# name, arguments of apus-bench, goal as text; reads first, as they leave nothing behind.
WORKLOADS = [
    ("linearizable read, 16 x 64", ["range", *MANY], ">= 3x"),
    ("linearizable read, 128 x 1", ["range", "--connections=128"], ">= 2.5x"),
    ("serializable read, 16 x 64", ["range", *MANY, "--serializable"], ">= 3x"),
    ("serializable read, 128 x 1", ["range", "--connections=128", "--serializable"], ">= 1.8x"),
    ("range of 100 keys, 16 x 4", ["range", "--connections=16", "--streams=4", "--span", "100"], ">= 3x"),
    ("lease keepalive, 16 x 16", ["lease-keepalive", "--connections=16", "--streams=16", "--leases", "1000"], ""),
    ("watch, 200 on one prefix", ["watch", "--watchers", "200", "--connections=4", "--streams=5", "--prefix", "watched/"],
     ">= 2x"),
    ("put, 1 connection", ["put"], "latency <= 0.5x"),
    ("put, 128 x 1", ["put", "--connections=128"], ">= 3x"),
    ("put, 16 x 64", ["put", *MANY], ">= 5x"),
    ("9 reads to 1 put, 16 x 16", ["mixed", "--connections=16", "--streams=16"], ""),
    ("txn compare-and-put, 16 x 64", ["txn", *MANY], ">= 5x"),
]
GOALS = {name: goal for name, _, goal in WORKLOADS}
PEAK = "put, 16 x 64"
KEYS = 100_000
CURVE = [1, 4, 16, 64, 256, 1000, 4000, 10000]
SHARES = (0.9, 1.0)


def measure(kind, seconds, names=None):
    """Runs the workloads (all, or those named) on a fresh cluster of that kind that holds the keys already."""
    results = {}
    with Cluster((kind,) * 3) as cluster:
        endpoint = cluster.leader().endpoint
        fill(endpoint, KEYS)
        bench(endpoint, "lease-grant", "--total", "1000", "--streams=16")
        for name, arguments, _ in WORKLOADS:
            if names is not None and name not in names:
                continue
            settled = settle(cluster, endpoint)
            # Who leads may have changed under load.
            endpoint = cluster.leader().endpoint
            results[name] = drive(cluster, endpoint, arguments, seconds) | {"settled": settled}
        results["memory"] = memory_mib(cluster)
    return results


def idle(kinds, seconds=20):
    """Clusters that nobody calls, side by side: memory in MiB, and processor time in percent of a core."""
    with contextlib.ExitStack() as stack:
        clusters = {kind: stack.enter_context(Cluster((kind,) * 3)) for kind in kinds}
        for cluster in clusters.values():
            cluster.leader()
        time.sleep(8)  # New members still prepare their files.
        before, since = {kind: cpu_seconds(cluster) for kind, cluster in clusters.items()}, time.monotonic()
        time.sleep(seconds)
        return {kind: {"memory": memory_mib(cluster),
                       "processor": (cpu_seconds(cluster) - before[kind]) / (time.monotonic() - since) * 100}
                for kind, cluster in clusters.items()}


def curve(kind, seconds):
    """Puts with one call in flight on each of more and more connections."""
    points = []
    with Cluster((kind,) * 3) as cluster:
        endpoint = cluster.leader().endpoint
        fill(endpoint, KEYS)
        for connections in CURVE:
            settle(cluster, endpoint)
            endpoint = cluster.leader().endpoint
            try:
                row = bench(endpoint, "put", f"--connections={connections}", "-d", str(seconds), "--warm-up", "0.5")["results"]["put"]
            except NothingAnswered:
                # So overrun that it refuses everything: nobody is answered within that time.
                row = {"per_second": 0, "p99": seconds * 1e6}
            points.append({"connections": connections, "rate": row["per_second"], "p99": row["p99"]})
            print(f"  {connections} connections: {row['per_second']:,.0f}/s, p99 {row['p99'] / 1000:.1f} ms", flush=True)
    return points


def at_rates(kind, rates, seconds):
    """Puts sent by the clock; times count from when each was due."""
    results = []
    with Cluster((kind,) * 3) as cluster:
        endpoint = cluster.leader().endpoint
        fill(endpoint, KEYS)
        for rate in rates:
            settle(cluster, endpoint)
            endpoint = cluster.leader().endpoint
            report = bench(endpoint, "put", *MANY, "--rate", str(rate), "-d", str(seconds), "--warm-up", "1")
            row = report["results"]["put"]
            results.append({"offered": rate, "rate": row["per_second"], "p50": row["p50"], "p99": row["p99"],
                            "unanswered": report["unanswered"]})
    return results


def million(kind, keys=1_000_000):
    """One member with a million keys of 256 B: memory, and the time of a restart until it serves them."""
    with Cluster((kind,), flags=LARGE_QUOTA) as cluster:
        member = cluster.members[0]
        fill(member.endpoint, keys)
        settle(cluster, member.endpoint)
        memory = memory_mib(cluster)
        member.stop(60)
        started = time.monotonic()
        member.start()
        get = grpc.insecure_channel(member.endpoint, options=[("grpc.initial_reconnect_backoff_ms", 50),
                                                              ("grpc.max_reconnect_backoff_ms", 100)])
        request = field(1, b"bench/") + field(2, b"bench0") + varint(9 << 3) + b"\1"
        get.unary_unary("/etcdserverpb.KV/Range")(request, timeout=120, wait_for_ready=True)
        return {"memory": memory, "restart": time.monotonic() - started}


def medians(rounds):
    """Of figures in dictionaries that look alike."""
    return {what: statistics.median(each[what] for each in rounds) for what in rounds[0]}


class Run:
    """What is measured, part by part; every part replaces the figures that it had."""

    def __init__(self, options, kinds):
        self.options, self.kinds = options, kinds
        self.figures = json.loads(FIGURES.read_text()) if FIGURES.exists() and options.only and not options.quick else {}
        if self.figures and self.figures["kinds"] != kinds:
            raise SystemExit(f"{FIGURES.name} is about {', '.join(self.figures['kinds'])}: measure all parts")
        self.figures |= {"kinds": kinds, "cores": os.cpu_count(), "machine": platform.machine(), "keys": KEYS, "goals": GOALS}

    def keep(self, part, value):
        self.figures[part] = value
        self.figures.setdefault("measured", {})[part] = f"{datetime.datetime.now():%Y-%m-%d %H:%M}"

    def workloads(self, names):
        rounds = {kind: [] for kind in self.kinds}
        for number in range(self.options.rounds):
            for kind in self.kinds:
                print(f"round {number + 1} of {self.options.rounds}: {kind}", flush=True)
                rounds[kind].append(measure(kind, self.options.seconds, names))
        kept = {} if names is None else dict(self.figures.get("workloads", {}))
        for name in rounds[self.kinds[0]][0]:
            # After a few of the workloads memory means something else.
            if name == "memory" and names is not None:
                continue
            kept[name] = {kind: [each[name] for each in rounds[kind]] for kind in self.kinds}
        self.keep("workloads", kept)
        if names is None or "rounds" not in self.figures:
            self.figures |= {"rounds": self.options.rounds, "seconds": self.options.seconds}

    def idle(self):
        self.keep("idle", idle(self.kinds))

    def rates(self):
        """90 and 100 percent of what the fastest peer made without a clock, for it and for Apus."""
        if PEAK not in self.figures.get("workloads", {}):
            raise SystemExit(f"rates are taken from {PEAK}: measure that first")
        peaks = {kind: statistics.median(each["rate"] for each in self.figures["workloads"][PEAK][kind]) for kind in self.kinds[1:]}
        peer = max(peaks, key=peaks.get)
        rates = [round(peaks[peer] * share / 100) * 100 for share in SHARES]
        rounds = {kind: [] for kind in (self.kinds[0], peer)}
        for _ in range(self.options.rounds):
            for kind in rounds:
                rounds[kind].append(at_rates(kind, rates, self.options.seconds))
        self.keep("rates", {kind: [medians(each) for each in zip(*parts)] for kind, parts in rounds.items()})

    def million(self):
        self.keep("million", {kind: million(kind) for kind in self.kinds})

    def curves(self):
        curves = {}
        for kind in self.kinds:
            print(f"connections: {kind}", flush=True)
            curves[kind] = curve(kind, min(2, self.options.seconds))
        self.keep("curves", curves)


PARTS = ["idle", "workloads", "rates", "million", "curves"]


def version_of(program):
    """`etcd 3.4.23`, from the first line that the program prints about itself."""
    line = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout.splitlines()[0]
    return line.replace(" Version:", "")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3, help="of each load")
    parser.add_argument("--peer", action="append", help="an etcd to compare with; may be given again (default: Debian's and PyPI's)")
    parser.add_argument("--only", action="append", metavar="NAME",
                        help=f"measure only this part ({', '.join(PARTS)}) or workload again; may be given again")
    parser.add_argument("--quick", action="store_true", help="the workloads alone")
    parser.add_argument("--no-write", action="store_true", help="print the tables, and leave docs/ alone")
    options = parser.parse_args()
    if options.quick:
        options.only = (options.only or []) + ["workloads"]
    unknown = set(options.only or []) - set(PARTS) - set(GOALS)
    if unknown:
        parser.error(f"no part or workload: {', '.join(sorted(unknown))}. Workloads: {'; '.join(GOALS)}")
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit[1], limit[1]))
    peers = {version_of(peer): pathlib.Path(peer) for peer in options.peer or [PROGRAMS["etcd34"], PROGRAMS["etcd35"]]}
    PROGRAMS.update(peers)
    run = Run(options, ["apus", *peers])
    started = time.monotonic()
    for part in PARTS:
        names = set(options.only or []) & set(GOALS) if part == "workloads" else set()
        if options.only is None or part in options.only or names:
            run.workloads(names or None) if part == "workloads" else getattr(run, part)()
            print(f"{part}: done after {time.monotonic() - started:.0f} s", flush=True)
            # After each part: what a later one runs into must not cost the others.
            if not options.no_write:
                FIGURES.write_text(json.dumps(run.figures, indent=1) + "\n")
                benchmark_page.write(run.figures)
    print("\n" + benchmark_page.text(run.figures), flush=True)


if __name__ == "__main__":
    main()
