"""Links between members held back, slowed down and cut."""

from .base import SMALL_LOG, scenario
from .processes import kill


def pairs(ours, others):
    return [(a.name, b.name) for a in ours for b in others if a is not b]


def hold(ctx, text, chosen, low=1, high=6):
    """Holds back what goes over some directed links, for a while."""
    ctx.fault(f"{text}: {' '.join(f'{a}>{b}' for a, b in chosen)}")
    before = ctx.cluster.links({pair: {"hold": True} for pair in chosen}, ctx.random.random() < 0.5)
    ctx.wait(low, high)
    after = ctx.cluster.links(None, ctx.random.random() < 0.5)
    ctx.fault(f"healed, {before} -> {after}")
    ctx.wait(0.5, 3)


@scenario("F6", proxied=True)
def partition(ctx):
    """a minority is cut off, with or without the leader"""
    ours = ctx.minority()
    others = [m for m in ctx.members if m not in ours]
    hold(ctx, "partition", pairs(ours, others) + pairs(others, ours))


@scenario("F7, F8", proxied=True)
def one_way(ctx):
    """a member can send but not receive, or receive but not send; often the leader"""
    ours = [ctx.leader() if ctx.random.random() < 0.6 else ctx.any()]
    others = [m for m in ctx.members if m not in ours]
    hold(ctx, "one way", pairs(ours, others) if ctx.random.random() < 0.5 else pairs(others, ours))


@scenario("F9", proxied=True)
def bridge(ctx):
    """two members cannot talk to each other, all others can talk to both"""
    ours = ctx.random.sample(ctx.members, 2)
    hold(ctx, "bridge", pairs(ours, ours))


@scenario("F10", proxied=True)
def flapping(ctx):
    """a member's links go up and down every 200 ms"""
    ours = [ctx.any()]
    others = [m for m in ctx.members if m not in ours]
    chosen = pairs(ours, others) + pairs(others, ours)
    ctx.fault(f"flapping {ours[0].name}")
    for _ in range(20):
        ctx.cluster.links({pair: {"hold": True} for pair in chosen}, ctx.random.random() < 0.5)
        ctx.wait(0.2)
        ctx.cluster.links(None)
        ctx.wait(0.2)
    ctx.wait(1)


@scenario("F11", proxied=True)
def slow_links(ctx):
    """75 ms delay, 50 ms jitter on all links, a kill of the leader in the middle"""
    rule = {"delay": [0.075, 0.05]}
    ctx.fault("delay on all links")
    ctx.cluster.links(dict.fromkeys(pairs(ctx.members, ctx.members), rule))
    ctx.wait(1, 4)
    if ctx.random.random() < 0.5:
        kill(ctx, ctx.leader())
    ctx.cluster.links(None)
    ctx.wait(0.5, 1)


@scenario("F12", proxied=True, flags=SMALL_LOG)
def resets(ctx):
    """connections reset in the middle of frames, 2 of 100 chunks"""
    ctx.fault("resets on all links")
    before = ctx.cluster.links(dict.fromkeys(pairs(ctx.members, ctx.members), {"reset": 0.02}))
    ctx.wait(3, 5)
    after = ctx.cluster.links(None)
    ctx.fault(f"healed, {before} -> {after}")
    ctx.wait(0.5, 1)


@scenario("F11, F12", flags=SMALL_LOG)
def packets(ctx):
    """3 to 30 of 100 packets between members are lost, some sent twice, late ones overtaken; a kill now and then"""
    loss, twice = ctx.random.choice([30, 100, 300]), ctx.random.choice([0, 50, 200])
    if not ctx.cluster.packets.set(loss, twice):
        ctx.wait(1)  # the run is void
        return
    ctx.wait(2, 5)
    if ctx.random.random() < 0.4:
        kill(ctx, ctx.any())
    lost, doubled = ctx.cluster.packets.hits()
    ctx.cluster.packets.clear()
    ctx.fault(f"{lost} packets lost ({loss} of 1000), {doubled} sent twice ({twice} of 1000)")
    ctx.counts["packets lost"] += lost
    ctx.counts["sent twice"] += doubled
    ctx.wait(1, 3)
