"""What all scenarios share. Each step of one breaks something, waits, and mends it again."""

import dataclasses
import time
from collections import Counter

import grpc
import protos

from ..recorder import Stubs

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
    image: str = ""  # size of an ext4 image for the data of each member
    clocked: bool = False
    powered: bool = False
    prepare: object = None  # called with the cluster and a random generator before its first start
    guests: tuple = ()  # users whose rights change; authentication is on if there are any
    clock_error: float = 0  # by how much a monotonic clock may be wrong

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
        self.counts = Counter()  # of what was hit, where a scenario has many points to hit
        self.problems = []  # liveness and start-up problems, as text
        self.api = protos.load()
        self.connections = {}

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
        process = member.process
        try:
            member.wait_ready(timeout)
        except AssertionError as error:
            if member.process is not process or member.stopped_on_purpose:
                # Another fault has taken it at the same time, and starts it again.
                return member.running
            self.problems.append(f"not ready: {error}"[:3000])
            if member.running:
                return False
            member.stopped_on_purpose = True  # noted here
            member.start()
        return True

    def start(self, member):
        member.start()
        return self.ready(member)

    def calls(self, member):
        """Stubs of a member; closed with the run."""
        if member not in self.connections:
            self.connections[member] = Stubs(self.api, member.endpoint, self.cluster.guard)
        return self.connections[member]

    def ended(self, member, within):
        """Waits for the end of a process that has been given a reason to end."""
        deadline = time.monotonic() + within
        while member.running and time.monotonic() < deadline:
            time.sleep(0.01)
        if member.running:
            return False
        member.stopped_on_purpose = True
        return True

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


def answered(member, name, request, timeout=5):
    """A maintenance call whose failure is no news."""
    api = protos.load()
    calls = Stubs(api, member.endpoint, member.cluster.guard)
    try:
        return getattr(calls.maintenance, name)(request, timeout=timeout)
    except grpc.RpcError:
        return None
    finally:
        calls.channel.close()
