"""Load on clusters of real processes by apus-bench, and what it costs their members."""

import itertools
import json
import os
import pathlib
import re
import subprocess
import time

from harness import BUILD

CLOCK_TICKS = os.sysconf("SC_CLK_TCK")
BENCH = BUILD / "apus-bench"
LARGE_QUOTA = ["--quota-backend-bytes", str(64 << 30)]
# Leases of settle() have numbers from here on.
settle_leases = itertools.count(1 << 40)


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


def memory_mib(cluster, what="VmRSS"):
    total = 0
    for member in cluster.members:
        status = pathlib.Path(f"/proc/{member.process.pid}/status").read_text()
        total += int(re.search(rf"{what}:\s+(\d+)", status).group(1))
    return total / 1024


class NothingAnswered(AssertionError):
    """Every call of a load was refused, or waited for longer than the load went on."""


def bench(endpoint, *arguments):
    """What apus-bench reports; times are microseconds."""
    done = subprocess.run([str(BENCH), *arguments, "-e", endpoint, "--json", "--quiet"],
                          capture_output=True, text=True, timeout=900)
    # Without refusals it is no error to have no answer in time.
    nothing = '"results": {}' in done.stdout
    if done.returncode != 0 or nothing:
        kind = NothingAnswered if nothing else AssertionError
        raise kind(f"apus-bench {arguments}: {done.stdout}{done.stderr}")
    return json.loads(done.stdout)


def fill(endpoint, keys, size=256, access=()):
    """Puts every key of a key space once, a hundred to a transaction."""
    bench(endpoint, "txn", "--puts", "100", "--sequential", "--key-space", str(keys), "--total", str(keys // 100),
          "--connections=4", "--streams=8", "--value-size", str(size), *access)


def settle(cluster, endpoint, access=(), limit=40):
    """Waits until nothing that went before is still being worked off; returns whether that came about.

    Twice in a row a put and a linearizable read have to be answered within 20 ms, and the members have to take less
    than a tenth of a core together. A lease is granted each time: etcd 3.4 keeps the buffer of its last puts, and
    copies it for every read, until it commits something else.
    """
    started, quiet = time.monotonic(), 0
    while quiet < 2:
        before, since = cpu_seconds(cluster), time.monotonic()
        slowest = max(bench(endpoint, command, "--total", "3", "--prefix", "settle/", "--key-space", "1",
                            *access)["results"][command]["max"] / 1000 for command in ("put", "range"))
        time.sleep(0.15)
        bench(endpoint, "lease-grant", "--total", "1", "--first", str(next(settle_leases)), *access)
        time.sleep(0.15)
        busy = (cpu_seconds(cluster) - before) / (time.monotonic() - since)
        quiet = quiet + 1 if busy < 0.1 and slowest < 20 else 0
        waited = time.monotonic() - started
        if quiet == 0 and waited > 3:
            print(f"    not quiet after {waited:.0f} s: {busy:.0%} of a core, slowest answer {slowest:.0f} ms", flush=True)
        if quiet == 0 and waited > limit:
            return False
    return True


def drive(cluster, endpoint, arguments, seconds):
    """One load, and the processor time that all members take for one of its calls."""
    before = cpu_seconds(cluster)
    report = bench(endpoint, *arguments, "-d", str(seconds))
    used = cpu_seconds(cluster) - before
    results = report["results"]
    row = results.get("all") or results.get("event") or next(iter(results.values()))
    return {"rate": row["per_second"], "p50": row["p50"], "p99": row["p99"], "failed": sum(report["errors"].values()),
            "unanswered": report["unanswered"], "cpu_us": used / max(row["count"], 1) * 1e6,
            "generator_us": report.get("generator_cpu_us_per_call") or report.get("generator_cpu_us_per_event")}
