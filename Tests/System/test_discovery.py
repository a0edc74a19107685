"""Members that find each other by DNS (--discovery-srv), and what they say when they do not."""

import json
import re
import subprocess
import tempfile

import pytest

import name_server
from certificates import Authority
from harness import PROGRAMS, Cluster, free_ports

pytestmark = pytest.mark.skipif(not name_server.is_possible(), reason="needs port 53 and the right to mount")

HOSTS = {f"m{index}.apus.test": "127.0.0.1" for index in (1, 2, 3)}


class DiscoveredCluster(Cluster):
    """Members whose peer URLs have names, and that are told a domain instead of each other."""

    def __init__(self, kinds, folder, service="_etcd-server._tcp.apus.test", environment=None, **more):
        super().__init__(kinds, **more)
        for member in self.members:
            member.peer_host = f"{member.name}.apus.test"
            member.environment = environment or {}
        self.bootstrap_flags = ["--discovery-srv", "apus.test"]
        self.names = name_server.NameServer(
            folder, HOSTS, {service: [(m.peer_host, m.peer_port) for m in self.members]})
        self.prefix = self.names.prefix()

    def __enter__(self):
        self.names.__enter__()
        try:
            return super().__enter__()
        except BaseException:
            self.names.__exit__()
            raise

    def __exit__(self, *_):
        super().__exit__()
        self.names.__exit__()


def identity(cluster):
    """The cluster's id, and the names and peer URLs of members by id."""
    members = json.loads(cluster.ctl("member", "list", "-w", "json", check=True).stdout)
    return (members["header"]["cluster_id"],
            {m["ID"]: (m["name"], tuple(m["peerURLs"])) for m in members["members"]})


@pytest.mark.parametrize("kinds", [("apus",) * 3, ("etcd35", "apus", "etcd35")], ids="-".join)
def test_three_members_find_each_other(tmp_path, kinds):
    with DiscoveredCluster(kinds, tmp_path) as cluster:
        cluster.ctl("put", "k", "v", check=True)
        told = identity(cluster)
        assert sorted(told[1].values()) == [
            (m.name, (f"http://{m.name}.apus.test:{m.peer_port}",)) for m in cluster.members]
        # The records make the same cluster as the flag that names everybody.
        named = ",".join(f"{m.name}=http://{m.peer_host}:{m.peer_port}" for m in cluster.members)
        for member in cluster.members:
            member.kill()
        cluster.bootstrap_flags = ["--initial-cluster", named]
        with tempfile.TemporaryDirectory() as elsewhere:
            for member in cluster.members:
                member.data = f"{elsewhere}/{member.name}"
                member.start()
            for member in cluster.members:
                member.wait_ready()
            assert identity(cluster) == told
            for member in cluster.members:
                member.kill()
        # With a log nobody is asked any more.
        cluster.bootstrap_flags = ["--discovery-srv", "nowhere.test"]
        apus = next(m for m in cluster.members if m.kind == "apus")
        asked = len(cluster.names.asked)
        for member in cluster.members:
            member.data = cluster.folder / member.name
            member.start()
        apus.wait_ready()
        assert not [name for name, _ in cluster.names.asked[asked:] if "nowhere" in name]
        assert cluster.ctl("get", "k", endpoints=[apus.endpoint], check=True).stdout == "k\nv\n"


@pytest.mark.parametrize("kind", ["apus", "etcd35"])
def test_a_certificate_of_the_domain_is_asked_for(tmp_path, kind):
    """Without a peer CA, those whom DNS names have to show a certificate of the domain."""
    authority = Authority(tmp_path / "pki")
    authority.sign("domain", names="DNS:apus.test")
    roots = {"SSL_CERT_FILE": authority.root}
    service = "_etcd-server-ssl-test._tcp.apus.test"
    flags = [*authority.server_flags("domain", prefix="peer-"), "--discovery-srv-name=test"]
    with DiscoveredCluster([kind] * 3, tmp_path, service, roots, peer_scheme="https", flags=flags) as cluster:
        cluster.ctl("put", "k", "v", check=True)
        assert all(url.startswith("https://") for _, (url,) in identity(cluster)[1].values())


def failure(kind, folder, names, advertised, *flags):
    """The error that a member ends with, without what differs from run to run."""
    client = free_ports(1)[0]
    data = tempfile.mkdtemp(dir=folder)
    done = subprocess.run(
        [*names.prefix(), str(PROGRAMS[kind]), "--name", "n1", "--data-dir", f"{data}/d",
         "--listen-client-urls", f"http://127.0.0.1:{client}", "--advertise-client-urls", f"http://127.0.0.1:{client}",
         "--listen-peer-urls", "http://127.0.0.1:0", "--initial-advertise-peer-urls", advertised, *flags],
        capture_output=True, text=True, timeout=30, env={"PATH": "/usr/bin:/bin"})
    fatal = [json.loads(line) for line in done.stderr.splitlines() if '"level":"fatal"' in line]
    assert done.returncode == 1 and fatal, done
    return re.sub(r"read udp [0-9.:>-]+: (read: )?", "", fatal[-1]["error"])


@pytest.mark.parametrize("domain, advertised", [
    ("none.test", "http://m1.apus.test:1"),
    ("mixed.test", "http://m1.apus.test:1"),
    ("lost.test", "http://m1.apus.test:1"),
    ("failing.test", "http://m1.apus.test:1"),
    ("empty.test", "http://m1.apus.test:1"),
    ("good.test", "http://m1.apus.test:9"),
    ("good.test", "http://gone.apus.test:1"),
    ("good.test", "http://127.0.0.1:1,http://127.0.0.1:9"),
])
def test_texts_are_those_of_etcd(tmp_path, domain, advertised):
    services = {
        "_etcd-server-ssl._tcp.mixed.test": [("m1.apus.test", 1)],
        "_etcd-server._tcp.lost.test": [("gone.apus.test", 1)],
        "_etcd-server._tcp.empty.test": [],
        "_etcd-server._tcp.good.test": [("gone.apus.test", 5), ("m1.apus.test", 1), ("m2.apus.test", 2)],
    }
    with name_server.NameServer(tmp_path, HOSTS, services, failing=["_etcd-server._tcp.failing.test"]) as names:
        texts = [failure(kind, tmp_path, names, advertised, "--discovery-srv", domain) for kind in ("etcd35", "apus")]
        assert texts[0] == texts[1]


def test_the_search_for_names_ends(tmp_path):
    """Nobody answers: the time that the resolver's configuration grants is all it takes."""
    names = name_server.NameServer(tmp_path)
    assert re.search(r"lookup .* on 127\.0\.53\.53:53: (i/o timeout|connection refused)",
                     failure("apus", tmp_path, names, "http://127.0.0.1:1", "--discovery-srv", "apus.test"))
