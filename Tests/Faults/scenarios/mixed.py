"""Many things at once."""

import threading

from .base import SMALL_LOG, scenario
from .links import bridge, flapping, one_way, partition, resets, slow_links
from .processes import (defragment, kill_all, kill_follower, kill_leader, lagging, leases, move_leader, pause_follower,
                        pause_leader, restart_storm, rolling)

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
