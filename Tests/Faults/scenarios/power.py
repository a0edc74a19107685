"""Power cuts: what was not synced is lost, torn or kept, as it happens."""

import signal
import threading
import time

from ..filesystems import power_up, shut_down
from .base import SMALL_LOG, answered, scenario


def kill_at_once(ctx, members):
    for member in members:
        member.stopped_on_purpose = True
        member.signal(signal.SIGKILL)
    for member in members:
        member.process.wait()


def cut(ctx, members):
    """The power of some members goes, and comes back in any order."""
    kill_at_once(ctx, members)
    for member in members:
        ctx.fault(f"power cut of {member.name}: {member.disk_image.cut(ctx.random)}")
    restart(ctx, members)


def restart(ctx, members):
    order = ctx.random.sample(members, len(members))
    for member in order:
        member.start()
        time.sleep(ctx.random.choice([0, 0, 0.2]))
    for member in order:
        ctx.ready(member)


def busy(ctx):
    """In some cases a member defragments when the power goes."""
    if ctx.random.random() < 0.4:
        member = ctx.any()
        threading.Thread(target=answered, args=(member, "Defragment", ctx.api.rpc.DefragmentRequest(), 3),
                         daemon=True).start()
        time.sleep(ctx.random.uniform(0, 0.1))


@scenario("F13", powered=True, flags=SMALL_LOG)
def power_cut(ctx):
    """power cut of a minority: sectors and names that were not synced are lost or torn"""
    ctx.wait(0.2, 1.5)
    busy(ctx)
    cut(ctx, ctx.minority())
    ctx.wait(0.2, 1)


@scenario("F14, F18", powered=True, flags=SMALL_LOG)
def power_cut_all(ctx):
    """power cut of all members at a random moment"""
    ctx.wait(0.2, 1.5)
    busy(ctx)
    cut(ctx, list(ctx.members))
    ctx.wait(0.1, 0.5)


@scenario("F13, F14", image="400m", flags=SMALL_LOG)
def power_cut_ext4(ctx):
    """power cut of ext4 itself (shut down without flushing its journal), of one, some or all members"""
    ctx.wait(0.2, 1.5)
    busy(ctx)
    members = list(ctx.members) if ctx.random.random() < 0.6 else ctx.minority()
    ctx.fault(f"power cut of {' '.join(m.name for m in members)}")
    for member in members:
        member.stopped_on_purpose = True  # it ends by itself at its next sync
        shut_down(member)
    kill_at_once(ctx, members)
    for member in members:
        power_up(member)
    restart(ctx, members)
    ctx.wait(0.2, 1)
