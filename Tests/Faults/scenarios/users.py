"""Users whose rights come and go."""

from ..recorder import HOT
from ..rights import Administrator
from .base import SMALL_LOG, scenario
from .processes import kill, pause

GUESTS = ("ann", "bob")


@scenario("E9", guests=GUESTS, flags=("--bcrypt-cost", "4", *SMALL_LOG))
def rights(ctx):
    """users are granted some keys and lose them again, while members are killed and paused: served exactly then"""
    if not hasattr(ctx, "administrator"):
        ctx.administrator, ctx.held = Administrator(ctx, ctx.recorder.history), []
    for _ in range(ctx.random.randint(2, 5)):
        if ctx.held and ctx.random.random() < 0.5:
            right = ctx.held.pop(ctx.random.randrange(len(ctx.held)))
            ctx.fault(f"revoke {right.key} to {right.end} from {right.user}")
            done = ctx.administrator.revoke(right)
            ctx.counts["revoked"] += done
        else:
            user, (low, high) = ctx.random.choice(GUESTS), sorted(ctx.random.sample(HOT, 2))
            if any(each.user == user and each.key == low and each.end == high for each in ctx.held):
                continue
            ctx.fault(f"grant {low} to {high} to {user}")
            done = ctx.administrator.grant(user, low, high)
            if done:
                ctx.held.append(done)
            ctx.counts["granted"] += bool(done)
        if not done:
            ctx.problems.append("rights cannot be changed for 20 s")
        ctx.wait(0.05, 0.5)
    if ctx.random.random() < 0.4:
        member = ctx.leader() if ctx.random.random() < 0.5 else ctx.any()
        ctx.random.choice([kill, pause])(ctx, member)
