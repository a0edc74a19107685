"""Clients that are too many, too slow, too large or do not speak HTTP/2; and very many leases."""

import os
import pathlib
import random as randomness
import socket
import threading
import time

import grpc
from load import varint

from .. import http2
from ..recorder import Stubs
from .base import scenario
from .processes import kill_leader, move_leader, pause_leader

MEMORY = 400 << 20  # bytes that a storm may cost a member
CONNECTIONS = 3000  # to each member


def resident(member):
    status = pathlib.Path(f"/proc/{member.process.pid}/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmRSS")).split()[1]) * 1024


def descriptors(member):
    return len(os.listdir(f"/proc/{member.process.pid}/fd"))


def crowd(ctx, held):
    """Connections that say hello and nothing else."""
    for member in ctx.members:
        for _ in range(CONNECTIONS):
            try:
                each = socket.create_connection(("127.0.0.1", member.client_port), timeout=2)
                each.sendall(http2.hello())
                held.append(each)
            except OSError:
                return


def vandals(ctx, until):
    """Connections that break the protocol in one way or another."""
    random = randomness.Random(ctx.random.random())
    good = http2.request(1, b"/etcdserverpb.KV/Range", b"\n\x01k")
    kinds = [
        lambda: random.randbytes(200), lambda: http2.PREFACE + random.randbytes(400),
        lambda: http2.hello() + good[:random.randrange(len(good))],
        lambda: http2.hello() + http2.frame(http2.HEADERS, 5, 1, random.randbytes(60)),
        lambda: http2.hello() + http2.frame(http2.DATA, 1, 99, random.randbytes(60)),
        lambda: http2.hello() + b"\xff\xff\xff\x00\x00\x00\x00\x00\x01",
        lambda: http2.hello() + good + http2.frame(http2.GOAWAY, 0, 0, bytes(8)),
        lambda: http2.hello() + b"".join(http2.frame(http2.PING, 0, 0, bytes(8)) for _ in range(2000)),
        lambda: http2.hello() + b"".join(http2.frame(http2.SETTINGS, 0, 0) for _ in range(2000)),
        lambda: http2.hello() + b"".join(
            http2.frame(http2.HEADERS, 4, 2 * n + 1, http2.head(b"/etcdserverpb.Watch/Watch"))
            + http2.frame(http2.RESET, 0, 2 * n + 1, bytes(4)) for n in range(500)),
        lambda: http2.hello() + http2.request(1, b"/etcdserverpb.KV/Range", random.randbytes(50)),
        lambda: http2.hello() + http2.request(1, b"/etcdserverpb.KV/Put", b"\xff" * 9),
        lambda: b"GET / HTTP/1.1\r\n" + b"x: " + b"y" * 100_000,
    ]
    while not until.is_set():
        member = random.choice(ctx.members)
        try:
            with socket.create_connection(("127.0.0.1", member.client_port), timeout=1) as each:
                each.sendall(random.choice(kinds)())
                each.settimeout(0.05)
                each.recv(1000)
        except OSError:
            pass


def heavy(ctx, until):
    """Large proposals without an effect, and calls given up at once."""
    rpc = ctx.api.rpc
    never = rpc.Compare(key=b"never", target=rpc.Compare.VERSION, result=rpc.Compare.EQUAL, version=7)
    put = rpc.RequestOp(request_put=rpc.PutRequest(key=b"never", value=bytes(1_400_000)))
    calls = [Stubs(ctx.api, m.endpoint) for m in ctx.members]
    while not until.is_set():
        stubs = ctx.random.choice(calls)
        stubs.kv.Txn.future(rpc.TxnRequest(compare=[never], success=[put]), timeout=1)
        for _ in range(50):
            stubs.kv.Range.future(rpc.RangeRequest(key=b"\0", range_end=b"\0"), timeout=2).cancel()
        time.sleep(0.05)
    for each in calls:
        each.channel.close()


def idle_readers(ctx):
    """Watches of everything from the beginning, whose clients read nothing: connections to close later."""
    rpc = ctx.api.rpc
    body = rpc.WatchRequest(create_request=rpc.WatchCreateRequest(
        key=b"\0", range_end=b"\0", start_revision=1, prev_kv=True)).SerializeToString()
    opened = []
    for number in range(40):
        member = ctx.members[number % len(ctx.members)]
        each = socket.create_connection(("127.0.0.1", member.client_port), timeout=2)
        each.sendall(http2.hello() + http2.frame(http2.HEADERS, 4, 1, http2.head(b"/etcdserverpb.Watch/Watch"))
                     + http2.frame(http2.DATA, 0, 1, b"\0\0\0\0" + bytes([len(body)]) + body))
        opened.append(each)
    return opened


@scenario("F29")
def storm(ctx):
    """thousands of connections, broken frames, huge proposals, watches that nobody reads, calls given up"""
    before = {m.name: (resident(m), descriptors(m)) for m in ctx.members}
    held, over = idle_readers(ctx), threading.Event()
    ctx.fault("storm of clients")
    threads = [threading.Thread(target=crowd, args=(ctx, held)),
               *(threading.Thread(target=vandals, args=(ctx, over)) for _ in range(3)),
               threading.Thread(target=heavy, args=(ctx, over))]
    for each in threads:
        each.start()
    ctx.wait(6)
    ctx.counts["connections"] = max(ctx.counts["connections"], len(held))
    for member in ctx.members:
        grown = resident(member) - before[member.name][0]
        ctx.counts["MB more"] = max(ctx.counts["MB more"], grown >> 20)
        if grown > MEMORY:
            ctx.problems.append(f"{member.name} grew by {grown >> 20} MB in a storm of {len(held)} connections")
    over.set()
    for each in threads:
        each.join()
    for each in held:
        each.close()
    deadline = time.monotonic() + 10
    for member in ctx.members:
        while descriptors(member) > before[member.name][1] + 60 and time.monotonic() < deadline:
            ctx.wait(0.2)
        if descriptors(member) > before[member.name][1] + 60:
            ctx.problems.append(f"{member.name} keeps {descriptors(member)} files open, before the storm it had "
                                f"{before[member.name][1]}")
    ctx.wait(1)


STORM_LEASES, STORM_TTL = 100_000, 20


def grant_many(member, first, count):
    connection = http2.Connection(member.endpoint)
    for start in range(first, first + count, 200):
        connection.call_all(b"/etcdserverpb.Lease/LeaseGrant", [
            b"\x08" + varint(STORM_TTL) + b"\x10" + varint(number)
            for number in range(start, min(start + 200, first + count))])
    connection.close()


def count_leases(ctx, member):
    try:
        return len(ctx.calls(member).lease.LeaseLeases(ctx.api.rpc.LeaseLeasesRequest(), timeout=5).leases)
    except grpc.RpcError:
        return None


@scenario("F32")
def lease_storm(ctx):
    """100,000 leases run out within seconds while the leader changes: none early, each once, and soon"""
    if ctx.counts["leases"]:
        return ctx.wait(0.5)
    first, began = 1 << 40, time.monotonic()
    ctx.fault(f"{STORM_LEASES} leases of {STORM_TTL} s")
    for part in range(10):
        grant_many(ctx.members[part % len(ctx.members)], first + part * STORM_LEASES // 10, STORM_LEASES // 10)
    granted = time.monotonic()
    ctx.counts["leases"], ctx.counts["s to grant"] = STORM_LEASES, round(granted - began)
    # Some carry keys; their revocations are in the history.
    recorder, rpc = ctx.recorder, ctx.api.rpc
    member, client = ctx.any(), next(recorder.client_ids)
    for number in range(500):
        lease = first + ctx.random.randrange(STORM_LEASES)
        recorder.call(client, member, ctx.calls(member), "put", rpc.PutRequest(
            key=b"l/storm/%d" % number, value=b"%d:storm:%d" % (client, number), lease=lease), 5)
    ctx.wait(max(0, began + STORM_TTL - time.monotonic() - 3))
    early = [count for m in ctx.members if (count := count_leases(ctx, m)) is not None
             and time.monotonic() < began + STORM_TTL and count < STORM_LEASES]
    if early:
        ctx.problems.append(f"only {early} of {STORM_LEASES} leases before the first may run out")
    ctx.random.choice([pause_leader, kill_leader, move_leader])(ctx)
    over = time.monotonic() + 180
    while time.monotonic() < over:
        left = count_leases(ctx, ctx.any())
        if left is not None and left < 1000:
            break
        ctx.wait(0.5)
    else:
        ctx.problems.append(f"{left} of {STORM_LEASES} leases are still there")
    ctx.counts["s until they were gone"] = round(time.monotonic() - granted)
