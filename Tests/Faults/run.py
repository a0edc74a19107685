"""Runs scenarios under load, mends everything, and has the history checked."""

import contextlib
import dataclasses
import os
import pathlib
import random
import shutil
import threading
import time
import traceback
from collections import Counter

import grpc
import protos

from . import scenarios, wal
from .checker import check
from .history import OK, REFUSED, UNKNOWN, History
from .injectors import FaultCluster
from .filesystems import file_systems
from .recorder import Guest, Recorder, Stubs, StubsByMember, Watcher, Worker
from .rights import Guard


@dataclasses.dataclass
class Result:
    name: str
    size: int
    seed: int
    kinds: str = ""  # if there are others than apus
    outcomes: Counter = dataclasses.field(default_factory=Counter)
    revisions: int = 0
    events: int = 0
    faults: int = 0
    steps: int = 0
    gap: float = 0
    counts: Counter = dataclasses.field(default_factory=Counter)
    violations: list = dataclasses.field(default_factory=list)
    problems: list = dataclasses.field(default_factory=list)
    void: str = ""
    kept: str = ""

    @property
    def verdict(self):
        if self.violations:
            return "VIOLATION"
        return "PROBLEM" if self.problems else "void" if self.void else "pass"

    @property
    def notes(self):
        """What a scenario counted: points that were hit, or figures of its own."""
        if len(self.counts) > 12:
            missed = [name for name, count in self.counts.items() if not count]
            return f"hit {len(self.counts) - len(missed)} of {len(self.counts)}" + (
                f", not: {', '.join(missed)}" if missed else "")
        return ", ".join(f"{name}: {count}" for name, count in self.counts.items())

    def report(self):
        lines = [f"{self.verdict}: {self.name} {self.kinds}, {self.size} members, seed {self.seed} {self.void}"]
        for each in self.violations[:8]:
            lines.append(f"  {str(each)[:1500]}")
        for each in self.problems[:4]:
            lines.append("  " + each[-2500:].replace("\n", "\n    "))
        if self.notes:
            lines.append(f"  {self.notes}")
        if self.gap > 2:
            lines.append(f"  no write succeeded for {self.gap:.2f} s, around it: {self.gap_about}")
        if self.kept:
            lines.append(f"  kept in {self.kept}")
        return "\n".join(lines)


class Compactor(threading.Thread):
    """Compacts every 100 ms close behind what the furthest collector has been shown."""

    def __init__(self, recorder, collectors, seed):
        super().__init__(daemon=True)
        self.recorder, self.collectors, self.random = recorder, collectors, random.Random(seed)

    def run(self):
        calls = StubsByMember(self.recorder)
        client = next(self.recorder.client_ids)
        while not self.recorder.halt.wait(0.1):
            revision = max(each.shown for each in self.collectors) - self.random.choice([0, 0, 1, 5, 30])
            if revision <= self.recorder.compacted:
                continue
            member = self.random.choice([*self.recorder.members])
            request = self.recorder.api.rpc.CompactionRequest(revision=revision,
                                                              physical=self.random.random() < 0.1)
            op = self.recorder.call(client, member, calls[member], "compact", request, 2)
            if op.outcome == OK:
                self.recorder.compacted = revision
            elif op.outcome == UNKNOWN:
                client = next(self.recorder.client_ids)


def run(scenario, size=3, seconds=20, seed=1, workers=6, watchers=4, pace=0.012, keep=None, kinds=("apus",),
        steps=None):
    """One scenario on one cluster, for some seconds or steps. `pace` is the mean pause of a client, in seconds."""
    chance = random.Random(seed)
    history = History()
    result = Result(scenario.name, size, seed, "+".join(kinds) if set(kinds) != {"apus"} else "")
    history.clock_error = scenario.clock_error
    cluster = FaultCluster(size, scenario.flags, scenario.proxied, scenario.shimmed, scenario.clocked,
                           scenario.powered, kinds)
    with file_systems(cluster, scenario), prepared(cluster, scenario, chance), cluster:
        if scenario.guests:
            Guard().enable(cluster, scenario.guests)
        recorder = Recorder(history, cluster.members)
        collectors = [Watcher(recorder, chance.random(), member) for member in cluster.members]
        others = [Watcher(recorder, chance.random()) for _ in range(watchers)]
        # A request that was on its way to a dead leader is only given up at its timeout; impatient clients
        # show how soon new ones succeed.
        clients = [Worker(recorder, chance.random(), pace, timeout=2.0 if number % 2 else 0.3)
                   for number in range(workers)]
        for user in scenario.guests:
            clients += [Guest(recorder, chance.random(), user, pace) for _ in range(2)]
            others.append(Watcher(recorder, chance.random(), user=user))
        threads = [*collectors, *others, *clients]
        if scenario.compacts:
            threads.append(Compactor(recorder, collectors, chance.random()))
        for each in threads:
            each.start()
        deadline = time.monotonic() + seconds
        ctx = scenarios.Context(cluster, recorder, chance, deadline, scenario)
        ctx.collectors = collectors
        ctx.wait(1)
        if not recorder.acknowledged:
            ctx.wait(3)
        begun = time.monotonic_ns()
        try:
            while result.steps < steps if steps else time.monotonic() < deadline:
                scenario.step(ctx)
                result.steps += 1
            heal(ctx)
        except Exception:  # the history is worth checking all the same
            result.problems.append("the scenario itself failed: " + traceback.format_exc())
            heal(ctx)
        healed = time.monotonic_ns()
        ctx.wait(2)
        halted = time.monotonic_ns()
        recorder.halt.set()
        for each in clients:
            each.join(10)
        finish(ctx, collectors, others)
        ctx.revive()
        for each in [*collectors, *others]:
            each.close()
        for each in [*collectors, *others]:
            each.join(5)
        read_logs(ctx)
        summarize(result, ctx, begun, healed, halted)
        checking = time.monotonic()
        result.violations = check(history)
        result.check_seconds = time.monotonic() - checking
        result.problems += ctx.problems
        if keep and result.verdict in ("VIOLATION", "PROBLEM"):
            result.kept = str(keep_all(result, cluster, history, pathlib.Path(keep)))
    return result


@contextlib.contextmanager
def prepared(cluster, scenario, chance):
    """What a scenario does to members before their first full start; nothing is left running if it fails."""
    try:
        if scenario.prepare:
            scenario.prepare(cluster, chance)
        yield
    finally:
        for member in cluster.members:
            member.kill()


def heal(ctx):
    """All links, disks and processes as they should be."""
    if ctx.cluster.proxy:
        ctx.cluster.links(None)
    ctx.cluster.packets.clear()
    for member in ctx.members:
        if ctx.cluster.shim:
            member.disk()
        member.resume()
        if not member.running:
            ctx.cluster.note_crashes()
            if member.stopped_on_purpose:
                ctx.start(member)
    if ctx.cluster.leader_now(within=20) is None:
        ctx.problems.append("no leader 20 s after all was healed")


def finish(ctx, collectors, others):
    """The last write, and what all members and watchers make of it."""
    recorder, rpc = ctx.recorder, ctx.api.rpc
    calls = {m.name: Stubs(ctx.api, m.endpoint, m.cluster.guard) for m in ctx.members}
    first = calls[ctx.members[0].name]
    if not until(lambda: not first.lease.LeaseLeases(rpc.LeaseLeasesRequest(), timeout=2).leases, 25):
        ctx.problems.append("leases that should have run out are still there")

    def last_write():
        # A new identity each time, as the outcome of the one before is unknown.
        client = next(recorder.client_ids)
        op = recorder.call(client, ctx.members[0], first, "put",
                           rpc.PutRequest(key=b"tombstone", value=b"%d:last" % client), 3)
        return op.response.header.revision if op.outcome == OK else 0

    revision = until(last_write, 30)
    if not revision:
        ctx.problems.append("no write succeeds after all was healed")
        return
    for each in collectors:
        if not until(lambda each=each: each.shown >= revision, 20):
            ctx.problems.append(f"the collector at {each.member.name} stays at {each.shown} of {revision}")
    for each in others:
        opened = each.open

        def reached(each=each, opened=opened):
            # A stream that ended meanwhile was as it should be, or the checker will say so.
            return each.open is not opened or each.shown >= revision or (each.ask_progress() and False)

        # A watch on the future need not be shown anything.
        if opened is None or each.watch.request.start_revision > revision:
            continue
        if not until(reached, 8, 0.3):
            ctx.problems.append(f"{each.watch} stays at {each.shown} of {revision}")
    for member in ctx.members:
        recorder.history.finals[member.name] = final(calls[member.name], rpc, revision)
    for each in calls.values():
        each.channel.close()


def final(calls, rpc, revision):
    every = rpc.RangeRequest(key=b"\0", range_end=b"\0")
    serial = rpc.RangeRequest(key=b"\0", range_end=b"\0", serializable=True)
    return {
        "linear": until(lambda: calls.kv.Range(every, timeout=3), 10),
        "serial": until(lambda: calls.kv.Range(serial, timeout=3), 10),
        "hash": getattr(until(lambda: calls.maintenance.HashKV(
            rpc.HashKVRequest(revision=revision), timeout=5), 10), "hash", None),
        "leases": sorted(each.ID for each in getattr(until(
            lambda: calls.lease.LeaseLeases(rpc.LeaseLeasesRequest(), timeout=3), 10), "leases", ())),
        "members": sorted((each.ID, each.name, *each.peerURLs, *each.clientURLs, each.isLearner) for each in getattr(
            until(lambda: calls.cluster.MemberList(rpc.MemberListRequest(linearizable=True), timeout=3), 10),
            "members", ())),
    }


def read_logs(ctx):
    """Ends the members, and reads what is in their logs."""
    for member in ctx.members:
        member.kill()
    for member in ctx.members:
        try:
            ctx.recorder.history.logs[member.name] = wal.read(member.data / "member" / "wal")
        except (OSError, wal.Broken) as error:
            ctx.problems.append(f"log of {member.name}: {error}")


def until(attempt, seconds, pause=0.1):
    """The first true answer of `attempt`, or None. Failing calls count as no."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            if answer := attempt():
                return answer
        except grpc.RpcError:
            pass
        if time.monotonic() > deadline:
            return None
        time.sleep(pause)


def summarize(result, ctx, begun, healed, halted):
    history = ctx.recorder.history
    result.outcomes = Counter(op.outcome for op in history.ops)
    result.codes = Counter(op.code[:60] for op in history.ops if op.outcome != OK)
    result.revisions = ctx.recorder.revision
    result.events = sum(len(r.events) for w in history.watches for _, r in w.responses)
    result.faults, result.counts = ctx.injected, ctx.counts
    result.installs = sum(m.log_text().count("applied snapshot") for m in ctx.members)
    times = sorted([begun, *(t for t in ctx.recorder.acknowledged if begun < t < halted), halted])
    result.gap, start = max(((b - a, a) for a, b in zip(times, times[1:])), default=(0, 0))
    result.gap /= 1e9
    result.gap_about = "; ".join(f"{(when - start) / 1e9:+.2f} s {text}" for when, text in history.faults
                                 if -3e9 < when - start < result.gap * 1e9)
    during = sum(begun < t < healed for t in ctx.recorder.acknowledged)
    after = sum(t >= healed for t in ctx.recorder.acknowledged)
    total = sum(result.outcomes.values())
    if not ctx.injected:
        result.void = "(no fault was injected)"
    elif during < 50 or after < 10:
        result.void = f"(only {during} writes during the faults, {after} after)"
    elif result.outcomes[UNKNOWN] > total / 2:
        result.void = "(most outcomes unknown)"


def keep_all(result, cluster, history, folder):
    """History, logs and data of a run that went wrong."""
    place = folder / f"{result.name}-{result.size}-{result.seed}-{os.getpid()}"
    place.mkdir(parents=True, exist_ok=True)
    history.save(place / "history.txt.gz")
    (place / "report.txt").write_text(result.report() + "\n\n" + "\n".join(map(str, result.violations)))
    for log in cluster.folder.glob("*.log"):
        shutil.copy(log, place)
    return place


def table(results):
    head = ("scenario", "members", "seed", "ops", "ok", "refused", "unknown", "revisions", "watched", "faults",
            "installs", "gap s", "check s", "verdict")
    rows = [head]
    for each in results:
        rows.append((f"{each.name} {each.kinds}".strip(), each.size, each.seed, sum(each.outcomes.values()), each.outcomes[OK],
                     each.outcomes[REFUSED], each.outcomes[UNKNOWN], each.revisions, each.events, each.faults,
                     getattr(each, "installs", 0), f"{each.gap:.2f}", f"{getattr(each, 'check_seconds', 0):.1f}",
                     f"{each.verdict} {len(each.violations) or len(each.problems) or ''}"))
    widths = [max(len(str(row[n])) for row in rows) for n in range(len(head))]
    return "\n".join("  ".join(str(cell).ljust(width) for cell, width in zip(row, widths)).rstrip()
                     for row in rows)
