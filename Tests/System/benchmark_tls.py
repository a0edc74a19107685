"""What TLS costs: the same load on plain ports, on secure client ports, and with secure peers as well."""

import argparse
import re
import statistics
import struct
import subprocess
import tempfile

from benchmark import cpu_seconds
from certificates import Authority
from harness import Cluster

CONNECTIONS, STREAMS = 16, 64
KEY = b"benchmark/key-0001"


def framed(*fields):
    message = b"".join(bytes([number << 3 | 2]) + length(data) + data for number, data in fields)
    return b"\0" + struct.pack(">I", len(message)) + message


def length(data):
    return bytes([len(data)]) if len(data) < 128 else bytes([len(data) & 127 | 128, len(data) >> 7])


WORKLOADS = {"put": ("Put", framed((1, KEY), (2, b"v" * 256))), "linearizable read": ("Range", framed((1, KEY)))}
NAMES = list(WORKLOADS)


def drive(cluster, leader, method, body, seconds):
    """One load by h2load, which speaks TLS; apus-bench does not."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(body)
        file.flush()
        before = cpu_seconds(cluster)
        done = subprocess.run(
            ["h2load", "-c", str(CONNECTIONS), "-m", str(STREAMS), "-t", "1", "-D", str(seconds), "-d", file.name,
             "-H", "content-type: application/grpc", "-H", "te: trailers",
             f"{leader.client_url}/etcdserverpb.KV/{method}"],
            capture_output=True, text=True, timeout=seconds + 60, check=True)
        used = cpu_seconds(cluster) - before
    succeeded = int(re.search(r"(\d+) succeeded", done.stdout).group(1))
    rate = float(re.search(r"finished in [\d.]+m?s, ([\d.]+) req/s", done.stdout).group(1))
    return {"rate": rate, "cpu_us": used / max(succeeded, 1) * 1e6}


def clusters(authority):
    client = authority.server_flags("server")
    peer = [*authority.server_flags("server", prefix="peer-"), "--peer-trusted-ca-file", authority.root,
            "--peer-client-cert-auth"]
    return {
        "plain": {},
        "clients": {"client_scheme": "https", "flags": client, "ctl_flags": authority.ctl_flags()},
        "clients and peers": {"client_scheme": "https", "peer_scheme": "https", "flags": client + peer,
                              "ctl_flags": authority.ctl_flags()},
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        authority = Authority(folder)
        authority.sign("server")
        kinds = clusters(authority)
        rates = {(kind, name): [] for kind in kinds for name in NAMES}
        for _ in range(options.rounds):
            for kind, settings in kinds.items():
                with Cluster(**settings) as cluster:
                    leader = cluster.leader()
                    for name, (method, body) in WORKLOADS.items():
                        if method == "Range":
                            cluster.ctl("put", "benchmark/key-0001", "v" * 256, check=True)
                        result = drive(cluster, leader, method, body, options.seconds)
                        rates[kind, name].append(result)
    print("| workload | TLS | requests | of plain | CPU/request |\n| --- | --- | --- | --- | --- |")
    for name in NAMES:
        plain = statistics.median(each["rate"] for each in rates["plain", name])
        for kind in kinds:
            rate = statistics.median(each["rate"] for each in rates[kind, name])
            cpu = statistics.median(each["cpu_us"] for each in rates[kind, name])
            print(f"| {name} | {kind} | {rate:,.0f}/s | {rate / plain:.0%} | {cpu:.0f} us |")


if __name__ == "__main__":
    main()
