"""Members added, promoted, removed and replaced under load, with kills in between."""

import threading
import time

import grpc

from ..recorder import Stubs, Watcher
from .base import scenario
from .power import kill_at_once


class Change:
    """One member's place in the cluster, from its announcement on."""

    number = 100

    def __init__(self, ctx):
        self.ctx, self.rpc = ctx, ctx.api.rpc
        Change.number += 1
        self.member = ctx.cluster.new_member(ctx.members[0].kind, f"m{Change.number}")

    def ask(self, name, request, within=20):
        """Asks one member after another until one agrees. Returns the answer or None."""
        deadline, error = time.monotonic() + within, None
        while time.monotonic() < deadline:
            member = self.ctx.any()
            calls = Stubs(self.ctx.api, member.endpoint)
            try:
                return getattr(calls.cluster, name)(request, timeout=3)
            except grpc.RpcError as failure:
                error = failure
                if failure.code() == grpc.StatusCode.NOT_FOUND and name == "MemberRemove":
                    return None  # an attempt whose outcome was unknown did it
                if "Peer URLs already exists" in failure.details() or "member ID already exist" in failure.details():
                    return self.listed()
                if "too many learner" in failure.details():
                    return None
                if "can only promote a learner" in failure.details():
                    return None
            finally:
                calls.channel.close()
            self.ctx.wait(0.2)
        self.ctx.problems.append(f"{name} fails for {within} s: {error.code().name}: {error.details()}")
        return None

    def listed(self):
        return self.ask("MemberList", self.rpc.MemberListRequest(linearizable=True))

    def announce(self, learner):
        answer = self.ask("MemberAdd", self.rpc.MemberAddRequest(peerURLs=[self.member.peer_url], isLearner=learner))
        if answer is None:
            return False
        self.id = next(each.ID for each in answer.members if self.member.peer_url in each.peerURLs)
        self.member.state = "existing"
        self.member.initial_cluster = ",".join(
            f"{self.member.name if each.ID == self.id else each.name}={url}"
            for each in answer.members for url in each.peerURLs)
        return True

    def join(self):
        """Starts the new member, and makes it one that the rest of the run knows."""
        ctx = self.ctx
        ctx.cluster.members.append(self.member)
        self.member.start()
        if ctx.random.random() < 0.4:
            ctx.wait(0.01, 0.6)
            ctx.fault(f"kill -9 of {self.member.name}, which joins")
            self.member.kill()
            if self.member.disk_image and ctx.random.random() < 0.5:
                ctx.fault(f"power cut: {self.member.disk_image.cut(ctx.random)}")
            self.member.start()
        ready = ctx.ready(self.member)
        collector = Watcher(ctx.recorder, ctx.random.random(), self.member)
        collector.start()
        ctx.collectors.append(collector)
        return ready


def shake(ctx):
    """Perhaps somebody dies in the middle of it."""
    if ctx.random.random() < 0.4:
        member = ctx.leader() if ctx.random.random() < 0.5 else ctx.any()
        ctx.fault(f"kill -9 {member.name}")
        kill_at_once(ctx, [member])
        ctx.wait(0, 0.4)
        member.start()
        ctx.ready(member)


def remove(ctx, gone, change):
    """Removes a member; its process must end by itself and say why."""
    listed = change.listed()
    ids = {each.name: each.ID for each in listed.members} if listed else {}
    if gone.name not in ids:
        ctx.problems.append(f"{gone.name} is not listed: {ids}")
        return
    was_running = gone.running
    ctx.fault(f"remove {gone.name}{'' if was_running else ', which is dead'}")
    gone.stopped_on_purpose = True
    ctx.cluster.members.remove(gone)
    ctx.cluster.former.append(gone)
    for each in [each for each in ctx.collectors if each.member is gone]:
        each.close()
        ctx.collectors.remove(each)
    change.ask("MemberRemove", change.rpc.MemberRemoveRequest(ID=ids[gone.name]))
    if was_running and not ctx.ended(gone, 15):
        ctx.problems.append(f"{gone.name} was removed and still runs: {gone.log_text()[-1500:]}")
        gone.kill()
    elif was_running and "removed" not in gone.log_text()[-4000:]:
        ctx.problems.append(f"{gone.name} does not say that it was removed: {gone.log_text()[-1500:]}")


@scenario("F27")
def replace_member(ctx):
    """a member joins, as learner or voter, another one goes: leader, follower or dead; kills in between"""
    change = Change(ctx)
    learner = ctx.random.random() < 0.5
    gone = ctx.leader() if ctx.random.random() < 0.4 else ctx.any()
    if ctx.random.random() < 0.3:  # first the dead one goes, then its substitute comes
        ctx.fault(f"kill -9 {gone.name} for good")
        kill_at_once(ctx, [gone])
        ctx.wait(0.3, 1)
        remove(ctx, gone, change)
        gone = None
    ctx.fault(f"add {change.member.name} as a {'learner' if learner else 'voter'}")
    if not change.announce(learner):
        return
    shake(ctx)
    if not change.join():
        return
    shake(ctx)
    if learner:
        change.ask("MemberPromote", change.rpc.MemberPromoteRequest(ID=change.id))
        ctx.fault(f"promoted {change.member.name}")
        shake(ctx)
    if gone:
        remove(ctx, gone, change)
    ctx.wait(0.5, 1)


@scenario("F27", powered=True)
def replace_member_power(ctx):
    """the same, and those that join lose what they did not sync"""
    replace_member(ctx)


@scenario("F27")
def two_changes(ctx):
    """two learners announced at once, members die meanwhile: one at a time is let in, all agree on which"""
    changes = [Change(ctx), Change(ctx)]
    ctx.fault("two learners announced at once")
    threads = [threading.Thread(target=each.announce, args=(True,)) for each in changes]
    for each in threads:
        each.start()
    shake(ctx)
    for each in threads:
        each.join()
    listed = changes[0].listed()
    learners = [each for each in listed.members if each.isLearner] if listed else []
    if listed and len(learners) != 1:
        ctx.problems.append(f"two learners were asked for at once, there are {len(learners)}")
    for each in learners:
        changes[0].ask("MemberRemove", changes[0].rpc.MemberRemoveRequest(ID=each.ID))
    ctx.wait(0.3, 1)
