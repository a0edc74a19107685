"""Leases: grant, attach, keep alive, look at, list, revoke, expire."""

import queue
import time

import grpc
from driver import Step, failure, plain


def keep_alive(s, *ids, half_close=True):
    """Sends keepalives on one stream and records every answer and how the stream ends."""
    requests = queue.Queue()
    for each in ids:
        requests.put(s.api.rpc.LeaseKeepAliveRequest(ID=each))
    if half_close:
        requests.put(None)
    answers = []
    call = s.stubs["Lease"].LeaseKeepAlive(iter(requests.get, None), timeout=5)
    try:
        for answer in call:
            answers.append(plain(answer, s.rename))
            if not half_close and len(answers) == len(ids):
                break
        end = "OK"
    except grpc.RpcError as error:
        end = failure(error)
    call.cancel()
    requests.put(None)
    s.steps.append(Step("Lease.LeaseKeepAlive", ids, {"answers": answers, "end": end}))


def test_grant(same):
    def scenario(s):
        for ttl, lease in ((600, 1), (600, 1), (0, 2), (-5, 3), (1, 4), (2, 5), (3, 6),
                           (9000000000, 7), (9000000001, 8), (600, -9), (600, -9),
                           (600, (1 << 63) - 1), (-(1 << 63), 11), ((1 << 63) - 1, 12)):
            s.call("Lease.LeaseGrant", TTL=ttl, ID=lease)
        answer = s.stubs["Lease"].LeaseGrant(s.api.rpc.LeaseGrantRequest(TTL=600))
        s.note("picked id", {"positive": answer.ID > 0, "ttl": answer.TTL, "error": answer.error})
    same(scenario)


def test_revoke_and_attachments(same):
    def scenario(s):
        s.call("Lease.LeaseGrant", TTL=600, ID=1)
        s.call("Lease.LeaseGrant", TTL=600, ID=2)
        for key in (b"p", b"q", b"r"):
            s.call("KV.Put", key=key, lease=1)
        s.call("KV.Put", key=b"p")  # detaches
        s.call("KV.Put", key=b"q", lease=2)  # moves
        s.call("KV.Put", key=b"r", ignore_lease=True)  # stays
        for lease in (1, 2):
            answer = s.stubs["Lease"].LeaseTimeToLive(
                s.api.rpc.LeaseTimeToLiveRequest(ID=lease, keys=True))
            s.note("attached", sorted(answer.keys))
        s.call("Lease.LeaseRevoke", ID=1)
        s.call("Lease.LeaseRevoke", ID=1)
        s.call("Lease.LeaseRevoke", ID=0)
        s.call("Lease.LeaseRevoke", ID=404)
        s.call("KV.Range", key=b"\0", range_end=b"\0")
        s.call("KV.DeleteRange", key=b"q")
        s.call("Lease.LeaseRevoke", ID=2)
        s.call("KV.Put", key=b"p", lease=2)
        s.call("Lease.LeaseGrant", TTL=600, ID=2)
        s.call("KV.Put", key=b"p", lease=2)
        s.call("Lease.LeaseRevoke", ID=2)
        s.call("KV.Range", key=b"\0", range_end=b"\0")
    same(scenario)


def test_time_to_live(same):
    def scenario(s):
        s.call("Lease.LeaseGrant", TTL=1000, ID=1)
        s.call("KV.Put", key=b"only", lease=1)
        for lease in (1, 404, 0, -1):
            for keys in (False, True):
                s.call("Lease.LeaseTimeToLive", ID=lease, keys=keys)
        s.call("Lease.LeaseRevoke", ID=1)
        s.call("Lease.LeaseTimeToLive", ID=1, keys=True)
    same(scenario)


def test_leases(same):
    def scenario(s):
        for lease in (5, 3, -4, 9):
            s.call("Lease.LeaseGrant", TTL=600, ID=lease)
            answer = s.stubs["Lease"].LeaseLeases(s.api.rpc.LeaseLeasesRequest())
            s.note("leases", sorted(each.ID for each in answer.leases))
        for lease in (5, 3, 9, -4):
            s.call("Lease.LeaseRevoke", ID=lease)
        s.call("Lease.LeaseLeases")
    same(scenario)


def test_keep_alive(same):
    def scenario(s):
        s.call("Lease.LeaseGrant", TTL=600, ID=1)
        s.call("Lease.LeaseGrant", TTL=0, ID=2)
        keep_alive(s)
        keep_alive(s, 1)
        keep_alive(s, 1, 404, 2, 1, 0, -7)
        keep_alive(s, 1, 1, 1, half_close=False)
        s.call("Lease.LeaseRevoke", ID=1)
        keep_alive(s, 1)
    same(scenario)


def test_expiry(same):
    def scenario(s):
        s.call("Lease.LeaseGrant", TTL=2, ID=1)
        s.call("Lease.LeaseGrant", TTL=600, ID=2)
        w = s.watch()
        w.create(key=b"\0", range_end=b"\0")
        for key in (b"b", b"a"):
            s.call("KV.Put", key=key, lease=1)
        s.call("KV.Put", key=b"stays", lease=2)
        started = time.monotonic()
        w.take(0, 5, timeout=10)
        s.note("not early", time.monotonic() - started > 1.5)
        s.call("KV.Range", key=b"\0", range_end=b"\0")
        s.call("Lease.LeaseTimeToLive", ID=1, keys=True)
        keep_alive(s, 1)
        s.call("Lease.LeaseRevoke", ID=1)
        s.call("KV.Put", key=b"b", lease=1)
    same(scenario)
