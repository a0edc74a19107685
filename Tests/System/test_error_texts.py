"""Every error text of the data services that clients tell apart, provoked. Users and roles have tests of their own."""

import concurrent.futures
import pathlib
import re
import subprocess
import tempfile
import time

import grpc
import pytest
from harness import ROOT, Cluster

HERE = pathlib.Path(__file__).parent
COMPATIBILITY = ROOT / "docs" / "compatibility.md"
EXPLAINED_SECTION = "## Error texts that do not occur"

# Text -> where it is provoked: here (the test's name), or in the test file that is about it.
TEXTS = {
    "etcdserver: key is not provided": "requests",
    "etcdserver: key not found": "requests",
    "etcdserver: value is provided": "requests",
    "etcdserver: lease is provided": "requests",
    "etcdserver: too many operations in txn request": "requests",
    "etcdserver: duplicate key given in txn request": "requests",
    "etcdserver: invalid client api version": "metadata",
    "etcdserver: invalid sort option": "requests",
    "etcdserver: given member URLs are invalid": "requests",
    "etcdserver: request is too large": "requests",
    "etcdserver: mvcc: required revision has been compacted": "requests",
    "etcdserver: mvcc: required revision is a future revision": "requests",
    "etcdserver: too large lease TTL": "requests",
    "etcdserver: mvcc: database space exceeded": "alarms",
    "etcdserver: requested lease not found": "requests",
    "etcdserver: member not found": "requests",
    "etcdserver: lease already exists": "requests",
    "etcdserver: Peer URLs already exists": "requests",
    "etcdserver: can only promote a learner member": "requests",
    "etcdserver: can only promote a learner member which is in sync with leader": "test_membership.py",
    "etcdserver: too many learner members in cluster": "test_membership.py",
    "etcdserver: not leader": "test_roles",
    "etcdserver: bad leader transferee": "requests",
    "etcdserver: rpc not supported for learner": "test_membership.py",
    "etcdserver: no leader": "test_roles",
    "etcdserver: server stopped": "test_roles",
    "etcdserver: request timed out": "test_timeouts",
    "etcdserver: request timed out, possibly due to previous leader failure": "test_timeouts",
    "etcdserver: request timed out, possibly due to connection lost": "test_lost_connection",
    "etcdserver: request timed out, leader transfer took too long": "test_roles",
    "etcdserver: unhealthy cluster": "test_membership.py",
    "etcdserver: re-configuration failed due to not enough started members": "test_membership.py",
    "etcdserver: corrupt cluster": "alarms",
    "grpc: received message larger than max": "requests",
    "context deadline exceeded": "metadata",
    "grpc: error unmarshalling request: ": "requests",
    "RangeStream does not support custom sort orders": "requests",
    "RangeStream does not support revision filters": "requests",
    "election: no leader": "test_concurrency.py",
    "election: not leader": "test_concurrency.py",
    "mutex: session is expired": "test_concurrency.py",
    '"leader" field must be provided': "test_concurrency.py",
}
EXPLAINED = {
    "etcdserver: member ID already exist", "etcdserver: cluster ID mismatch", "etcdserver: not capable",
    "etcdserver: leader changed", "etcdserver: request timed out, waiting for the applied index took too long",
    "etcdserver: watch canceled", "etcdserver: request canceled", "etcdserver: context deadline exceeded",
    "etcdserver: too many requests", "raft proposal dropped", "not a primary lessor",
}

CODES = {
    "etcdserver: too large lease TTL": "OUT_OF_RANGE", "etcdserver: requested lease not found": "NOT_FOUND",
    "etcdserver: member not found": "NOT_FOUND", "etcdserver: mvcc: database space exceeded": "RESOURCE_EXHAUSTED",
    "etcdserver: corrupt cluster": "DATA_LOSS", "grpc: error unmarshalling request: ": "INTERNAL",
    "grpc: received message larger than max": "RESOURCE_EXHAUSTED", "context deadline exceeded": "DEADLINE_EXCEEDED",
    **dict.fromkeys(["etcdserver: mvcc: required revision has been compacted",
                     "etcdserver: mvcc: required revision is a future revision"], "OUT_OF_RANGE"),
    **dict.fromkeys(["etcdserver: lease already exists", "etcdserver: Peer URLs already exists",
                     "etcdserver: can only promote a learner member", "etcdserver: not leader",
                     "etcdserver: bad leader transferee"], "FAILED_PRECONDITION"),
    **dict.fromkeys(["RangeStream does not support custom sort orders",
                     "RangeStream does not support revision filters"], "UNIMPLEMENTED"),
    "etcdserver: request timed out, leader transfer took too long": "UNKNOWN",
}


def code(text):
    if text in CODES:
        return CODES[text]
    return "UNAVAILABLE" if TEXTS[text] in ("test_roles", "test_timeouts", "test_lost_connection") else "INVALID_ARGUMENT"


def failed(call):
    """What a call fails with: code and text."""
    with pytest.raises(grpc.RpcError) as caught:
        call()
    return caught.value.code().name, caught.value.details()


class Stubs:
    def __init__(self, api, member):
        self.channel = grpc.insecure_channel(member.endpoint)
        for name in ("KV", "Watch", "Lease", "Cluster", "Maintenance"):
            setattr(self, name, getattr(api.grpc, name + "Stub")(self.channel))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()


def test_nothing_is_left_out():
    """Each text has a test that names it, or a reason in the documentation why it cannot occur."""
    table = COMPATIBILITY.read_text().split(EXPLAINED_SECTION)[1].split("\n## ")[0]
    assert set(re.findall(r"^\| `([^`]+)`", table, re.M)) == EXPLAINED
    assert not EXPLAINED & set(TEXTS)
    for text, place in TEXTS.items():
        if place.endswith(".py"):
            assert text.removeprefix("etcdserver: ") in (HERE / place).read_text(), text
    provoked = set(requests(None, None))
    assert provoked == {text for text, place in TEXTS.items() if place == "requests"}
    # What the server can say at all is known here, or belongs to users, roles and downgrades.
    said = set(re.findall(r'"(etcdserver: [^"]+)"', (ROOT / "Sources/EtcdAPI/EtcdError.swift").read_text()))
    others = re.compile("auth|user|role|permission|downgrade|unknown method")
    assert {text for text in said if not others.search(text)} <= set(TEXTS) | EXPLAINED


def requests(api, stubs):
    """Requests to a fresh member that cannot be right, by the text that refuses them."""
    rpc = api and api.rpc

    def put(**options):
        return lambda: stubs.KV.Put(rpc.PutRequest(**options))

    def get(**options):
        return lambda: stubs.KV.Range(rpc.RangeRequest(**options))

    def stream(**options):
        return lambda: list(stubs.KV.RangeStream(rpc.RangeRequest(key=b"a", range_end=b"z", **options)))

    def txn(operations):
        return lambda: stubs.KV.Txn(rpc.TxnRequest(success=[
            rpc.RequestOp(request_put=rpc.PutRequest(key=key)) for key in operations]))

    def compacted():
        revision = stubs.KV.Put(rpc.PutRequest(key=b"c")).header.revision
        stubs.KV.Compact(rpc.CompactionRequest(revision=revision))
        stubs.KV.Range(rpc.RangeRequest(key=b"c", revision=revision - 1))

    def known_lease():
        for _ in range(2):
            stubs.Lease.LeaseGrant(rpc.LeaseGrantRequest(ID=77, TTL=60))

    def own_url():
        url = stubs.Cluster.MemberList(rpc.MemberListRequest()).members[0].peerURLs
        stubs.Cluster.MemberAdd(rpc.MemberAddRequest(peerURLs=url, isLearner=True))

    def voter():
        member = stubs.Cluster.MemberList(rpc.MemberListRequest()).members[0].ID
        stubs.Cluster.MemberPromote(rpc.MemberPromoteRequest(ID=member))

    def garbage():
        stubs.channel.unary_unary("/etcdserverpb.KV/Range")(b"\x0a\xff", timeout=5)

    return {
        "etcdserver: key is not provided": get(),
        "etcdserver: key not found": put(key=b"absent", ignore_value=True),
        "etcdserver: value is provided": put(key=b"k", value=b"v", ignore_value=True),
        "etcdserver: lease is provided": put(key=b"k", lease=1, ignore_lease=True),
        "etcdserver: too many operations in txn request": txn(b"%d" % n for n in range(129)),
        "etcdserver: duplicate key given in txn request": txn([b"k", b"k"]),
        "etcdserver: invalid sort option": get(key=b"k", sort_order=9),
        "etcdserver: given member URLs are invalid":
            lambda: stubs.Cluster.MemberAdd(rpc.MemberAddRequest(peerURLs=["nonsense"])),
        "etcdserver: request is too large": put(key=b"k", value=bytes(1600 << 10)),
        "etcdserver: mvcc: required revision has been compacted": compacted,
        "etcdserver: mvcc: required revision is a future revision": get(key=b"k", revision=1 << 40),
        "etcdserver: too large lease TTL":
            lambda: stubs.Lease.LeaseGrant(rpc.LeaseGrantRequest(TTL=9_000_000_001)),
        "etcdserver: requested lease not found": put(key=b"k", lease=4711),
        "etcdserver: member not found":
            lambda: stubs.Cluster.MemberUpdate(rpc.MemberUpdateRequest(ID=1, peerURLs=["http://127.0.0.1:1"])),
        "etcdserver: lease already exists": known_lease,
        "etcdserver: Peer URLs already exists": own_url,
        "etcdserver: can only promote a learner member": voter,
        "etcdserver: bad leader transferee":
            lambda: stubs.Maintenance.MoveLeader(rpc.MoveLeaderRequest(targetID=5)),
        "grpc: received message larger than max": put(key=b"k", value=bytes(3 << 20)),
        "grpc: error unmarshalling request: ": garbage,
        "RangeStream does not support custom sort orders": stream(sort_order=2),
        "RangeStream does not support revision filters": stream(min_mod_revision=1),
    }


def test_requests(api):
    with Cluster(("apus",)) as cluster, Stubs(api, cluster.members[0]) as stubs:
        for text, call in requests(api, stubs).items():
            got, details = failed(call)
            assert (got, details[:len(text)]) == (code(text), text), text
            assert details == text or text.startswith("grpc: "), text
        metadata(cluster.members[0])
        alarms(api, stubs)


def metadata(member):
    """What only bytes that the client library does not send can provoke."""
    for field, text in (("client-api-version: \xff\xfe", "etcdserver: invalid client api version"),
                        ("grpc-timeout: 1n", "context deadline exceeded")):
        with tempfile.NamedTemporaryFile() as body:
            body.write(b"\0\0\0\0\3\x0a\1k")
            body.flush()
            answer = subprocess.run(
                [b"nghttp", b"-v", b"-d", body.name.encode(), b"-H", b"content-type: application/grpc",
                 b"-H", b"te: trailers", b"-H", field.encode("latin-1"),
                 f"http://{member.endpoint}/etcdserverpb.KV/Range".encode()], capture_output=True, timeout=10)
        shown = re.sub(rb"\x1b\[[0-9;]*m", b"", answer.stdout)
        assert f"grpc-message: {text}\n".encode() in shown, shown[-2000:]
        number = getattr(grpc.StatusCode, code(text)).value[0]
        assert f"grpc-status: {number}\n".encode() in shown


def alarms(api, stubs):
    """Raised by hand, alarms have the effect of real ones."""
    rpc = api.rpc
    for kind, text in ((1, "etcdserver: mvcc: database space exceeded"), (2, "etcdserver: corrupt cluster")):
        for action in (1, 2):
            stubs.Maintenance.Alarm(rpc.AlarmRequest(action=action, memberID=1, alarm=kind))
            if action == 1:
                assert failed(lambda: stubs.KV.Put(rpc.PutRequest(key=b"k"))) == (code(text), text)
        stubs.KV.Put(rpc.PutRequest(key=b"k"))


def expect(got, text):
    assert got == (code(text), text)


def test_roles(api):
    """Who leads, who follows, and nobody at all."""
    rpc = api.rpc
    with Cluster() as cluster:
        leader, (one, two) = cluster.leader(), cluster.followers()
        listed = cluster.listed()
        with Stubs(api, leader) as at_leader, Stubs(api, one) as at_one:
            expect(failed(lambda: at_one.Maintenance.MoveLeader(
                rpc.MoveLeaderRequest(targetID=listed[two.name]["ID"]))), "etcdserver: not leader")
            two.signal(19)
            try:
                expect(failed(lambda: at_leader.Maintenance.MoveLeader(
                    rpc.MoveLeaderRequest(targetID=listed[two.name]["ID"]), timeout=20)),
                    "etcdserver: request timed out, leader transfer took too long")
            finally:
                two.signal(18)
            cluster.leader()
        two.kill()
        with Stubs(api, one) as at_one:
            watch = at_one.Watch.Watch(iter(()), metadata=())
            stream = at_one.Lease.LeaseKeepAlive(endless(rpc.LeaseKeepAliveRequest(ID=1)))
            next(stream)
            leader.kill()
            deadline = time.monotonic() + 10
            while one.status().get("leader"):
                assert time.monotonic() < deadline
                time.sleep(0.1)
            expect(failed(lambda: at_one.KV.Range(
                rpc.RangeRequest(key=b"k", serializable=True), metadata=[("hasleader", "true")])),
                "etcdserver: no leader")
            one.process.terminate()
            expect(failed(lambda: next(watch)), "etcdserver: server stopped")


def endless(first):
    yield first
    time.sleep(60)


def test_timeouts(api):
    """The leader dies under requests: whoever succeeds it knows why they were lost, the other does not."""
    plain, cause = "etcdserver: request timed out", "etcdserver: request timed out, possibly due to previous leader failure"
    for _ in range(3):
        got = lose_leader(api)
        assert got[0] == (code(plain), plain)
        if got[1] != got[0]:
            break
        # Elected later than two election timeouts after the requests began, which the text leaves out.
    expect(got[1], cause)


def lose_leader(api):
    """Puts at both followers of a leader that stands still; how they end."""
    put = api.rpc.PutRequest(key=b"k")
    with Cluster() as cluster:
        leader, followers = cluster.leader(), cluster.followers()
        with Stubs(api, followers[0]) as one, Stubs(api, followers[1]) as two:
            for each in (one, two):
                each.KV.Put(put)
            leader.signal(19)
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                return sorted(pool.map(lambda at: failed(lambda: at.KV.Put(put, timeout=15)), (one, two)))


def test_lost_connection(api):
    """The leader loses a request with its life, and leads again when its time is over."""
    rpc = api.rpc
    with Cluster(flags=["--election-timeout", "1000"]) as cluster:
        leader, (one, two) = cluster.leader(), cluster.followers()
        leader_id = cluster.listed()[leader.name]["ID"]
        with Stubs(api, one) as at_one:
            at_one.KV.Put(rpc.PutRequest(key=b"warm"))
            leader.signal(19)
            lost = at_one.KV.Put.future(rpc.PutRequest(key=b"k"), timeout=20)
            time.sleep(0.3)
            leader.kill()
            leader.start().wait_ready()
            now = cluster.leader()
            if now is not leader:
                with Stubs(api, now) as at_new:
                    at_new.Maintenance.MoveLeader(rpc.MoveLeaderRequest(targetID=leader_id), timeout=5)
            assert not lost.done()
            expect((lost.exception().code().name, lost.exception().details()),
                   "etcdserver: request timed out, possibly due to connection lost")
