"""Apus beside etcd under the same load on the same machine: alternating rounds, medians, ratios."""

import argparse
import datetime
import os
import pathlib
import platform
import re
import statistics
import struct
import subprocess
import tempfile
import time

import grpc
from harness import PROGRAMS, ROOT, Cluster

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")


def varint(value):
    out = b""
    while value > 0x7F:
        out += bytes([value & 0x7F | 0x80])
        value >>= 7
    return out + bytes([value])


def field(number, data):
    return varint(number << 3 | 2) + varint(len(data)) + data


def framed(message):
    return b"\0" + struct.pack(">I", len(message)) + message


KEY = b"benchmark/key-0001"
PUT = framed(field(1, KEY) + field(2, b"v" * 256))
LINEARIZABLE = framed(field(1, KEY))
SERIALIZABLE = framed(field(1, KEY) + varint(7 << 3) + b"\1")

# name, method, body, connections, streams per connection
WORKLOADS = [
    ("put, 1 connection", "Put", PUT, 1, 1),
    ("put, 16 x 64", "Put", PUT, 16, 64),
    ("put, 128 x 1", "Put", PUT, 128, 1),
    ("linearizable read, 16 x 64", "Range", LINEARIZABLE, 16, 64),
    ("linearizable read, 128 x 1", "Range", LINEARIZABLE, 128, 1),
    ("serializable read, 16 x 64", "Range", SERIALIZABLE, 16, 64),
    ("serializable read, 128 x 1", "Range", SERIALIZABLE, 128, 1),
]


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


def drive(cluster, leader, method, body, connections, streams, seconds):
    with tempfile.NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        before, started = cpu_seconds(cluster), time.monotonic()
        done = subprocess.run(
            ["h2load", "-c", str(connections), "-m", str(streams), "-t", "1", "-D", str(seconds), "-d", file.name,
             "-H", "content-type: application/grpc", "-H", "te: trailers",
             f"{leader.client_url}/etcdserverpb.KV/{method}"],
            capture_output=True, text=True, timeout=seconds + 60, check=True)
        used = cpu_seconds(cluster) - before
    wall = time.monotonic() - started
    counts = re.search(r"requests: (\d+) total, (\d+) started, (\d+) done, (\d+) succeeded, (\d+) failed", done.stdout)
    succeeded = int(counts.group(4))
    rate = float(re.search(r"finished in [\d.]+m?s, ([\d.]+) req/s", done.stdout).group(1))
    mean = re.search(r"time for request:\s+\S+\s+\S+\s+(\S+)", done.stdout).group(1)
    return {"rate": rate, "mean": mean, "cpu_us": used / max(succeeded, 1) * 1e6, "busy": used / wall}


def measure(kind, seconds, names=None):
    """Runs the workloads (all, or those named) on a fresh cluster of that kind."""
    results = {}
    with Cluster((kind,) * 3) as cluster:
        leader = cluster.leader()
        for name, method, body, connections, streams in WORKLOADS:
            if names is not None and name not in names:
                continue
            if method == "Range":
                cluster.ctl("put", KEY.decode(), "v" * 256, check=True)
            results[name] = drive(cluster, leader, method, body, connections, streams, seconds)
        results["resident memory"] = {"rate": resident_mib(cluster)}
    return results


def p99_of_puts(endpoint, seconds):
    """Milliseconds of the slowest hundredth of puts, one after the other on one connection."""
    put = grpc.insecure_channel(endpoint).unary_unary("/etcdserverpb.KV/Put")
    body, times, end = PUT[5:], [], time.monotonic() + seconds
    while time.monotonic() < end:
        started = time.perf_counter()
        put(body, timeout=30)
        times.append(time.perf_counter() - started)
    return sorted(times)[len(times) * 99 // 100] * 1000


def measure_long_ranges(kind, seconds, keys=1_000_000):
    """p99 of puts alone, and while others page over a million keys and ask for all of them at once."""
    whole = field(1, b"long/") + field(2, b"long0")
    with Cluster((kind,), flags=["--quota-backend-bytes", str(8 << 30)]) as cluster:
        endpoint = cluster.endpoints[0]
        txn = grpc.insecure_channel(endpoint).unary_unary("/etcdserverpb.KV/Txn")
        pending = []
        for first in range(0, keys, 100):
            operations = b"".join(
                field(2, field(2, field(1, b"long/%08d" % number) + field(2, b"v" * 64)))
                for number in range(first, first + 100))
            pending.append(txn.future(operations, timeout=60))
            if len(pending) == 64:
                for each in pending:
                    each.result()
                pending = []
        for each in pending:
            each.result()
        alone = p99_of_puts(endpoint, seconds)
        with tempfile.NamedTemporaryFile() as all_keys, tempfile.NamedTemporaryFile() as page:
            all_keys.write(framed(whole))
            page.write(framed(whole + varint(3 << 3) + varint(10_000)))
            all_keys.flush()
            page.flush()
            readers = [subprocess.Popen(
                ["h2load", "-c", "1", "-m", "1", "-w", "24", "-W", "24", "-D", str(seconds + 2), "-d", file.name,
                 "-H", "content-type: application/grpc", "-H", "te: trailers",
                 f"http://{endpoint}/etcdserverpb.KV/Range"], stdout=subprocess.DEVNULL) for file in (all_keys, page)]
            time.sleep(1)
            beside = p99_of_puts(endpoint, seconds)
            for each in readers:
                each.wait()
    return {"alone": alone, "beside": beside}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--peer", default=str(PROGRAMS["etcd34"]), help="the etcd to compare with")
    parser.add_argument("--no-write", action="store_true", help="leave docs/benchmarks.md alone")
    options = parser.parse_args()
    version = subprocess.run([options.peer, "--version"], capture_output=True, text=True).stdout.splitlines()[0]
    rounds = {"apus": [], "etcd34": []}
    PROGRAMS["etcd34"] = pathlib.Path(options.peer)
    for number in range(options.rounds):
        for kind in rounds:
            print(f"round {number + 1}/{options.rounds}: {'Apus' if kind == 'apus' else version}", flush=True)
            rounds[kind].append(measure(kind, options.seconds))
    lines = ["| workload | Apus | etcd | ratio | Apus CPU/request | etcd CPU/request |", "| --- | --- | --- | --- | --- | --- |"]

    def median(kind, name, what):
        return statistics.median(each[name][what] for each in rounds[kind])

    for name, *_ in WORKLOADS:
        ours, theirs = median("apus", name, "rate"), median("etcd34", name, "rate")
        lines.append(f"| {name} | {ours:,.0f}/s | {theirs:,.0f}/s | **{ours / theirs:.1f}x** "
                     f"| {median('apus', name, 'cpu_us'):.0f} us | {median('etcd34', name, 'cpu_us'):.0f} us |")
    ours, theirs = median("apus", "resident memory", "rate"), median("etcd34", "resident memory", "rate")
    lines.append(f"| resident memory after the run, three members | {ours:,.0f} MiB | {theirs:,.0f} MiB | **{ours / theirs:.2f}x** | | |")
    table = "\n".join(lines)
    print("\n" + table, flush=True)
    ranges = {kind: measure_long_ranges(kind, options.seconds) for kind in rounds}
    ours, theirs = ranges["apus"], ranges["etcd34"]
    more = "\n".join([
        "| p99 of puts, one member with a million keys | Apus | etcd |", "| --- | --- | --- |",
        f"| alone | {ours['alone']:.1f} ms | {theirs['alone']:.1f} ms |",
        f"| beside one client that pages over all keys and one that asks for all at once | {ours['beside']:.1f} ms "
        f"| {theirs['beside']:.1f} ms |"])
    print("\n" + more)
    if options.no_write:
        return
    (ROOT / "docs" / "benchmarks.md").write_text(f"""# Benchmarks

Written by `scripts/bench` on {datetime.date.today()}: three members of each on one machine with {os.cpu_count()} cores
({platform.machine()}), `h2load` on the leader, fsync on, medians of {options.rounds} alternating rounds of {options.seconds} s.
Peer: {version}. Server CPU is that of all three members. "16 x 64" is 16 connections with 64 requests in flight each.
Absolute figures belong to the machine; the ratios are what to look at.

{table}

{more}
""")


if __name__ == "__main__":
    main()
