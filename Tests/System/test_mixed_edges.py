"""Where Apus and etcd meet beyond plain service: signed tokens, hashes while compacting, each other's logs, tails that
nobody else has, downgrades, and peers that have no business there."""

import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import threading
import time
import urllib.request

import grpc
import pytest

import protos
from certificates import Authority
from harness import Cluster
from test_auth import ROOT, check_rights, enable, login, put
from test_mixed import expect_agreement, lead_by

# Of each run that only time makes stronger; an hour is what the fault matrix asks for: APUS_SOAK=3600.
SOAK = float(os.environ.get("APUS_SOAK", 5))


def hashes(cluster, members=None):
    """What HashKV says at one revision, by member."""
    api = protos.load()
    revision = json.loads(cluster.ctl("get", "x", "-w", "json", check=True).stdout)["header"]["revision"]
    answers = {}
    for member in members or cluster.members:
        with grpc.insecure_channel(member.endpoint) as channel:
            # A follower may be a moment behind.
            answers[member.name] = until(lambda channel=channel: api.grpc.MaintenanceStub(channel).HashKV(
                api.rpc.HashKVRequest(revision=revision), timeout=5).hash)
    return answers


def until(attempt, seconds=10):
    """The first true answer of `attempt`; failing calls count as no."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if answer := attempt():
                return answer
        except (grpc.RpcError, OSError, AssertionError):
            if time.monotonic() > deadline:
                raise
        assert time.monotonic() < deadline, "it does not come about"
        time.sleep(0.05)


# MARK: Signed tokens


@pytest.mark.parametrize("old", ["etcd34", "etcd35"])
def test_signed_tokens_of_either_kind(old, tmp_path):
    """What one kind signs the other accepts, also after a restart; a change of users makes it old for both."""
    key, public = tmp_path / "key.pem", tmp_path / "key.pub"
    subprocess.run(["openssl", "genrsa", "-out", str(key), "2048"], check=True, capture_output=True)
    subprocess.run(["openssl", "rsa", "-in", str(key), "-pubout", "-out", str(public)], check=True,
                   capture_output=True)
    option = f"jwt,pub-key={public},priv-key={key},sign-method=RS256,ttl=5m"
    version = {"etcd34": "3.4", "etcd35": "3.5"}[old]
    with Cluster((old, "apus", old), flags=["--auth-token", option, "--bcrypt-cost", "4"]) as cluster:
        enable(cluster, version=version, endpoints=[cluster.endpoints[1]])
        tokens = {giver.kind: login(giver.endpoint) for giver in cluster.members[:2]}
        for member in cluster.members:
            check_rights(cluster, member.endpoint, version)
        for member in cluster.members[:2]:
            member.kill()
            member.start().wait_ready()
        for giver, taker in itertools.product(tokens, cluster.endpoints):
            put(taker, tokens[giver])
        cluster.ctl(*ROOT, "user", "add", "more:x", version=version, endpoints=[cluster.endpoints[0]], check=True)
        for giver, taker in itertools.product(tokens, cluster.endpoints):
            with pytest.raises(grpc.RpcError, match="revision of auth store is old|revision in header is old"):
                put(taker, tokens[giver])


# MARK: Compaction and hashes


@pytest.mark.parametrize("leads", ["apus", "etcd35"])
def test_no_alarm_while_compacting(leads):
    """Hashes are compared every two seconds, by either kind, while keys are deleted at the very revisions at which
    clients compact, physically and not."""
    cluster = Cluster(("apus", "etcd35", "apus" if leads == "etcd35" else "etcd35"),
                      flags=["--experimental-corrupt-check-time=2s"])
    for member in cluster.members:
        if member.kind == "apus":  # etcd 3.5.1 has no such check
            member.environment = {"ETCD_FEATURE_GATES": "CompactHashCheck=true", "ETCD_COMPACT_HASH_CHECK_TIME": "1s"}
    with cluster:
        leader = lead_by(cluster, leads)
        api = protos.load()
        kv = [api.grpc.KVStub(grpc.insecure_channel(m.endpoint)) for m in cluster.members]
        checked, rounds = "finished peer corruption check", 0
        deadline = time.monotonic() + SOAK
        while time.monotonic() < deadline or leader.log_text().count(checked) < 2:
            assert time.monotonic() < deadline + 20, "nobody compares hashes"
            rounds += 1
            for number in range(20):
                kv[number % 3].Put(api.rpc.PutRequest(key=b"k%d" % (number % 7), value=b"%d" % rounds), timeout=10)
            gone = kv[rounds % 3].DeleteRange(api.rpc.DeleteRangeRequest(key=b"k%d" % (rounds % 7)), timeout=10)
            assert gone.deleted == 1
            kv[(rounds + 1) % 3].Compact(
                api.rpc.CompactionRequest(revision=gone.header.revision, physical=rounds % 2 == 0), timeout=10)
            time.sleep(0.02)
        assert cluster.ctl("alarm", "list", check=True).stdout == ""
        # etcd 3.5.1 refuses a hash of exactly the compacted revision.
        cluster.ctl("put", "after", "v", check=True)
        assert len(set(hashes(cluster).values())) == 1
        assert rounds > 5


# MARK: Logs


def torn_tail(member):
    """Puts the start of a record that never got whole behind the last one of a killed member's log."""
    last = sorted((member.data / "member" / "wal").glob("*.wal"))[-1]
    end = (len(last.read_bytes().rstrip(b"\0")) + 7) // 8 * 8
    with open(last, "r+b") as file:
        file.seek(end)
        # Longer than two sectors: etcd takes a record for torn if one of its sectors is all zeros.
        file.write((1100).to_bytes(8, "little") + b"\x08\x02\x10")
    return last


def test_etcd_starts_on_a_log_of_apus():
    """etcd reads a log that Apus has written and cut, with a torn record at its end, and becomes that member."""
    with Cluster(("apus", "etcd35", "etcd35")) as cluster:
        member = cluster.members[0]
        cluster.ctl("put", "first", "1", check=True)
        api = protos.load()
        with grpc.insecure_channel(member.endpoint) as channel:
            stub = api.grpc.KVStub(channel)
            # More than one segment of 64 MB.
            pending = [stub.Put.future(api.rpc.PutRequest(key=b"big%d" % (n % 3), value=bytes([n]) * 1_000_000),
                                       timeout=60) for n in range(70)]
            for each in pending:
                each.result()
        lease = cluster.ctl("lease", "grant", "600", check=True).stdout.split()[1]
        cluster.ctl("put", "leased", "v", "--lease", lease, check=True)
        cluster.ctl("del", "first", check=True)
        member.kill()
        assert len(list((member.data / "member" / "wal").glob("*.wal"))) == 2
        torn_tail(member)
        shutil.rmtree(member.data / "member" / "store")
        member.kind = "etcd35"
        member.start().wait_ready(30)
        expect_agreement(cluster)
        assert len(set(hashes(cluster).values())) == 1
        shown = cluster.ctl("lease", "timetolive", lease, "--keys", endpoints=[member.endpoint], check=True).stdout
        assert "leased" in shown
        # It is a full member: with another one gone, it makes the majority.
        cluster.members[1].kill()
        until(lambda: cluster.ctl("put", "after", "v", endpoints=[member.endpoint]).returncode == 0, 20)


# MARK: Tails


@pytest.mark.parametrize("leads", ["apus", "etcd35"])
def test_a_tail_that_nobody_else_has(leads):
    """A leader cut off with thousands of entries of its own gives them up for those of a leader of the other kind."""
    others = "etcd35" if leads == "apus" else "apus"
    with Cluster((leads, others, others)) as cluster:
        lead_by(cluster, leads)
        alone, rest = cluster.members[0], cluster.members[1:]
        api = protos.load()
        with grpc.insecure_channel(alone.endpoint) as channel:
            stub = api.grpc.KVStub(channel)
            stub.Put(api.rpc.PutRequest(key=b"common", value=b"v"), timeout=5)
            for member in rest:
                member.kill()
            tail = [stub.Put.future(api.rpc.PutRequest(key=b"tail%d" % n, value=b"v"), timeout=3)
                    for n in range(4000)]
            # It leads for as long as it does not know that it is alone, and has all of them in its log by then.
            time.sleep(0.7)
            alone.kill()
            done = sum(each.done() and each.exception() is None for each in tail)
        assert done == 0
        for member in rest:
            member.start()
        endpoints = [m.endpoint for m in rest]
        until(lambda: cluster.ctl("put", "after", "v", endpoints=endpoints).returncode == 0, 20)
        assert cluster.ctl("get", "tail", "--prefix", "--keys-only", endpoints=endpoints, check=True).stdout == ""
        for number in range(100):
            cluster.ctl("put", f"new{number % 5}", str(number), endpoints=endpoints[:1], check=True)
        alone.start().wait_ready()
        expect_agreement(cluster)
        assert len(set(hashes(cluster).values())) == 1
        assert cluster.ctl("get", "tail", "--prefix", "--keys-only", "--consistency=s", endpoints=[alone.endpoint],
                           check=True).stdout == ""


# MARK: Downgrades


def downgrade(member, action, version=""):
    api = protos.load()
    with grpc.insecure_channel(member.endpoint) as channel:
        try:
            return api.grpc.MaintenanceStub(channel).Downgrade(
                api.rpc.DowngradeRequest(action=action, version=version), timeout=2).version
        except grpc.RpcError as error:
            return error.details()


def told(member):
    """What a member's page for other members says of a downgrade."""
    with urllib.request.urlopen(f"{member.peer_url}/downgrade/enabled", timeout=5) as answer:
        return answer.read().decode()


VALIDATE, ENABLE, CANCEL = 0, 1, 2


@pytest.mark.parametrize("leads", ["apus", "etcd35"])
def test_a_downgrade_that_etcd_begins(leads):
    """It is recorded, shown, kept over restarts and snapshots, and cancelled, by members of both kinds."""
    cluster = Cluster(("apus", "etcd35", "apus"))
    for member in cluster.members:
        member.environment = {"ETCD_SNAPSHOT_COUNT": "50"} | (
            {"ETCD_EXPERIMENTAL_SNAPSHOT_CATCHUP_ENTRIES": "10"} if member.kind == "apus" else {})
    with cluster:
        lead_by(cluster, leads)
        ours, etcd, late = cluster.members
        assert {told(m) for m in cluster.members} == {"false"}
        assert downgrade(ours, ENABLE, "3.4.0") == "etcdserver: invalid downgrade target version"
        late.stop()
        # It may have been the one that led; who leads now decides from where on the log is kept.
        lead_by(cluster, leads)
        # etcd 3.5.1 lets its own caller wait in vain, in a cluster of its own as well; the entry is made.
        downgrade(etcd, ENABLE, "3.4.0")
        until(lambda: told(ours) == "true" == told(etcd))
        for member in (ours, etcd):
            assert downgrade(member, VALIDATE, "3.4.0") in (
                "etcdserver: cluster has a downgrade job in progress",
                "etcdserver: cluster has a downgrade process in progress"), member.kind
            assert downgrade(member, VALIDATE, "3.3.0") == "etcdserver: invalid downgrade target version"
        api = protos.load()
        with grpc.insecure_channel(ours.endpoint) as channel:
            info = api.grpc.MaintenanceStub(channel).Status(api.rpc.StatusRequest(), timeout=5).downgradeInfo
            assert (info.enabled, info.targetVersion) == (True, "3.4.0")
            stub = api.grpc.KVStub(channel)
            for number in range(6000 if leads == "etcd35" else 300):  # more than etcd keeps for slow members
                if number % 100 == 0:
                    pending = []
                pending.append(stub.Put.future(api.rpc.PutRequest(key=b"fill", value=b"%d" % number), timeout=10))
                if number % 100 == 99:
                    for each in pending:
                        each.result()
                    # Apus lets go of its log when the store's file has what is in it.
                    time.sleep(0.8 if leads == "apus" else 0)
        # One hears of it from a snapshot, one from its own store.
        late.start().wait_ready()
        late.wait_log("applied snapshot")
        until(lambda: told(late) == "true")
        ours.kill()
        ours.start().wait_ready()
        until(lambda: told(ours) == "true")
        assert "told to go back to an older release" in ours.log_since_start()
        assert downgrade(ours, CANCEL) == "3.5"
        for member in cluster.members:
            until(lambda member=member: told(member) == "false")
        downgrade(etcd, ENABLE, "3.4.0")
        until(lambda: told(ours) == "true")
        downgrade(etcd, CANCEL)
        until(lambda: told(ours) == "false")
        expect_agreement(cluster)
        assert cluster.ctl("endpoint", "health").returncode == 0


# MARK: Peers that are none


def answer(member, head, body=b""):
    """Status line and body of what the peer port says to raw bytes. Streams are only begun."""
    with socket.create_connection(("127.0.0.1", member.peer_port), timeout=5) as peer:
        peer.sendall(head.replace("\n", "\r\n").encode() + b"\r\n" + body)
        peer.settimeout(5)
        data = b""
        while b"\r\n\r\n" not in data:
            more = peer.recv(65536)
            if not more:
                return data.split(b"\r\n")[0].decode()
            data += more
        top, _, rest = data.partition(b"\r\n\r\n")
        status = top.split(b"\r\n")[0].decode()
        length = re.search(rb"(?i)content-length: *(\d+)", top)
        while length and len(rest) < int(length[1]):
            rest += peer.recv(65536)
        return status, rest.decode() if length else "(a stream)"


def test_peers_that_have_no_business_here():
    """Wrong clusters, receivers, versions and messages are refused by Apus in the words of etcd."""
    with Cluster(("apus", "etcd35", "etcd35")) as cluster:
        removed = cluster.add("apus", "gone")
        removed.wait_ready()
        removed_id = cluster.listed()["gone"]["ID"]
        cluster.remove("gone")
        ours, etcd, third = cluster.members
        ids = {m.name: m.status()["header"]["member_id"] for m in cluster.members}
        cluster_id = ours.status()["header"]["cluster_id"]
        sender = f"{ids[third.name]:x}"

        def request(member, verb="GET", path=None, *, cluster=f"{cluster_id:x}", version="3.5.0", least="3.0.0",
                    to=None, origin=sender, length=None):
            lines = [f"{verb} {path or '/raft/stream/message/' + origin} HTTP/1.1", "Host: x",
                     f"X-Server-From: {origin}", f"X-Server-Version: {version}", f"X-Min-Cluster-Version: {least}",
                     f"X-Etcd-Cluster-ID: {cluster}", f"X-Raft-To: {to or format(ids[member.name], 'x')}"]
            return "\n".join(lines + ([f"Content-Length: {length}"] if length is not None else [])) + "\n"

        cases = [
            ("another cluster", dict(cluster="deadbeef")),
            ("no cluster", dict(cluster="")),
            ("an old server", dict(version="2.0.0")),
            ("a cluster from the future", dict(least="9.0.0")),
            ("another receiver", dict(to="1234")),
            ("an unknown sender", dict(origin="abcdef")),
            ("a removed sender", dict(origin=f"{removed_id:x}")),
            ("no number", dict(path="/raft/stream/message/xyz")),
            ("no kind of stream", dict(path=f"/raft/stream/nothing/{sender}")),
            ("the wrong verb", dict(verb="POST", length=0)),
            ("no message", dict(verb="POST", path="/raft", length=3)),
            ("a message to another cluster", dict(verb="POST", path="/raft", length=3, cluster="deadbeef")),
            ("a snapshot that is none", dict(verb="POST", path="/raft/snapshot", length=3)),
        ]
        for name, change in cases:
            said = [answer(m, request(m, **change), b"\xff\xff\xff" if "length" in change else b"") for m in (ours, etcd)]
            if name == "a snapshot that is none":  # what follows is the decoder's own wording
                said = [(status, text[:30]) for status, text in said]
            assert said[0] == said[1], (name, said)
        # A receiver that never reads what it asked for: its stream is given up, nobody waits for it.
        streams = []
        for member in (ours, etcd):
            for kind in ("message", "msgapp"):
                peer = socket.create_connection(("127.0.0.1", member.peer_port), timeout=5)
                peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                peer.sendall((request(member, path=f"/raft/stream/{kind}/{sender}").replace("\n", "\r\n") + "\r\n").encode())
                streams.append(peer)
        value = "x" * 100_000
        for number in range(60):
            cluster.ctl("put", f"k{number % 3}", value, endpoints=[cluster.endpoints[number % 2]], check=True)
        for peer in streams:
            peer.close()
        expect_agreement(cluster)
        assert len(set(hashes(cluster).values())) == 1


@pytest.mark.parametrize("stranger", ["apus", "etcd35"])
def test_a_member_with_another_token(stranger):
    """It takes itself for a member of another cluster: neither kind tells it anything, and both go on."""
    other = "etcd35" if stranger == "apus" else "apus"
    cluster = Cluster((other, stranger, stranger))
    first, second, odd = cluster.members
    try:
        for member in (first, second):
            member.start()
        cluster.token = "another"
        odd.start()
        for member in (first, second):
            member.wait_ready()
        endpoints = [first.endpoint, second.endpoint]
        cluster.ctl("put", "k", "v", endpoints=endpoints, check=True)
        odd.wait_log("cluster ID mismatch")
        for member in (first, second):
            member.wait_log("cluster ID mismatch")
        assert cluster.ctl("--command-timeout=1s", "get", "k", "--consistency=s",
                           endpoints=[odd.endpoint]).stdout == ""
        assert odd.process.poll() is None
    finally:
        cluster.__exit__()


def test_peers_by_another_name(tmp_path):
    """A certificate with a name that is not allowed opens neither kind's peer port; the two members that have the right
    one go on."""
    authority = Authority(tmp_path)
    authority.sign("peer", common_name="peer")
    authority.sign("mallory", common_name="mallory")

    def flags(name):
        return [*authority.server_flags(name, prefix="peer-"), "--peer-trusted-ca-file", authority.root,
                "--peer-client-cert-auth", "--peer-cert-allowed-cn=peer"]
    cluster = Cluster(("apus", "etcd35", "etcd35"), peer_scheme="https", flags=flags("peer"))
    first, second, odd = cluster.members
    try:
        for member in (first, second):
            member.start()
        cluster.flags = flags("mallory")
        odd.start()
        for member in (first, second):
            member.wait_ready()
        endpoints = [first.endpoint, second.endpoint]
        cluster.ctl("put", "k", "v", endpoints=endpoints, check=True)
        for member in (first, second):
            member.wait_log("client certificate authentication failed" if member.kind == "apus"
                            else "rejected connection")
        assert cluster.ctl("--command-timeout=1s", "get", "k", "--consistency=s",
                           endpoints=[odd.endpoint]).stdout == ""
    finally:
        cluster.__exit__()
