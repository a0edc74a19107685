"""Members that are killed at named points between two system calls, some of them with their power cut as well.

A point is a rule of the shim: the process ends before ("kill") or after ("killed") a call on a file whose path
has a part, after letting some such calls pass. What makes the call happen is the trigger.
"""

import threading
import time

import protos

from ..recorder import Stubs
from .base import SMALL_LOG, answered, scenario
from .power import cut

BIG = 1_000_000  # bytes of a proposal that fills the log


def on_any(ctx):
    return ctx.leader() if ctx.random.random() < 0.5 else ctx.any()


def nothing(ctx, member):
    pass


def fill_log(ctx, member):
    """Transactions that change nothing, so that no client can see them, but go through the log: a segment full."""
    api = protos.load()
    calls = Stubs(api, ctx.leader().endpoint)
    never = api.rpc.Compare(key=b"never", target=api.rpc.Compare.VERSION, result=api.rpc.Compare.EQUAL, version=7)
    put = api.rpc.RequestOp(request_put=api.rpc.PutRequest(key=b"never", value=bytes(BIG)))
    request = api.rpc.TxnRequest(compare=[never], success=[put])
    for _ in range(90):
        if not member.running:
            break
        try:
            calls.kv.Txn(request, timeout=2)
        except Exception:  # a member may have died meanwhile
            time.sleep(0.05)
    calls.channel.close()


def defragment(ctx, member):
    answered(member, "Defragment", ctx.api.rpc.DefragmentRequest(), 8)


def save(ctx, member):
    calls = Stubs(ctx.api, member.endpoint)
    try:
        for _ in calls.maintenance.Snapshot(ctx.api.rpc.SnapshotRequest(), timeout=8):
            pass
    except Exception:  # it dies of it
        pass
    calls.channel.close()


def compact(ctx, member):
    calls = Stubs(ctx.api, member.endpoint)
    client = next(ctx.recorder.client_ids)
    request = ctx.api.rpc.CompactionRequest(revision=max(1, min(each.shown for each in ctx.collectors) - 5),
                                            physical=True)
    ctx.recorder.call(client, member, calls, "compact", request, 2)
    calls.channel.close()


def fall_behind(ctx, member):
    """The member misses more than the log holds, so that its next start brings it a snapshot."""
    member.kill()
    ctx.wait(1.2, 2)
    member.start()


def help_up(ctx, member):
    """Another member needs a snapshot, which this one sends if it leads."""
    other = ctx.random.choice([m for m in ctx.members if m is not member])
    other.kill()
    ctx.wait(1.2, 2)
    ctx.start(other)


def start_again(ctx, member):
    member.kill()
    member.start()


def leader(ctx):
    return ctx.leader()


def follower(ctx):
    return ctx.follower()


# name: (call, path part, before or after, how many calls may pass, trigger, which member)
POINTS = {
    "log: before a write": ("write", ".wal", "kill", 200, nothing, on_any),
    "log: written, not synced": ("write", ".wal", "killed", 200, nothing, on_any),
    "log: synced, not acknowledged": ("sync", ".wal", "killed", 200, nothing, on_any),
    "log: before its mark": ("write", "owner.tmp", "kill", 100, nothing, on_any),
    "log: after its mark": ("write", "owner.tmp", "killed", 100, nothing, on_any),
    "segment: next one made": ("create", "/wal/", "killed", 0, fill_log, on_any),
    "segment: next one zeroed": ("write", "/wal/", "killed", 120, fill_log, on_any),
    "segment: before the cut": ("truncate", ".wal", "kill", 0, fill_log, on_any),
    "segment: cut off": ("truncate", ".wal", "killed", 0, fill_log, on_any),
    "segment: before its name": ("rename", ".wal", "kill", 0, fill_log, on_any),
    "segment: named": ("rename", ".wal", "killed", 0, fill_log, on_any),
    "segment: before its name is synced": ("dirsync", "/wal", "kill", 0, fill_log, on_any),
    "segment: name synced": ("dirsync", "/wal", "killed", 0, fill_log, on_any),
    "segment: before an old one goes": ("unlink", ".wal", "kill", 0, fill_log, on_any),
    "segment: old one gone": ("unlink", ".wal", "killed", 0, fill_log, on_any),
    "store: before a page": ("write", "store.lmdb", "kill", 12, nothing, on_any),
    "store: pages written": ("write", "store.lmdb", "killed", 12, nothing, on_any),
    "store: before the sync": ("sync", "store.lmdb", "kill", 6, nothing, on_any),
    "store: synced": ("sync", "store.lmdb", "killed", 6, nothing, on_any),
    "compaction: store written": ("write", "store.lmdb", "killed", 6, compact, on_any),
    "compaction: store synced": ("sync", "store.lmdb", "killed", 3, compact, on_any),
    "defragment: copy made": ("create", "store.lmdb.tmp", "killed", 0, defragment, on_any),
    "defragment: copying": ("write", "store.lmdb.tmp", "killed", 8, defragment, on_any),
    "defragment: before the sync": ("sync", "store.lmdb.tmp", "kill", 0, defragment, on_any),
    "defragment: synced": ("sync", "store.lmdb.tmp", "killed", 0, defragment, on_any),
    "defragment: before the swap": ("rename", "store.lmdb.tmp>", "kill", 0, defragment, on_any),
    "defragment: swapped": ("rename", "store.lmdb.tmp>", "killed", 0, defragment, on_any),
    "defragment: swap synced": ("dirsync", "/store", "killed", 0, defragment, on_any),
    "save: writing": ("write", "client-", "killed", 3, save, on_any),
    "send: writing": ("write", "send-", "killed", 0, help_up, leader),
    "send: sent": ("unlink", "send-", "kill", 0, help_up, leader),
    "receive: writing": ("write", "/snap/tmp", "killed", 1, fall_behind, follower),
    "receive: before the sync": ("sync", "/snap/tmp", "kill", 0, fall_behind, follower),
    "receive: synced": ("sync", "/snap/tmp", "killed", 0, fall_behind, follower),
    "receive: named": ("rename", ".snap.db", "killed", 0, fall_behind, follower),
    "receive: name synced": ("dirsync", "/snap", "killed", 0, fall_behind, follower),
    "install: before its mark in the log": ("write", ".wal", "kill", 2, fall_behind, follower),
    "install: mark written": ("write", ".wal", "killed", 2, fall_behind, follower),
    "install: mark synced": ("sync", ".wal", "killed", 3, fall_behind, follower),
    "install: copying": ("write", "store.lmdb.tmp", "killed", 8, fall_behind, follower),
    "install: synced": ("sync", "store.lmdb.tmp", "killed", 0, fall_behind, follower),
    "install: before the swap": ("rename", "store.lmdb.tmp>", "kill", 0, fall_behind, follower),
    "install: swapped": ("rename", "store.lmdb.tmp>", "killed", 0, fall_behind, follower),
    "install: swap synced": ("dirsync", "/store", "killed", 0, fall_behind, follower),
    "install: before the file goes": ("unlink", ".snap.db", "kill", 0, fall_behind, follower),
    "install: file gone": ("unlink", ".snap.db", "killed", 0, fall_behind, follower),
    "start: any call": ("any", "/member/", "killed", 40, start_again, on_any),
    "catch-up: any call": ("any", "/member/", "killed", 80, fall_behind, follower),
}


@scenario("F3, F28", powered=True, exits=True, flags=(*SMALL_LOG, "--max-wals", "1"))
def crash_points(ctx):
    """killed at each of some forty named points, every other time with a power cut"""
    left = [name for name in POINTS if not ctx.counts[name]] or list(POINTS)
    name = ctx.random.choice(left)
    call, part, action, most, trigger, which = POINTS[name]
    member = which(ctx)
    hits = member.disk_hits()
    member.disk((call, part, action, ctx.random.randint(0, most), 1))
    work = threading.Thread(target=trigger, args=(ctx, member))
    work.start()
    deadline = time.monotonic() + (6 if trigger in (nothing, compact, defragment, save) else 15)
    while member.disk_hits() == hits and time.monotonic() < deadline:
        time.sleep(0.005)
    is_hit = member.disk_hits() > hits
    if is_hit and not ctx.ended(member, 2):
        ctx.problems.append(f"{member.name} goes on after {name}")
    member.stopped_on_purpose = True
    work.join()
    member.disk()
    ctx.counts[name] += is_hit
    if is_hit:
        # The trigger may have started it again.
        member.kill()
        lost = member.disk_image.cut(ctx.random) if ctx.random.random() < 0.5 else "the disk keeps all"
        ctx.fault(f"{member.name} killed at {name!r}, {lost}")
    ctx.start(member)
    ctx.wait(0.1, 0.4)


FIRST = ("create", "write", "sync", "dirsync", "rename", "any")


def interrupted_starts(cluster, random):
    """Each member's first start is cut short a few times before it may go on."""
    for member in cluster.members:
        for _ in range(3):
            member.disk((random.choice(FIRST), ".disk/", random.choice(["kill", "killed"]), random.randrange(25), 1))
            hits = member.disk_hits()
            member.start()
            deadline = time.monotonic() + 1
            while member.running and member.disk_hits() == hits and time.monotonic() < deadline:
                time.sleep(0.01)
            member.kill()
            if random.random() < 0.6:
                member.disk_image.cut(random)
        member.disk()


@scenario("F3, F14", powered=True, prepare=interrupted_starts)
def first_start(ctx):
    """the first start of every member is killed at random calls, with and without a power cut; later cuts of all"""
    if not ctx.injected:
        ctx.fault("first starts interrupted")
    ctx.wait(0.5, 1)
    cut(ctx, list(ctx.members))
