"""What goes wrong, one injection at a time: each step breaks something, waits, and mends it again."""

import dataclasses
import hashlib
import shutil
import signal
import subprocess
import threading
import time

import grpc

from . import stubs
from .injectors import EIO, ENOSPC
from .recorder import Stubs

ALL = {}


@dataclasses.dataclass
class Scenario:
    name: str
    rows: str  # of the fault matrix
    step: object
    flags: tuple = ()
    proxied: bool = False
    shimmed: bool = False
    compacts: bool = False
    exits: bool = False  # members are expected to end by themselves
    tmpfs: str = ""  # size of a small file system for the data of each member

    @property
    def about(self):
        return self.step.__doc__.strip().split("\n")[0]


def scenario(rows, **options):
    def add(step):
        name = step.__name__.replace("_", "-")
        ALL[name] = Scenario(name, rows, step, **options)
        return step
    return add


SMALL_LOG = ("--snapshot-count", "50", "--snapshot-catchup-entries", "30")


class Context:
    """What a step works with."""

    def __init__(self, cluster, recorder, random, deadline, scenario):
        self.cluster, self.recorder, self.random = cluster, recorder, random
        self.deadline, self.scenario = deadline, scenario
        self.injected = 0
        self.problems = []  # liveness and start-up problems, as text
        self.api = stubs.load()

    @property
    def members(self):
        return self.cluster.members

    def fault(self, text):
        self.injected += 1
        self.recorder.history.faults.append((time.monotonic_ns(), text))

    def wait(self, low, high=None):
        """Sleeps, and notices crashes."""
        end = time.monotonic() + (self.random.uniform(low, high) if high else low)
        while (left := end - time.monotonic()) > 0:
            time.sleep(min(left, 0.1))
            if not self.scenario.exits:
                self.revive()

    def revive(self):
        """Notes who ended by itself, and starts it again."""
        self.cluster.note_crashes()
        for name, code, log in self.cluster.crashes[getattr(self, "revived", 0):]:
            self.problems.append(f"{name} ended with {code}: {log}")
            next(m for m in self.members if m.name == name).start()
        self.revived = len(self.cluster.crashes)

    def ready(self, member, timeout=25):
        """Waits until a started member serves."""
        try:
            member.wait_ready(timeout)
        except AssertionError as error:
            self.problems.append(f"not ready: {error}"[:3000])
            if member.running:
                return False
            member.stopped_on_purpose = True  # noted here
            member.start()
        return True

    def start(self, member):
        member.start()
        return self.ready(member)

    def any(self):
        return self.random.choice(self.members)

    def leader(self):
        return self.cluster.leader_now() or self.any()

    def follower(self):
        leader = self.leader()
        return self.random.choice([m for m in self.members if m is not leader])

    def minority(self):
        """Some members, fewer than half, with the leader among them in every other case."""
        count = self.random.randint(1, (len(self.members) - 1) // 2)
        leader = self.leader()
        others = [m for m in self.members if m is not leader]
        if self.random.random() < 0.5:
            return [leader, *self.random.sample(others, count - 1)]
        return self.random.sample(others, count)


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
    pause(ctx, ctx.leader())


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


def answered(member, name, request, timeout=5):
    """A maintenance call whose failure is no news."""
    api = stubs.load()
    calls = Stubs(api, member.endpoint)
    try:
        return getattr(calls.maintenance, name)(request, timeout=timeout)
    except grpc.RpcError:
        return None
    finally:
        calls.channel.close()


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


# Links.

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


# Disks.

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
