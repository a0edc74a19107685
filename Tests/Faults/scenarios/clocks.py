"""Clocks that jump or run at another speed, and machines with too little processor or memory."""

import contextlib
import os
import pathlib
import signal

from .base import SMALL_LOG, scenario
from .processes import kill

GROUPS = pathlib.Path("/sys/fs/cgroup")


@scenario("F25", clocked=True)
def wall_clock(ctx):
    """wall clocks jump by up to an hour, once or ten times a second, on some or all members"""
    members = ctx.random.sample(ctx.members, ctx.random.randint(1, len(ctx.members)))
    strobes = ctx.random.random() < 0.5
    ctx.fault(f"wall clock of {' '.join(m.name for m in members)} {'strobes' if strobes else 'jumps'}")
    for _ in range(30 if strobes else 1):
        for member in members:
            member.set_clock(ctx.random.choice([-3600, 3600, ctx.random.uniform(-3600, 3600), 0]))
        ctx.wait(0.1)
    ctx.wait(1, 3)
    for member in members:
        member.set_clock(0)


@scenario("F26", clocked=True, clock_error=0.1)
def clock_rate(ctx):
    """the monotonic clock of each member runs up to a tenth too fast or too slow, leaders change"""
    for member in ctx.members:
        member.rate = ctx.random.choice([0.9, 1, 1.1])
        ctx.fault(f"clock of {member.name} at {member.rate}")
        kill(ctx, member)
    ctx.wait(2, 4)
    kill(ctx, ctx.leader())


@contextlib.contextmanager
def control_group(kind, member, limits):
    """Puts a process under limits of the kernel. Yields whether that works on this machine."""
    folder = GROUPS / kind / f"apus-faults-{os.getpid()}-{member.name}"
    try:
        folder.mkdir()
        for name, value in limits.items():
            (folder / name).write_text(str(value))
        (folder / "cgroup.procs").write_text(str(member.process.pid))
        made = True
    except OSError:
        made = False
    try:
        yield made
    finally:
        if folder.exists():
            for process in (folder / "cgroup.procs").read_text().split():
                (GROUPS / kind / "cgroup.procs").write_text(process)
            folder.rmdir()


@scenario("F24")
def starved(ctx):
    """one or all members get 5 to 20 hundredths of a processor for some seconds"""
    members = list(ctx.members) if ctx.random.random() < 0.3 else [ctx.leader() if ctx.random.random() < 0.5 else ctx.any()]
    share = ctx.random.choice([5, 10, 20])
    with contextlib.ExitStack() as stack:
        limits = {"cpu.cfs_period_us": 100_000, "cpu.cfs_quota_us": share * 1000}
        made = [stack.enter_context(control_group("cpu", m, limits)) for m in members]
        if not all(made):
            for _ in range(20):  # the same by hand
                for member in members:
                    member.pause()
                ctx.wait(0.1 * (100 - share) / 100)
                for member in members:
                    member.resume()
                ctx.wait(0.1 * share / 100)
        ctx.fault(f"{share} % of a processor for {' '.join(m.name for m in members)}")
        ctx.wait(2, 4)
    ctx.wait(0.5, 1)


@scenario("F24", exits=True, flags=SMALL_LOG)
def out_of_memory(ctx):
    """a member needs more memory than its limit: the kernel kills it"""
    member = ctx.leader() if ctx.random.random() < 0.5 else ctx.any()
    status = pathlib.Path(f"/proc/{member.process.pid}/status").read_text()
    used = int(next(line for line in status.splitlines() if line.startswith("RssAnon")).split()[1]) * 1024
    with control_group("memory", member, {"memory.limit_in_bytes": max(4096, used // 2)}) as made:
        if made:
            # Only what is allocated from now on counts.
            deadline = 6
            while member.running and deadline > 0:
                ctx.wait(0.1)
                deadline -= 0.1
    if not member.running and member.process.returncode == -signal.SIGKILL:
        ctx.fault(f"{member.name} was killed for its memory")
    elif not member.running:
        ctx.problems.append(f"{member.name} ended with {member.process.returncode} for want of memory: "
                            f"{member.log_text()[-1000:]}")
    else:
        ctx.fault(f"{member.name} swapped its caches for {used // 2} bytes")
    if not member.running:
        member.stopped_on_purpose = True
        ctx.start(member)
    ctx.wait(0.5, 1)
