"""Apus beside etcd under the same load on the same machine: alternating rounds, medians, ratios, curves."""

import argparse
import datetime
import json
import os
import pathlib
import platform
import re
import resource
import statistics
import subprocess
import tempfile
import time

import grpc
import plots
from harness import BUILD, PROGRAMS, ROOT, Cluster

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
BENCH = BUILD / "apus-bench"
PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- written by scripts/bench: begin -->", "<!-- written by scripts/bench: end -->"
LARGE_QUOTA = ["--quota-backend-bytes", str(8 << 30)]

SPAN = ["--span", "100", "--key-space", "10000"]
# name, arguments of apus-bench, goal as text
WORKLOADS = [
    ("put, 1 connection", ["put"], "latency <= 0.5x"),
    ("put, 16 x 64", ["put", "--connections=16", "--streams=64"], ">= 5x"),
    ("put, 128 x 1", ["put", "--connections=128"], ">= 3x"),
    ("linearizable read, 16 x 64", ["range", "--connections=16", "--streams=64"], ">= 3x"),
    ("linearizable read, 128 x 1", ["range", "--connections=128"], ">= 2.5x"),
    ("serializable read, 16 x 64", ["range", "--connections=16", "--streams=64", "--serializable"], ">= 3x"),
    ("serializable read, 128 x 1", ["range", "--connections=128", "--serializable"], ">= 1.8x"),
    ("range of 100 keys, 16 x 4", ["range", "--connections=16", "--streams=4", *SPAN], ">= 3x"),
    ("txn compare-and-put, 16 x 64", ["txn", "--connections=16", "--streams=64"], ">= 5x"),
    ("9 reads to 1 put, 16 x 16", ["mixed", "--connections=16", "--streams=16"], ""),
    ("lease keepalive, 16 x 16", ["lease-keepalive", "--connections=16", "--streams=16", "--leases", "1000"], ""),
    ("watch, 200 on one prefix", ["watch", "--watchers", "200", "--connections=4", "--streams=5"], ">= 2x"),
]
CURVE = [1, 4, 16, 64, 256, 1000, 4000, 10000]


def varint(value):
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def cpu_seconds(cluster):
    total = 0
    for member in cluster.members:
        fields = pathlib.Path(f"/proc/{member.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        total += int(fields[11]) + int(fields[12])
    return total / CLOCK_TICKS


def resident_mib(cluster):
    total = 0
    for member in cluster.members:
        status = pathlib.Path(f"/proc/{member.process.pid}/status").read_text()
        total += int(re.search(r"VmRSS:\s+(\d+)", status).group(1))
    return total / 1024


def bench(endpoint, *arguments):
    """What apus-bench reports; times are microseconds."""
    done = subprocess.run([str(BENCH), *arguments, "-e", endpoint, "--json", "--quiet"],
                          capture_output=True, text=True, timeout=600)
    if done.returncode != 0:
        raise AssertionError(f"apus-bench {arguments}: {done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def fill(endpoint, keys, size=256):
    """Puts every key of a key space once, a hundred to a transaction."""
    bench(endpoint, "txn", "--puts", "100", "--sequential", "--key-space", str(keys), "--total", str(keys // 100),
          "--connections=4", "--streams=8", "--value-size", str(size))


def drive(cluster, leader, arguments, seconds):
    before = cpu_seconds(cluster)
    report = bench(leader.endpoint, *arguments, "-d", str(seconds))
    used = cpu_seconds(cluster) - before
    results = report["results"]
    row = results.get("all") or results.get("event") or next(iter(results.values()))
    return {"rate": row["per_second"], "p50": row["p50"], "p99": row["p99"], "failed": sum(report["errors"].values()),
            "cpu_us": used / max(row["count"], 1) * 1e6,
            "generator_us": report.get("generator_cpu_us_per_call") or report.get("generator_cpu_us_per_event")}


def measure(kind, seconds, names=None):
    """Runs the workloads (all, or those named) on a fresh cluster of that kind."""
    results = {}
    with Cluster((kind,) * 3) as cluster:
        leader = cluster.leader()
        if names is None:
            results["resident memory, idle"] = {"rate": resident_mib(cluster)}
            time.sleep(5)  # New members still prepare their files.
            before = cpu_seconds(cluster)
            time.sleep(2)
            results["processor time, idle"] = {"rate": (cpu_seconds(cluster) - before) / 2 * 100}
        filled = False
        for name, arguments, _ in WORKLOADS:
            if names is not None and name not in names:
                continue
            if not filled and arguments[0] in ("range", "mixed"):
                fill(leader.endpoint, 100_000 if names is None else 1000)
                filled = True
            if arguments[0] == "lease-keepalive":
                bench(leader.endpoint, "lease-grant", "--total", "1000", "--streams=16")
            if arguments[0] == "watch":
                # Its own prefix, so that history of the others is not in the way.
                arguments = [*arguments, "--prefix", "watched/"]
            results[name] = drive(cluster, leader, arguments, seconds)
        results["resident memory, after the run"] = {"rate": resident_mib(cluster)}
    return results


def curve(kind, seconds):
    """Puts with one call in flight on each of more and more connections."""
    points = []
    with Cluster((kind,) * 3) as cluster:
        leader = cluster.leader()
        for connections in CURVE:
            report = bench(leader.endpoint, "put", f"--connections={connections}", "-d", str(seconds), "--warm-up", "1")
            row = report["results"]["put"]
            points.append((connections, row["per_second"], row["p99"] / 1000))
            print(f"  {connections} connections: {row['per_second']:,.0f}/s, p99 {row['p99'] / 1000:.1f} ms", flush=True)
    return points


def p99_at(kind, rate, seconds):
    with Cluster((kind,) * 3) as cluster:
        row = bench(cluster.leader().endpoint, "put", "--connections=16", "--streams=64", "--rate", str(rate), "-d", str(seconds),
                    "--warm-up", "1")["results"]["put"]
        return row["p99"] / 1000


def million(kind, keys=1_000_000):
    """One member with a million keys of 256 B: memory, and the time of a restart until it serves them."""
    with Cluster((kind,), flags=LARGE_QUOTA) as cluster:
        fill(cluster.endpoints[0], keys)
        time.sleep(2)
        memory = resident_mib(cluster)
        cost = []
        for space in (10_000, 100_000, 1_000_000):
            row = drive(cluster, cluster.members[0], ["range", "--connections=16", "--streams=16", "--key-space", str(space)], 2)
            cost.append(row["cpu_us"])
        member = cluster.members[0]
        member.stop(60)
        started = time.monotonic()
        member.start()
        get = grpc.insecure_channel(member.endpoint, options=[("grpc.initial_reconnect_backoff_ms", 50),
                                                              ("grpc.max_reconnect_backoff_ms", 100)])
        request = field(1, b"bench/") + field(2, b"bench0") + varint(9 << 3) + b"\1"
        get.unary_unary("/etcdserverpb.KV/Range")(request, timeout=120, wait_for_ready=True)
        return {"memory": memory, "restart": time.monotonic() - started, "cost": cost}


def p99_of_puts(endpoint, seconds):
    """Milliseconds of the slowest hundredth of puts, one after the other on one connection."""
    return bench(endpoint, "put", "-d", str(seconds))["results"]["put"]["p99"] / 1000


def measure_long_ranges(kind, seconds, keys=1_000_000):
    """p99 of puts alone, and while others page over a million keys and ask for all of them at once."""
    with Cluster((kind,), flags=LARGE_QUOTA) as cluster:
        endpoint = cluster.endpoints[0]
        fill(endpoint, keys, size=64)
        alone = p99_of_puts(endpoint, seconds)
        readers = [subprocess.Popen(
            [str(BENCH), "range", "-e", endpoint, "--quiet", "--key-space", str(keys), "--span", str(span),
             "-d", str(seconds + 2)], stdout=subprocess.DEVNULL) for span in (keys, 10_000)]
        time.sleep(1)
        beside = p99_of_puts(endpoint, seconds)
        for each in readers:
            each.wait()
    return {"alone": alone, "beside": beside}


def median(rounds, kind, name, what):
    return statistics.median(each[name][what] for each in rounds[kind])


def workload_table(rounds):
    lines = ["| workload | Apus | etcd | ratio | goal | p50, p99 Apus | p50, p99 etcd | CPU per call Apus | etcd |",
             "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"]
    for name, _, goal in WORKLOADS:
        ours, theirs = (lambda what: median(rounds, "apus", name, what)), (lambda what: median(rounds, "etcd34", name, what))
        lines.append(
            f"| {name} | {ours('rate'):,.0f}/s | {theirs('rate'):,.0f}/s | **{ours('rate') / theirs('rate'):.1f}x** | {goal} "
            f"| {ours('p50') / 1000:.2f}, {ours('p99') / 1000:.1f} ms | {theirs('p50') / 1000:.2f}, {theirs('p99') / 1000:.1f} ms "
            f"| {ours('cpu_us'):.1f} us | {theirs('cpu_us'):.1f} us |")
    name = WORKLOADS[0][0]
    ours, theirs = median(rounds, "apus", name, "p50"), median(rounds, "etcd34", name, "p50")
    lines.append(f"| put latency, 1 connection, median | {ours:.0f} us | {theirs:.0f} us | **{ours / theirs:.2f}x** | <= 0.5x | | | | |")
    for name, goal in (("resident memory, idle", "<= 0.3x"), ("resident memory, after the run", "")):
        ours, theirs = median(rounds, "apus", name, "rate"), median(rounds, "etcd34", name, "rate")
        lines.append(f"| {name}, three members | {ours:,.0f} MiB | {theirs:,.0f} MiB | **{ours / theirs:.2f}x** | {goal} | | | | |")
    name = "processor time, idle"
    lines.append(f"| {name}, three members | {median(rounds, 'apus', name, 'rate'):.1f} % | {median(rounds, 'etcd34', name, 'rate'):.1f} % "
                 f"| | <= 1 % of a core | | | | |")
    return "\n".join(lines)


def scale_part(options, rounds):
    """Curves, fixed rate, a million keys: the slow half of a full run."""
    rate = int(median(rounds, "etcd34", "put, 16 x 64", "rate"))
    fixed = {kind: statistics.median(p99_at(kind, rate, options.seconds) for _ in range(3)) for kind in rounds}
    large = {kind: million(kind) for kind in rounds}
    ranges = {kind: measure_long_ranges(kind, options.seconds) for kind in rounds}
    curves = {kind: curve(kind, options.seconds) for kind in rounds}
    titles = {"apus": "Apus", "etcd34": "etcd"}
    for number, name, title in ((1, "throughput", "Puts per second over connections"), (2, "p99", "p99 of puts in ms over connections")):
        series = {titles[kind]: [(point[0], point[number]) for point in points] for kind, points in curves.items()}
        (ROOT / "docs" / f"benchmark-{name}.svg").write_text(plots.lines(title, series))
    table = ["| more | Apus | etcd | ratio | goal |", "| --- | --- | --- | --- | --- |"]

    def row(name, ours, theirs, unit, goal):
        table.append(f"| {name} | {ours:,.1f} {unit} | {theirs:,.1f} {unit} | **{ours / theirs:.2f}x** | {goal} |")

    row(f"p99 of puts at {rate:,}/s, the peer's own maximum", fixed["apus"], fixed["etcd34"], "ms", "<= 0.5x")
    row("resident memory, a million keys of 256 B, one member", large["apus"]["memory"], large["etcd34"]["memory"], "MiB", "<= 0.5x")
    row("restart to serving with a million keys", large["apus"]["restart"], large["etcd34"]["restart"], "s", "<= 0.3x")
    for place, space in enumerate(("10,000", "100,000", "1,000,000")):
        row(f"CPU per read, keys from {space} of a million", large["apus"]["cost"][place], large["etcd34"]["cost"][place], "us", "flat")
    row("p99 of puts, a million keys, alone", ranges["apus"]["alone"], ranges["etcd34"]["alone"], "ms", "")
    row("beside clients that page over all keys and ask for all at once", ranges["apus"]["beside"], ranges["etcd34"]["beside"], "ms", "")
    table += ["", "![Puts per second over connections](benchmark-throughput.svg)", "", "![p99 over connections](benchmark-p99.svg)", "",
              "| connections | " + " | ".join(f"{each:,}" for each in CURVE) + " |", "| --- " * (len(CURVE) + 1) + "|"]
    for kind, points in curves.items():
        table.append(f"| {titles[kind]}, puts/s | " + " | ".join(f"{point[1]:,.0f}" for point in points) + " |")
        table.append(f"| {titles[kind]}, p99 ms | " + " | ".join(f"{point[2]:,.1f}" for point in points) + " |")
    return "\n".join(table)


def write_page(text):
    """Replaces the written part of the page; what stands before and behind it is kept."""
    page = PAGE.read_text() if PAGE.exists() else ""
    if BEGIN in page and END in page:
        before, after = page.split(BEGIN, 1)[0], page.split(END, 1)[1]
    else:
        before, after = "# Benchmarks\n\n", "\n"
    PAGE.write_text(f"{before}{BEGIN}\n{text}\n{END}{after}")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--peer", default=str(PROGRAMS["etcd34"]), help="the etcd to compare with")
    parser.add_argument("--quick", action="store_true", help="leave out curves, fixed rate and a million keys")
    parser.add_argument("--no-write", action="store_true", help="leave docs/ alone")
    options = parser.parse_args()
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit[1], limit[1]))
    version = subprocess.run([options.peer, "--version"], capture_output=True, text=True).stdout.splitlines()[0]
    rounds = {"apus": [], "etcd34": []}
    PROGRAMS["etcd34"] = pathlib.Path(options.peer)
    for number in range(options.rounds):
        for kind in rounds:
            print(f"round {number + 1}/{options.rounds}: {'Apus' if kind == 'apus' else version}", flush=True)
            rounds[kind].append(measure(kind, options.seconds))
    text = f"""Written by `scripts/bench` on {datetime.date.today()}: three members of each on one machine with {os.cpu_count()} cores
({platform.machine()}), `apus-bench` on the leader, fsync on, medians of {options.rounds} alternating rounds of {options.seconds} s, values of 256 B,
100,000 keys at random. Peer: {version}. CPU is that of all three members; the generator shares their cores. "16 x 64" is 16
connections with 64 calls in flight each. Absolute figures belong to the machine; the ratios are what to look at.

{workload_table(rounds)}"""
    print("\n" + text, flush=True)
    if not options.quick:
        more = scale_part(options, rounds)
        print("\n" + more, flush=True)
        text += "\n\n" + more
    if not options.no_write:
        write_page(text)


if __name__ == "__main__":
    main()
