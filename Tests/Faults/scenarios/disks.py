"""Disks that fail, fill up, are slow, and change what they hold."""

import re
import shutil
import time

from .. import wal
from ..injectors import EIO, ENOSPC
from .base import SMALL_LOG, answered, scenario
from .points import fill_log
from .processes import kill


def disk_fault(ctx, member, rule, must_end):
    """Sets a rule of the shim, waits for what it does, and mends."""
    hits = member.disk_hits()
    ctx.fault(f"disk of {member.name}: {rule}")
    member.stopped_on_purpose = must_end  # it may end from here on
    member.disk(rule)
    deadline = time.monotonic() + 4
    while member.running and time.monotonic() < deadline and (must_end or member.disk_hits() == hits):
        time.sleep(0.02)
    if must_end and member.disk_hits() > hits and member.running:
        ctx.problems.append(f"{member.name} goes on after {rule}: {member.log_text()[-1000:]}")
    if not must_end and not member.running:
        ctx.problems.append(f"{member.name} ended with {member.process.returncode} after {rule}: "
                            f"{member.log_text()[-1500:]}")
    if member.disk_hits() == hits:
        ctx.injected -= 1
    member.disk()
    if member.running:
        member.stopped_on_purpose = False
    else:
        if must_end and member.process.returncode == 0:
            ctx.problems.append(f"{member.name} ended with 0 after {rule}")
        ctx.recorder.history.faults.append((time.monotonic_ns(),
                                            f"{member.name} ended with {member.process.returncode}"))
        member.stopped_on_purpose = True
        ctx.wait(0.1, 1)
        ctx.start(member)
    ctx.wait(0.5, 1.5)


@scenario("F15", shimmed=True, exits=True)
def sync_error(ctx):
    """fdatasync of the log fails once: the member must end and not acknowledge"""
    disk_fault(ctx, ctx.any(), ("sync", "/wal/", "errno", ctx.random.choice([EIO, ENOSPC]), 1), True)


@scenario("F16", shimmed=True, exits=True)
def write_error(ctx):
    """a write to the log fails once, or is torn and the process killed"""
    rule = ctx.random.choice([("write", "/wal/", "errno", EIO, 1), ("write", "/wal/", "errno", ENOSPC, 1),
                              ("write", "/wal/", "torn", ctx.random.choice([1, 7, 8, 100, 512]), 1)])
    disk_fault(ctx, ctx.leader() if ctx.random.random() < 0.5 else ctx.any(), rule, True)


@scenario("F16", shimmed=True, exits=True)
def short_write(ctx):
    """writes to the log come up short: nothing happens"""
    disk_fault(ctx, ctx.any(), ("write", "/wal/", "short", 0, 5), False)


@scenario("F16", shimmed=True, exits=True)
def interrupted_write(ctx):
    """writes to and syncs of the log are interrupted (EINTR): nothing happens"""
    disk_fault(ctx, ctx.any(), ("write", "/wal/", "errno", 4, 3), False)


@scenario("F15", shimmed=True, exits=True)
def store_error(ctx):
    """a write or sync of the store fails: the member must end"""
    disk_fault(ctx, ctx.any(), (ctx.random.choice(["write", "sync"]), "/store.", "errno", EIO, 1), True)


@scenario("F23", shimmed=True)
def slow_disk(ctx):
    """each sync of one member takes 50 to 400 ms"""
    member, delay = ctx.any(), ctx.random.choice([50, 150, 400])
    ctx.fault(f"slow disk of {member.name}, {delay} ms")
    member.disk(("sync", "/member/", "delay", delay, -1))
    ctx.wait(3, 6)
    member.disk()
    ctx.wait(0.5, 1)


@scenario("F17", exits=True, tmpfs="600m")
def full_disk(ctx):
    """the file system of one member fills up; a follower's stops nobody; it is freed, and the member restarted"""
    member = ctx.leader() if ctx.random.random() < 0.4 else ctx.follower()
    follows = member is not ctx.leader()
    ballast = member.data.parent / "ballast"
    ctx.fault(f"full disk of {member.name}")
    try:
        with open(ballast, "wb") as file:
            while True:
                file.write(bytes(1 << 20))
                file.flush()
    except OSError:
        pass
    ctx.wait(3, 5)
    alarms = answered(ctx.leader(), "Alarm", ctx.api.rpc.AlarmRequest(action=ctx.api.rpc.AlarmRequest.GET))
    follows = follows and member is not ctx.leader()
    ctx.counts["full followers" if follows else "full leaders"] += 1
    if follows and alarms is not None and alarms.alarms:
        ctx.problems.append(f"the full disk of a follower, {member.name}, stops all writes: {alarms.alarms}")
    restarted = False
    if member.running and ctx.random.random() < 0.5:
        ctx.fault(f"kill -9 {member.name} on its full disk")
        member.kill()
        member.start()
        restarted = True
        ctx.wait(1)
    ballast.unlink()
    if not member.running:
        ctx.fault(f"{member.name} ended with {member.process.returncode}")
        member.stopped_on_purpose = True
        ctx.start(member)
    elif restarted:
        ctx.ready(member)
    ctx.wait(0.5, 1)
    disarm(ctx)
    ctx.wait(1)


def disarm(ctx):
    """Space is there again: takes back the alarms that say otherwise, as an operator would."""
    rpc = ctx.api.rpc
    for _ in range(20):
        listed = answered(ctx.leader(), "Alarm", rpc.AlarmRequest(action=rpc.AlarmRequest.GET))
        if listed is not None and not listed.alarms:
            return
        for alarm in listed.alarms if listed else ():
            ctx.fault(f"disarm {' '.join(str(alarm).split())}")
            ctx.injected -= 1
            answered(ctx.leader(), "Alarm", rpc.AlarmRequest(
                action=rpc.AlarmRequest.DEACTIVATE, memberID=alarm.memberID, alarm=alarm.alarm))
        ctx.wait(0.2)
    ctx.problems.append(f"alarms that do not go: {listed}")


def segments(member):
    return sorted((member.data / "member" / "wal").glob("*.wal"))


@scenario("F18")
def torn_tail(ctx):
    """after a killed member's last record stands the start of another one, of stale bytes or nothing"""
    member = ctx.any()
    member.kill()
    last = segments(member)[-1]
    data = last.read_bytes()
    end = len(data.rstrip(b"\0"))
    # Segments are zeroed before use, so what a cut write leaves is the start of its own record: of the
    # length field, or that and less data than it says.
    at = (end + 7) // 8 * 8
    stale = (200).to_bytes(8, "little") + data[512:512 + ctx.random.randrange(150)]
    stale = stale[:ctx.random.choice([1, 7, 8, 9, 100, 158])]
    ctx.fault(f"{len(stale)} stale bytes at {at} of {last.name} of {member.name}: {stale[:24].hex()}")
    with open(last, "r+b") as file:
        file.seek(at)
        file.write(stale)
    ctx.start(member)
    ctx.wait(0.5, 1.5)


def must_refuse(ctx, member, text, within=8):
    """Starts a member on data that it must not use; then gives the copy back that `spoil` has made."""
    member.start()
    deadline = time.monotonic() + within
    while member.running and "ready to serve" not in member.log_since_start() and time.monotonic() < deadline:
        time.sleep(0.05)
    if member.running:
        ctx.problems.append(f"{member.name} starts {text}: {member.log_since_start()[-1500:]}")
    elif member.process.returncode < 0:
        ctx.problems.append(f"{member.name} ended with {member.process.returncode} {text}: "
                            f"{member.log_since_start()[-1500:]}")


def copy_of(member):
    return member.data.parent / f"{member.name}.copy"


def keep_copy(member):
    shutil.rmtree(copy_of(member), ignore_errors=True)
    shutil.copytree(member.data, copy_of(member))


def give_back(ctx, member):
    member.kill()
    shutil.rmtree(member.data)
    copy_of(member).rename(member.data)
    ctx.start(member)
    ctx.wait(0.5, 1)


@scenario("F19", exits=True)
def flipped_bit(ctx):
    """a bit flips in the middle of a killed member's log: it must refuse to start, and is given its log back"""
    member = ctx.any()
    ctx.wait(0.5)
    member.kill()
    last = segments(member)[-1]
    data = bytearray(last.read_bytes())
    end = len(bytes(data).rstrip(b"\0"))
    if end <= 2000:
        ctx.start(member)
        return
    keep_copy(member)
    at = ctx.random.randrange(16, end - 1000)
    data[at] ^= 1 << ctx.random.randrange(8)
    last.write_bytes(data)
    ctx.fault(f"bit flipped at {at} of {end} in {last.name} of {member.name}")
    must_refuse(ctx, member, f"with a flipped bit at {at} of {end} of its log")
    give_back(ctx, member)


KINDS = {"metadata": wal.METADATA, "entry": wal.ENTRY, "hard state": wal.STATE, "snapshot mark": wal.SNAPSHOT}


@scenario("F20", exits=True, flags=SMALL_LOG)
def flipped_field(ctx):
    """a bit flips in a length, a type, a checksum or the data of a log record of each kind: refused at start"""
    member = ctx.any()
    ctx.wait(0.5)
    member.kill()
    last = segments(member)[-1]
    data = bytearray(last.read_bytes())
    found = list(wal.records(data))[:-12]
    kind = ctx.random.choice([name for name in KINDS if any(each.kind == KINDS[name] for each in found)])
    record = ctx.random.choice([each for each in found if each.kind == KINDS[kind]])
    start = record.offset + 8  # 08 type 10 checksum... 1a length data...
    checksum = data[start + 3:start + 8]
    size = next(n + 1 for n, byte in enumerate(checksum) if byte < 128)
    # Zeros behind the data are in no checksum; here the data's own end counts.
    low, high = {"length": (record.offset, record.offset + 2), "type": (start + 1, start + 2),
                 "checksum": (start + 3, start + 3 + size),
                 "data": (start + 3 + size + 2, start + 3 + size + 2 + len(record.data) // 2)}[
        part := ctx.random.choice(["length", "type", "checksum", "data"])]
    keep_copy(member)
    at = ctx.random.randrange(low, max(high, low + 1))
    bit = ctx.random.randrange(8)
    data[at] ^= 1 << bit
    last.write_bytes(data)
    what = f"the {part} of a record ({kind}) of {member.name}, bit {bit} at {at}"
    ctx.fault(f"flipped in {what}")
    ctx.counts[f"{part} of {kind}"] += 1
    must_refuse(ctx, member, f"with a bit flipped in {what}")
    give_back(ctx, member)


@scenario("F20", exits=True, flags=("--feature-gates", "InitialCorruptCheck=true"))
def flipped_store(ctx):
    """a bit of a value flips in a killed member's store: the check of hashes at its start finds it"""
    member = ctx.any()
    ctx.wait(0.7)
    calls = ctx.calls(member)
    rows = calls.kv.Range(ctx.api.rpc.RangeRequest(key=b"k/", range_end=b"k0"), timeout=8, wait_for_ready=True).kvs
    ctx.wait(0.3)  # committed to the file by then
    member.kill()
    store = member.data / "member" / "store" / "store.lmdb"
    data = bytearray(store.read_bytes())
    kv = ctx.random.choice(list(rows)) if rows else None
    pattern = b"*" + bytes([len(kv.value)]) + kv.value if kv else b""  # its value's field, in a stored record
    places = [each.start() + 2 for each in re.finditer(re.escape(pattern), data)] if kv else []
    keep_copy(member)
    for at in places:  # pages that are no longer in use hold it as well
        data[at] ^= 1
    store.write_bytes(data)
    if places:
        ctx.fault(f"bit flipped at {places} of the store of {member.name}")
    member.start()
    deadline = time.monotonic() + 10
    while member.running and "ready to serve" not in member.log_since_start() and time.monotonic() < deadline:
        time.sleep(0.05)
    # Overwritten and compacted meanwhile, the value may be in no page that counts.
    ctx.counts["found at start"] += not member.running
    ctx.counts["not found"] += member.running
    if member.running:
        shutil.rmtree(copy_of(member))
        ctx.wait(0.5)
    else:
        member.stopped_on_purpose = True
        give_back(ctx, member)


@scenario("F21", exits=True)
def missing_segment(ctx):
    """the newest segment of a killed member's log is gone: it must not start with what is left"""
    member = ctx.any()
    if len(segments(member)) < 2 and ctx.random.random() < 0.5:
        fill_log(ctx, member)
    ctx.wait(0.3)
    member.kill()
    keep_copy(member)
    gone = segments(member)[-1]
    ctx.fault(f"{gone.name} of {len(segments(member))} of {member.name} is gone")
    gone.unlink()
    must_refuse(ctx, member, "without its newest segment")
    give_back(ctx, member)


@scenario("F21", exits=True)
def old_data(ctx):
    """a follower comes back with an older copy of its data: it has forgotten what it acknowledged, and must end"""
    member = ctx.follower()
    member.kill()
    old = member.data.parent / f"{member.name}.old"
    shutil.copytree(member.data, old)
    ctx.start(member)
    ctx.wait(1, 2)
    member.kill()
    keep_copy(member)
    shutil.rmtree(member.data)
    old.rename(member.data)
    ctx.fault(f"old data of {member.name}")
    # Only the leader that has its acknowledgements can tell; none other is made meanwhile.
    member.start()
    if not ctx.ended(member, 6):
        ctx.problems.append(f"{member.name} goes on with old data: {member.log_since_start()[-1500:]}")
    elif member.process.returncode < 0 or "older" not in member.log_since_start():
        ctx.problems.append(f"{member.name} does not say why it ends: {member.log_since_start()[-1500:]}")
    give_back(ctx, member)


@scenario("F22", exits=True)
def wiped(ctx):
    """a member's data is gone, and it is started as if it were new: refused"""
    member = ctx.any()
    member.kill()
    keep_copy(member)
    shutil.rmtree(member.data)
    ctx.fault(f"data of {member.name} wiped")
    must_refuse(ctx, member, "without its data")
    if "already been bootstrapped" not in member.log_since_start():
        ctx.problems.append(f"{member.name} does not say why: {member.log_since_start()[-1500:]}")
    shutil.rmtree(member.data, ignore_errors=True)
    member.data.mkdir()
    give_back(ctx, member)


def outrun(ctx, leader):
    """More entries than etcd keeps for slow members (5,000), of transactions that change nothing."""
    calls = ctx.calls(leader)
    rpc = ctx.api.rpc
    never = rpc.Compare(key=b"never", target=rpc.Compare.VERSION, result=rpc.Compare.EQUAL, version=7)
    put = rpc.RequestOp(request_put=rpc.PutRequest(key=b"never"))
    request = rpc.TxnRequest(compare=[never], success=[put])
    for _ in range(26):
        for each in [calls.kv.Txn.future(request, timeout=10) for _ in range(250)]:
            each.exception()


@scenario("F28", proxied=True, flags=SMALL_LOG)
def snapshot_transfer(ctx):
    """snapshots on their way to a follower are cut off or have a byte changed, several times in a row"""
    leader = ctx.leader()
    others = [m for m in ctx.members if m is not leader]
    # In a mixed cluster the ways between the kinds are of interest.
    member = ctx.random.choice([m for m in others if m.kind != leader.kind] or others)
    ctx.fault(f"kill -9 {member.name}")
    member.kill()
    ctx.wait(1.5, 2.5)
    if leader.kind != "apus":
        outrun(ctx, leader)
    kind = "flip" if ctx.counts["flip"] <= ctx.counts["cut"] else "cut"
    if {leader.kind, member.kind} != {"apus"}:
        kind = "cut"  # etcd sends no checksum and looks for none: neither side can tell a changed value
    pairs = {(m.name, member.name): {"snapshot": kind} for m in ctx.members if m is not member}
    before = ctx.cluster.links(pairs)
    member.start()
    if ctx.random.random() < 0.4:
        answered(ctx.leader(), "Defragment", ctx.api.rpc.DefragmentRequest(), 20)
    ctx.wait(2, 4)
    after = ctx.cluster.links(None)
    hit = after.get(kind, 0) - before.get(kind, 0)
    ctx.counts[kind] += hit
    ctx.fault(f"{hit} snapshots {kind}")
    ctx.ready(member)
    if leader.kind != member.kind:
        ctx.counts[f"{leader.kind} to {member.kind}"] += hit
        # The other way next.
        ctx.wait(1)
        target = member.status(2)
        if target:
            answered(ctx.leader(), "MoveLeader", ctx.api.rpc.MoveLeaderRequest(targetID=target.header.member_id))
    if ctx.random.random() < 0.4:
        kill(ctx, member)
    ctx.wait(1, 2)
