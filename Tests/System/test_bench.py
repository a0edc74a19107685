"""apus-bench as a user has it: over TLS, with users, by the clock, and against servers that do not answer."""

import json
import signal
import subprocess
import threading
import time

import pytest
from certificates import Authority
from harness import Cluster
from load import BENCH, bench


def run(*arguments):
    return subprocess.run([str(BENCH), *arguments, "--quiet"], capture_output=True, text=True, timeout=60)


@pytest.fixture(scope="module")
def member():
    with Cluster(("apus",)) as cluster:
        yield cluster.members[0]


@pytest.mark.parametrize("kind", ["apus", "etcd35"])
def test_certificates_and_users(kind, tmp_path):
    authority = Authority(tmp_path)
    authority.sign("server")
    authority.sign("client")
    flags = [*authority.server_flags("server"), "--client-cert-auth", "--trusted-ca-file", authority.root]
    with Cluster((kind,), client_scheme="https", flags=flags, ctl_flags=authority.ctl_flags("client")) as cluster:
        url, access = cluster.members[0].client_url, authority.ctl_flags("client")
        assert bench(url, "put", "--total", "10", *access)["results"]["put"]["count"] == 10
        # The certificate of a client alone asks for TLS too.
        assert run("put", "--total", "1", "-e", cluster.members[0].endpoint, *access).returncode == 0
        for command in (["user", "add", "root:word"], ["user", "grant-role", "root", "root"], ["auth", "enable"]):
            cluster.ctl(*command, check=True)
        user = ["--user", "root:word", "--target-leader"]
        assert bench(url, "put", "--total", "10", *access, *user)["results"]["put"]["count"] == 10
        watched = bench(url, "watch", "--watchers", "3", "-d", "0.5", *access, *user)
        # Up to 16 puts are answered after the end.
        assert 0 <= watched["events"] - 3 * watched["results"]["put"]["count"] <= 48 and watched["watchers"] == 3

        for wrong, text in ((["--user", "root:no"], "authentication failed, invalid user ID or password"),
                            (["--user", "root"], "--user needs a password"),
                            ([], "permission denied")):
            done = run("put", "--total", "1", "-e", url, *access, *wrong)
            assert done.returncode != 0 and text in done.stdout + done.stderr, done
        for options in (["--insecure-skip-tls-verify"], []):
            done = run("put", "-d", "0.3", "-e", url, *options)
            assert done.returncode == 1 and "certificate" in done.stdout + done.stderr, done


def test_a_stall_is_seen_by_every_call_that_was_due(member):
    """A fixed rate: the server stands still for half a second, and two slots could hide that from a hundred calls."""
    def stall():
        time.sleep(1)
        member.process.send_signal(signal.SIGSTOP)
        time.sleep(0.5)
        member.process.send_signal(signal.SIGCONT)

    threading.Thread(target=stall).start()
    report = bench(member.endpoint, "put", "--rate", "200", "--streams=2", "-d", "2")
    row = report["results"]["put"]
    assert row["count"] + report["unanswered"] == 400
    # A quarter of all calls were due while it stood still.
    assert row["p90"] > 100_000 and row["max"] > 400_000, row


def test_every_call_that_was_due_is_sent(member):
    report = bench(member.endpoint, "put", "--rate", "2000", "--streams=64", "-d", "0.3", "--threads=2", "--connections=2")
    assert (report["results"]["put"]["count"], report["unanswered"]) == (600, 0)


def test_what_is_due_is_sent_even_after_the_end(member):
    """More than one slot can carry: all calls are made, and late ones do not count for the rate."""
    report = bench(member.endpoint, "put", "--rate", "8000", "--streams=1", "-d", "0.5")
    row = report["results"]["put"]
    assert row["count"] + report["unanswered"] == 4000
    assert row["per_second"] < 7000 and row["p50"] > 50_000, row


def test_totals_and_failures(member):
    assert bench(member.endpoint, "lease-grant", "--total", "57", "--streams=8", "--threads=2")["results"]["lease grant"]["count"] == 57
    missing = run("put", "--total", "3", "--lease", "4711", "-e", member.endpoint, "--json")
    assert missing.returncode == 1
    assert json.loads(missing.stdout)["errors"] == {"etcdserver: requested lease not found": 3}
    nobody = run("put", "-e", "127.0.0.1:1")
    assert nobody.returncode == 1 and "connection refused" in nobody.stderr


def test_requests_above_a_mebibyte(member):
    """More than one write of the generator: the rest goes out without a word of the server."""
    assert bench(member.endpoint, "put", "--total", "10", "--streams=2", "--value-size", str(1 << 20))["results"]["put"]["count"] == 10
