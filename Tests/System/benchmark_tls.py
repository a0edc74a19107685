"""What TLS costs: the same load on plain ports, on secure client ports, and with secure peers as well."""

import argparse
import statistics
import tempfile

from certificates import Authority
from harness import Cluster
from load import drive, fill, settle

MANY = ["--connections=16", "--streams=64"]
WORKLOADS = {"put": ["put", *MANY], "linearizable read": ["range", *MANY]}


def clusters(authority):
    """Settings of clusters, and what apus-bench needs to reach them, by name."""
    client = authority.server_flags("server")
    peer = [*authority.server_flags("server", prefix="peer-"), "--peer-trusted-ca-file", authority.root,
            "--peer-client-cert-auth"]
    secure = {"client_scheme": "https", "ctl_flags": authority.ctl_flags()}
    return {
        "plain": ({}, []),
        "clients": (secure | {"flags": client}, authority.ctl_flags()),
        "clients and peers": (secure | {"peer_scheme": "https", "flags": client + peer}, authority.ctl_flags()),
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--seconds", type=int, default=3)
    parser.add_argument("--kind", default="apus", help="or etcd34, etcd35")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        authority = Authority(folder)
        authority.sign("server")
        kinds = clusters(authority)
        seen = {(kind, name): [] for kind in kinds for name in WORKLOADS}
        for _ in range(options.rounds):
            for kind, (settings, access) in kinds.items():
                with Cluster((options.kind,) * 3, **settings) as cluster:
                    url = cluster.leader().client_url
                    fill(url, 100_000, access=access)
                    for name, arguments in WORKLOADS.items():
                        settle(cluster, url, access)
                        seen[kind, name].append(drive(cluster, url, [*arguments, *access], options.seconds))
    print("| workload | TLS | requests | of plain | CPU/request |\n| --- | --- | --- | --- | --- |")
    for name in WORKLOADS:
        plain = statistics.median(each["rate"] for each in seen["plain", name])
        for kind in kinds:
            rate = statistics.median(each["rate"] for each in seen[kind, name])
            cpu = statistics.median(each["cpu_us"] for each in seen[kind, name])
            print(f"| {name} | {kind} | {rate:,.0f}/s | {rate / plain:.0%} | {cpu:.0f} us |")


if __name__ == "__main__":
    main()
