"""What TLS costs: the same load on plain ports, on secure client ports, and with secure peers as well."""

import argparse
import statistics
import tempfile

from benchmark import WORKLOADS, drive
from certificates import Authority
from harness import Cluster

NAMES = ["put, 16 x 64", "linearizable read, 16 x 64"]


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
    workloads = [each for each in WORKLOADS if each[0] in NAMES]
    with tempfile.TemporaryDirectory() as folder:
        authority = Authority(folder)
        authority.sign("server")
        kinds = clusters(authority)
        rates = {(kind, name): [] for kind in kinds for name in NAMES}
        for _ in range(options.rounds):
            for kind, settings in kinds.items():
                with Cluster(**settings) as cluster:
                    leader = cluster.leader()
                    for name, method, body, connections, streams in workloads:
                        if method == "Range":
                            cluster.ctl("put", "benchmark/key-0001", "v" * 256, check=True)
                        result = drive(cluster, leader, method, body, connections, streams, options.seconds)
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
