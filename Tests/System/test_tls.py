"""TLS on the client port and the peer port, with stock clients and beside real etcd members."""

import json
import os
import pathlib
import socket
import subprocess
import time

import pytest

from certificates import Authority
from harness import BUILD, ETCDCTL, Cluster, free_ports
from test_launcher import Local

APUSCTL = BUILD / "apusctl"
ENVIRONMENT = {"PATH": "/usr/bin:/bin", "ETCDCTL_API": "3"}


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    authority = Authority(tmp_path_factory.mktemp("pki"))
    # Clients take the name of a socket's file for that of the server.
    authority.sign("server", names="DNS:localhost,DNS:secure.sock,IP:127.0.0.1")
    authority.sign("alice", names="DNS:alice")
    authority.sign("mallory", names="DNS:mallory")
    return authority


@pytest.fixture(scope="module")
def stranger(tmp_path_factory):
    authority = Authority(tmp_path_factory.mktemp("other"), "other")
    authority.sign("alice")
    return authority


def mutual(authority, *flags, **options):
    """One member that asks its clients for a certificate."""
    return Cluster(("apus",), client_scheme="https", ctl_flags=authority.ctl_flags("alice"),
                   flags=[*authority.server_flags("server"), "--trusted-ca-file", authority.root,
                          "--client-cert-auth", *flags], **options)


@pytest.fixture(scope="module")
def secure(authority):
    with mutual(authority) as cluster:
        yield cluster


def curl(*arguments, timeout=5):
    return subprocess.run(["curl", "-sS", "--max-time", str(timeout), *arguments],
                          capture_output=True, text=True)


def attempt(endpoint, flags, *, version="3.5", words=("get", "k"), timeout="1s", environment=None):
    """One call that is expected to fail early."""
    program = str(APUSCTL) if version == "apus" else str(ETCDCTL[version])
    return subprocess.run([program, "--endpoints", endpoint, "--command-timeout", timeout, *flags, *words],
                          capture_output=True, text=True, timeout=20,
                          env={**(ENVIRONMENT if version != "apus" else {}), **(environment or {})})


# MARK: clients


@pytest.mark.parametrize("version", ["3.4", "3.5", "apus"])
def test_stock_clients_over_mutual_tls(secure, authority, version):
    flags = authority.ctl_flags("alice")
    endpoint = secure.endpoints[0]
    for form in (endpoint, f"https://{endpoint}"):
        put = attempt(form, flags, version=version, words=("put", f"by-{version}", form), timeout="5s")
        assert (put.returncode, put.stdout) == (0, "OK\n"), put.stderr
        get = attempt(form, flags, version=version, words=("get", f"by-{version}"), timeout="5s")
        assert get.stdout.splitlines() == [f"by-{version}", form]
    big = "x" * 1_000_000
    assert subprocess.run([str(ETCDCTL["3.5"]), "--endpoints", endpoint, *flags, "put", "big"], input=big,
                          text=True, env=ENVIRONMENT, capture_output=True).stdout == "OK\n"
    got = attempt(endpoint, flags, version=version, words=("get", "big", "--print-value-only"), timeout="5s")
    assert got.stdout.strip() == big


def test_a_watch_and_a_snapshot(secure, authority, tmp_path):
    endpoint = secure.endpoints[0]
    flags = authority.ctl_flags("alice")
    watch = subprocess.Popen([str(ETCDCTL["3.5"]), "--endpoints", endpoint, *flags, "watch", "w"],
                             stdout=subprocess.PIPE, text=True, env=ENVIRONMENT)
    try:
        time.sleep(0.3)
        for value in "123":
            secure.ctl("put", "w", value, check=True)
        assert [watch.stdout.readline() for _ in range(9)][2::3] == ["1\n", "2\n", "3\n"]
    finally:
        watch.kill()
        watch.wait()
    saved = attempt(endpoint, flags, words=("snapshot", "save", str(tmp_path / "s.db")), timeout="10s")
    assert saved.returncode == 0, saved.stderr


@pytest.mark.parametrize("protocol", ["--http2", "--http1.1", "--no-alpn"])
def test_pages_by_curl(secure, authority, protocol):
    done = curl(protocol, *authority.curl_flags("alice"), f"https://{secure.endpoints[0]}/health")
    assert json.loads(done.stdout)["health"] == "true", done.stderr


@pytest.mark.parametrize("version", ["3.4", "3.5", "apus"])
def test_clients_without_a_good_certificate(secure, authority, stranger, version):
    endpoint = secure.endpoints[0]
    for flags, reason in [
        (authority.ctl_flags(), "tls: client didn't provide a certificate"),
        ([*authority.ctl_flags(), *stranger.ctl_flags("alice")[2:]],
         "x509: certificate signed by unknown authority"),
    ]:
        before = len(secure.members[0].log_text())
        done = attempt(endpoint, flags, version=version)
        assert done.returncode == 1 and done.stdout == ""
        assert done.stderr.splitlines()[-1] == "Error: context deadline exceeded"
        if version != "3.4":
            assert "remote error: tls: " in done.stderr
        logged = secure.members[0].log_text()[before:]
        assert "rejected connection on client endpoint" in logged and reason in logged


@pytest.mark.parametrize("version", ["3.5", "apus"])
def test_clients_that_do_not_trust_the_server(secure, stranger, authority, version):
    done = attempt(secure.endpoints[0], ["--cacert", stranger.root], version=version)
    assert "certificate signed by unknown authority" in done.stderr
    assert done.stderr.splitlines()[-1] == "Error: context deadline exceeded"
    # A name that is not in the certificate.
    port = secure.members[0].client_port
    done = attempt(f"127.0.0.2:{port}", authority.ctl_flags("alice"), version=version)
    assert done.returncode == 1


def test_plain_clients_on_a_secure_port(secure):
    endpoint = secure.endpoints[0]
    assert curl(f"http://{endpoint}/health").returncode != 0
    for noise in (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", os.urandom(200), b"\x16\x03\x01\x00\x05hello"):
        with socket.create_connection(("127.0.0.1", secure.members[0].client_port), timeout=5) as each:
            each.sendall(noise)
            each.settimeout(5)
            try:
                while each.recv(4096):
                    pass
            except ConnectionError:
                pass
    secure.ctl("get", "k", check=True)


def test_the_common_name_and_revocation(tmp_path):
    authority = Authority(tmp_path / "pki")
    for name in ("server", "alice", "mallory"):
        authority.sign(name)
    with mutual(authority, "--client-crl-file", authority.revoke("mallory")) as cluster:
        cluster.ctl("put", "k", "v", check=True)
        done = attempt(cluster.endpoints[0], authority.ctl_flags("mallory"))
        assert done.returncode == 1 and "Error: context deadline exceeded" in done.stderr
        assert "revoked" in cluster.members[0].log_text()
        # The list is read again for each handshake.
        authority.revoke("alice")
        assert attempt(cluster.endpoints[0], authority.ctl_flags("alice")).returncode == 1
        assert attempt(cluster.endpoints[0], authority.ctl_flags("server")).returncode == 0


def test_renewed_certificates_without_a_restart(tmp_path):
    authority = Authority(tmp_path / "pki")
    old = Authority(tmp_path / "old", "old")
    authority.sign("server")
    authority.sign("alice")
    old.sign("bob")
    with mutual(authority) as cluster:
        endpoint = cluster.endpoints[0]

        def serial():
            shown = subprocess.run(
                ["openssl", "s_client", "-connect", endpoint, "-cert", authority.pair("alice")[0],
                 "-key", authority.pair("alice")[1]], input="", capture_output=True, text=True)
            text = subprocess.run(["openssl", "x509", "-noout", "-serial"], input=shown.stdout,
                                  capture_output=True, text=True, check=True)
            return text.stdout.strip()

        first = serial()
        assert serial() == first
        authority.sign("server")
        assert serial() != first
        cluster.ctl("put", "k", "v", check=True)
        # A broken file is noticed, does not end the process, and is got over.
        certificate = pathlib.Path(authority.pair("server")[0])
        good = certificate.read_text()
        certificate.write_text("no certificate\n")
        assert attempt(endpoint, authority.ctl_flags("alice")).returncode == 1
        certificate.write_text(good)
        cluster.ctl("get", "k", check=True)
        # So is a changed bundle of authorities.
        bob = [*authority.ctl_flags(), *old.ctl_flags("bob")[2:]]
        assert attempt(endpoint, bob).returncode == 1
        root = pathlib.Path(authority.root)
        root.write_text(root.read_text() + pathlib.Path(old.root).read_text())
        assert attempt(endpoint, bob, timeout="5s").returncode == 0


def test_automatic_certificates(tmp_path):
    flags = ["--insecure-transport=false", "--insecure-skip-tls-verify"]
    with Cluster(("apus",), client_scheme="https", flags=["--auto-tls"], ctl_flags=flags) as cluster:
        cluster.ctl("put", "k", "v", check=True)
        fixtures = cluster.members[0].data / "fixtures" / "client"
        assert oct((fixtures / "key.pem").stat().st_mode & 0o777) == "0o600"
        made = (fixtures / "cert.pem").read_text()
        text = subprocess.run(["openssl", "x509", "-noout", "-text"], input=made, capture_output=True,
                              text=True).stdout
        assert "O = etcd" in text and "IP Address:127.0.0.1" in text and "secp521r1" in text
        # Who trusts just this certificate is served as well.
        done = attempt(cluster.endpoints[0], ["--cacert", str(fixtures / "cert.pem")], timeout="5s")
        assert done.returncode == 0, done.stderr
        cluster.members[0].stop()
        cluster.members[0].start().wait_ready()
        assert (fixtures / "cert.pem").read_text() == made
        # With apusctl one flag is enough, as with etcdctl 3.6 and later.
        done = attempt(cluster.endpoints[0], ["--insecure-skip-tls-verify"], version="apus", timeout="5s")
        assert done.stdout == "k\nv\n", done.stderr


def test_https_and_http_and_sockets_side_by_side(authority, tmp_path):
    plain, metrics, secure_metrics = free_ports(3)
    sockets = [f"unix://{tmp_path}/plain.sock", f"unixs://{tmp_path}/secure.sock"]
    cluster = Cluster(("apus",), client_scheme="https", ctl_flags=authority.ctl_flags())
    urls = [cluster.members[0].client_url, f"http://127.0.0.1:{plain}", *sockets]
    cluster.flags = [
        *authority.server_flags("server"), f"--listen-client-urls={','.join(urls)}",
        f"--listen-metrics-urls=http://127.0.0.1:{metrics},https://127.0.0.1:{secure_metrics}"]
    with cluster:
        cluster.ctl("put", "k", "v", check=True)
        flags = authority.ctl_flags()
        for endpoint, each in [(f"http://127.0.0.1:{plain}", []), (sockets[0], []), (sockets[1], flags)]:
            for version in ("3.5", "apus"):
                done = attempt(endpoint, each, version=version, timeout="5s")
                assert done.stdout == "k\nv\n", (endpoint, version, done.stderr)
        log = cluster.members[0].log_text()
        assert "scheme is http or unix while key and cert files are present" in log
        assert "serving client traffic securely" in log
        assert "etcd_server_has_leader" in curl(f"http://127.0.0.1:{metrics}/metrics").stdout
        done = curl(*authority.curl_flags(), f"https://127.0.0.1:{secure_metrics}/metrics")
        assert "etcd_server_has_leader" in done.stdout, done.stderr
        assert curl(f"http://127.0.0.1:{cluster.members[0].client_port}/health").returncode != 0


def test_silent_handshakes_do_not_block_others(secure, authority):
    port = secure.members[0].client_port
    silent = [socket.create_connection(("127.0.0.1", port)) for _ in range(700)]
    try:
        for each in silent[:100]:
            each.sendall(b"\x16\x03\x01\x02\x00\x01")  # The beginning of a hello.
        started = time.monotonic()
        secure.ctl("put", "k", "v", check=True)
        assert time.monotonic() - started < 3
        assert json.loads(curl(*authority.curl_flags("alice"),
                               f"https://{secure.endpoints[0]}/health").stdout)["health"] == "true"
        # More of them than may wait at the same time.
        silent[0].settimeout(5)
        assert silent[0].recv(100) == b""
    finally:
        for each in silent:
            each.close()


# MARK: peers


def peer_flags(authority, *flags):
    return [*authority.server_flags("server", prefix="peer-"), "--peer-trusted-ca-file", authority.root,
            "--peer-client-cert-auth", *flags]


def test_three_members_over_peer_tls_survive_a_failover(authority):
    with Cluster(peer_scheme="https", flags=peer_flags(authority)) as cluster:
        leader = cluster.leader()
        cluster.ctl("put", "k", "1", check=True)
        leader.kill()
        # What is written before the others have noticed is sent to the dead leader, and lost.
        cluster.leader()
        rest = [m.endpoint for m in cluster.members if m is not leader]
        cluster.ctl("put", "k", "2", endpoints=rest, check=True)
        leader.start().wait_ready()
        got = cluster.ctl("get", "k", "--print-value-only", endpoints=[leader.endpoint], check=True)
        assert got.stdout == "2\n"
        # Neither plain HTTP nor a stranger gets in.
        member = cluster.members[0]
        assert curl(f"http://127.0.0.1:{member.peer_port}/version").returncode != 0
        assert curl("--insecure", f"https://127.0.0.1:{member.peer_port}/version").returncode != 0
        flags = authority.curl_flags("server")
        done = curl(*flags, f"https://127.0.0.1:{member.peer_port}/version")
        assert json.loads(done.stdout)["etcdserver"] == "3.7.1", done.stderr


@pytest.mark.parametrize("kinds", [("apus", "etcd34", "etcd35"), ("etcd35", "apus", "apus")])
def test_a_mixed_cluster_over_peer_tls(authority, kinds):
    with Cluster(kinds, peer_scheme="https", flags=peer_flags(authority)) as cluster:
        cluster.ctl("put", "k", "1", check=True)
        for member in cluster.members:
            got = cluster.ctl("get", "k", "--print-value-only", endpoints=[member.endpoint], check=True)
            assert got.stdout == "1\n"
        leader = cluster.leader()
        leader.kill()
        # What is written before the others have noticed is sent to the dead leader, and lost.
        cluster.leader()
        rest = [m.endpoint for m in cluster.members if m is not leader]
        cluster.ctl("put", "k", "2", endpoints=rest, check=True)
        leader.start().wait_ready()
        got = cluster.ctl("get", "k", "--print-value-only", endpoints=[leader.endpoint], check=True)
        assert got.stdout == "2\n"


def test_a_member_joins_over_peer_tls(authority):
    with Cluster(("apus",), peer_scheme="https", flags=peer_flags(authority)) as cluster:
        cluster.ctl("put", "k", "v", check=True)
        member = cluster.add("apus", "m2")
        member.wait_ready()
        got = cluster.ctl("get", "k", endpoints=[member.endpoint], check=True)
        assert got.stdout == "k\nv\n"


@pytest.mark.parametrize("rule", ["--peer-cert-allowed-cn=server,other",
                                  "--peer-cert-allowed-hostname=localhost"])
def test_peers_by_name(authority, rule):
    with Cluster(peer_scheme="https", flags=peer_flags(authority, rule)) as cluster:
        cluster.ctl("put", "k", "v", check=True)
        member = cluster.members[0]
        url = f"https://127.0.0.1:{member.peer_port}/version"
        assert curl("--insecure", *authority.curl_flags("mallory"), url).returncode != 0
        assert "client certificate authentication failed" in member.log_text()


def test_where_a_peer_comes_from(authority):
    with Cluster(("apus",), peer_scheme="https", flags=peer_flags(authority)) as cluster:
        member = cluster.members[0]
        url = f"https://127.0.0.1:{member.peer_port}/version"
        assert curl("--insecure", *authority.curl_flags("mallory"), url).returncode != 0
        assert 'does not match any of DNSNames' in member.log_text()
    flags = peer_flags(authority, "--peer-skip-client-san-verification")
    with Cluster(("apus",), peer_scheme="https", flags=flags) as cluster:
        url = f"https://127.0.0.1:{cluster.members[0].peer_port}/version"
        assert curl("--insecure", *authority.curl_flags("mallory"), url).returncode == 0


def test_automatic_peer_certificates():
    with Cluster(("apus", "apus", "etcd35"), peer_scheme="https", flags=["--peer-auto-tls"]) as cluster:
        cluster.ctl("put", "k", "v", check=True)
        for member in cluster.members:
            assert cluster.ctl("get", "k", endpoints=[member.endpoint], check=True).stdout == "k\nv\n"


# MARK: mistakes


@pytest.mark.parametrize("flags,reason", [
    (["--cert-file=/nope.pem", "--key-file=/nope.key"], "open /nope.pem: no such file or directory"),
    (["--key-file=/nope.key"], "KeyFile and CertFile must both be present[key: /nope.key, cert: ]"),
    ([], "TLS key/cert (--cert-file, --key-file) must be provided for client url "),
])
def test_what_keeps_a_member_from_starting(flags, reason):
    cluster = Cluster(("apus",), client_scheme="https", flags=flags)
    try:
        member = cluster.members[0].start()
        assert member.process.wait(10) == 1
        assert reason in member.log_text()
        assert "ready to serve" not in member.log_text()
    finally:
        cluster.__exit__()


# MARK: the launcher


def test_the_launcher_with_certificates(authority):
    flags = {"cert-file": authority.pair("server")[0], "key-file": authority.pair("server")[1],
             "trusted-ca-file": authority.root, "client-cert-auth": "true"}
    lines = [f"  {prefix}{name}: {value}" for name, value in flags.items() for prefix in ("", "peer-")]
    local = Local(extra="\n".join(["defaults:", *lines]))
    file = local.folder / "cluster.conf"
    file.write_text(file.read_text().replace("http://", "https://"))
    try:
        local.start()
        rows = local.wait_status(
            lambda rows: sorted(row["role"] for row in rows.values()) == ["follower", "follower", "leader"])
        url = f"https://127.0.0.1:{local.ports[0]}"
        done = attempt(url, authority.ctl_flags("alice"), words=("put", "k", "v"), timeout="5s")
        assert done.stdout == "OK\n", done.stderr
    finally:
        local.close()
