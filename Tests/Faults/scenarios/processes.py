"""Processes killed, paused, restarted, and busy with their own chores."""

import hashlib
import signal
import subprocess
import threading
import time

import grpc

from ..recorder import Stubs
from .base import SMALL_LOG, answered, scenario


@scenario("F1")
def kill_leader(ctx):
    """kill -9 of the leader, restart after 0 to 3 s"""
    kill(ctx, ctx.leader())


@scenario("F1")
def kill_follower(ctx):
    """kill -9 of a follower, restart after 0 to 3 s"""
    kill(ctx, ctx.follower())


def kill(ctx, member):
    ctx.fault(f"kill -9 {member.name}")
    member.kill()
    ctx.wait(ctx.random.choice([0.01, 0.3, 1, 3]))
    ctx.start(member)
    ctx.wait(0.5, 2)


@scenario("F2")
def kill_all(ctx):
    """kill -9 of all members at once"""
    ctx.fault("kill -9 all")
    for member in ctx.members:
        member.stopped_on_purpose = True
        member.signal(signal.SIGKILL)
    for member in ctx.members:
        member.process.wait()
    order = ctx.random.sample(ctx.members, len(ctx.members))
    for member in order:
        member.start()
        time.sleep(ctx.random.choice([0, 0, 0.2]))
    for member in order:
        ctx.ready(member)
    ctx.wait(1, 3)


@scenario("F4")
def pause_leader(ctx):
    """SIGSTOP of the leader for 0.5 to 6 s"""
    leader = ctx.leader()
    if leader.kind != "apus":
        # When it goes on, a leader of etcd 3.5.1 ends leases that were renewed under its successor (etcd #15247).
        target = ctx.random.choice([m for m in ctx.members if m.kind == "apus"])
        status = target.status()
        if status is None:
            return
        answered(leader, "MoveLeader", ctx.api.rpc.MoveLeaderRequest(targetID=status.header.member_id))
        leader = ctx.leader()
        if leader is not target:
            return
    pause(ctx, leader)


@scenario("F5", flags=SMALL_LOG)
def pause_follower(ctx):
    """SIGSTOP of a follower for 0.5 to 6 s, with a log so short that it needs a snapshot"""
    pause(ctx, ctx.follower())


def pause(ctx, member):
    ctx.fault(f"stop {member.name}")
    member.pause()
    ctx.wait(0.5, 6)
    member.resume()
    ctx.fault(f"continue {member.name}")
    ctx.wait(0.3, 2)


@scenario("F1, F2")
def restart_storm(ctx):
    """kills and starts of random members, not waiting for them"""
    for _ in range(10):
        member = ctx.any()
        ctx.fault(f"kill -9 {member.name}, start")
        member.kill()
        member.start()
        ctx.wait(0.02, 0.6)
    for member in ctx.members:
        ctx.ready(member)
    ctx.wait(1)


@scenario("F30")
def rolling(ctx):
    """SIGTERM, wait for the end, start: each member in turn"""
    for member in ctx.members:
        ctx.fault(f"terminate {member.name}")
        try:
            code = member.stop(20)
            if code not in (0, -signal.SIGTERM):
                ctx.problems.append(f"{member.name}: SIGTERM ended it with {code}: {member.log_text()[-1500:]}")
        except subprocess.TimeoutExpired:
            ctx.problems.append(f"{member.name} does not end on SIGTERM: {member.log_text()[-1500:]}")
            member.kill()
        ctx.start(member)
        ctx.wait(0.1, 0.6)


@scenario("F30")
def move_leader(ctx):
    """leadership given away every 0.3 s"""
    for _ in range(5):
        leader, target = ctx.leader(), ctx.any()
        status = target.status()
        if leader is target or status is None:
            continue
        ctx.fault(f"move the leader from {leader.name} to {target.name}")
        answered(leader, "MoveLeader", ctx.api.rpc.MoveLeaderRequest(targetID=status.header.member_id))
        ctx.wait(0.3)


@scenario("F31", compacts=True)
def compaction(ctx):
    """compaction every 100 ms near the head, a kill or a pause now and then"""
    ctx.wait(2, 4)
    member = ctx.any()
    if ctx.random.random() < 0.5:
        kill(ctx, member)
    else:
        pause(ctx, member)


@scenario("F32")
def leases(ctx):
    """120 leases with keys run out together while the leader changes"""
    rpc, recorder = ctx.api.rpc, ctx.recorder

    def grant(number):
        member = ctx.members[number % len(ctx.members)]
        calls, client = Stubs(ctx.api, member.endpoint), next(recorder.client_ids)
        for each in range(30):
            op = recorder.call(client, member, calls, "grant", rpc.LeaseGrantRequest(TTL=2), 2)
            if op.outcome == "ok":
                request = rpc.PutRequest(key=b"l/many/%d" % ctx.random.randrange(40), lease=op.response.ID,
                                         value=b"%d:many:%d:%d" % (client, number, each))
                recorder.call(client, member, calls, "put", request, 2)
                recorder.call(client, member, calls, "keepalive",
                              rpc.LeaseKeepAliveRequest(ID=op.response.ID), 2)
            client = next(recorder.client_ids)
        calls.channel.close()

    threads = [threading.Thread(target=grant, args=(number,)) for number in range(4)]
    for each in threads:
        each.start()
    ctx.wait(1, 2.5)
    ctx.random.choice([pause_leader, kill_leader, move_leader])(ctx)
    for each in threads:
        each.join()
    ctx.wait(2)


@scenario("F3", flags=("--snapshot-count", "200"))
def defragment(ctx):
    """defragment and snapshot save under load, with a kill in the middle of every third"""
    member = ctx.any()
    ctx.fault(f"defragment {member.name}")
    work = threading.Thread(target=answered, args=(member, "Defragment", ctx.api.rpc.DefragmentRequest(), 20))
    work.start()
    if ctx.random.random() < 0.33:
        ctx.wait(0.001, 0.1)
        kill(ctx, member)
    work.join()
    member = ctx.any()
    ctx.fault(f"save a snapshot of {member.name}")
    digest, last = hashlib.sha256(), b""
    calls = Stubs(ctx.api, member.endpoint)
    try:
        for part in calls.maintenance.Snapshot(ctx.api.rpc.SnapshotRequest(), timeout=20):
            digest.update(last)
            last = part.blob
        if digest.digest() != last:
            ctx.problems.append(f"snapshot of {member.name}: the hash does not fit")
    except grpc.RpcError as error:
        ctx.problems.append(f"snapshot of {member.name}: {error.code().name}: {error.details()}")
    calls.channel.close()
    ctx.wait(0.3, 1)


@scenario("F5, F28", flags=SMALL_LOG)
def lagging(ctx):
    """a follower is killed or paused past the log window and gets a snapshot, watches open on it"""
    member = ctx.follower()
    paused = ctx.random.random() < 0.5
    ctx.fault(f"{'stop' if paused else 'kill -9'} {member.name}")
    member.pause() if paused else member.kill()
    ctx.wait(2, 4)
    if ctx.random.random() < 0.3:
        other = ctx.any()
        if other is not member:
            ctx.fault(f"defragment {other.name}")
            answered(other, "Defragment", ctx.api.rpc.DefragmentRequest(), 20)
    member.resume() if paused else ctx.start(member)
    if ctx.random.random() < 0.4:  # and again while it is at it
        ctx.wait(0.01, 0.3)
        ctx.fault(f"kill -9 {member.name} during catch-up")
        member.kill()
        ctx.wait(0.5)
        ctx.start(member)
    ctx.wait(1, 2)
