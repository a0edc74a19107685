"""Disks that fail, fill up, are slow, and change what they hold."""

import shutil
import time

from ..injectors import EIO, ENOSPC
from .base import answered, scenario


def disk_fault(ctx, member, rule, must_end):
    """Sets a rule of the shim, waits for what it does, and mends."""
    hits = member.disk_hits()
    ctx.fault(f"disk of {member.name}: {rule}")
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
    if not member.running:
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
    """the file system of one member fills up, is freed, and the member started again if it ended"""
    member = ctx.any()
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


@scenario("F19", exits=True)
def flipped_bit(ctx):
    """a bit flips in the middle of a killed member's log: it must refuse to start, and is given its log back"""
    member = ctx.any()
    ctx.wait(0.5)
    member.kill()
    last = segments(member)[-1]
    data = bytearray(last.read_bytes())
    end = len(bytes(data).rstrip(b"\0"))
    if end > 2000:
        copy = member.data.parent / f"{member.name}.copy"
        shutil.copytree(member.data, copy)
        at = ctx.random.randrange(16, end - 1000)
        data[at] ^= 1 << ctx.random.randrange(8)
        last.write_bytes(data)
        ctx.fault(f"bit flipped at {at} of {end} in {last.name} of {member.name}")
        member.start()
        deadline = time.monotonic() + 8
        while member.running and "ready to serve" not in member.log_since_start() \
                and time.monotonic() < deadline:
            time.sleep(0.05)
        if member.running:
            ctx.problems.append(f"{member.name} starts with a flipped bit at {at} of {end} of its log: "
                                f"{member.log_since_start()[-1500:]}")
        member.kill()
        member.stopped_on_purpose = True
        shutil.rmtree(member.data)
        copy.rename(member.data)
    ctx.start(member)
    ctx.wait(0.5, 1)
