"""Many things at once."""

import threading

from .base import SMALL_LOG, scenario
from .clocks import clock_rate, starved, wall_clock
from .disks import interrupted_write, short_write, slow_disk, store_error, sync_error, write_error
from .links import bridge, flapping, one_way, partition, resets, slow_links
from .processes import (defragment, kill_all, kill_follower, kill_leader, lagging, leases, move_leader, pause_follower,
                        pause_leader, restart_storm, rolling)
from .power import power_cut, power_cut_all

MIXED = [kill_leader, kill_follower, kill_all, pause_leader, pause_follower, restart_storm, rolling, move_leader,
         defragment, lagging, leases]
MIXED_LINKS = [partition, one_way, bridge, flapping, slow_links, resets]


@scenario("all of processes and links", proxied=True, flags=SMALL_LOG, compacts=True)
def mixed(ctx):
    """processes and links fail, often two things at once, with compaction and short logs"""
    if ctx.random.random() < 0.5:
        link = ctx.random.choice(MIXED_LINKS)
        work = threading.Thread(target=link, args=(ctx,))
        work.start()
        ctx.wait(0.2, 1)
        ctx.random.choice(MIXED)(ctx)
        work.join()
    else:
        ctx.random.choice(MIXED + MIXED_LINKS)(ctx)


EVERYTHING = [*MIXED, power_cut, power_cut, power_cut_all, sync_error, write_error, store_error, short_write,
              interrupted_write, slow_disk, wall_clock, clock_rate, starved]


@scenario("all of processes, links, disks, power, clocks", proxied=True, powered=True, clocked=True, clock_error=0.1,
          flags=SMALL_LOG, compacts=True)
def everything(ctx):
    """the same, and disks fail, power is cut and clocks are wrong; for long runs"""
    work = None
    if ctx.random.random() < 0.4:
        work = threading.Thread(target=ctx.random.choice(MIXED_LINKS), args=(ctx,))
        work.start()
        ctx.wait(0.2, 1)
    chosen = ctx.random.choice(EVERYTHING)
    ctx.counts[chosen.__name__.replace("_", "-")] += 1
    chosen(ctx)
    if work:
        work.join()
