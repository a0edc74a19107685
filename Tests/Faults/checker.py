"""Decides in linear time (but for sorting) whether a recorded history keeps the promises of the API.

Every answer names the store's revision, so no order has to be searched for: revisions fix it. What is left
is to see that each answer is right at its revision, and that the order agrees with real time.
"""

import bisect
import dataclasses
import itertools
from collections import defaultdict

import protos
from google.protobuf.message import DecodeError

from .history import NEVER, OK, REFUSED, UNKNOWN
from .model import DELETE, PUT, Past, View, contains, did_change, puts_of, without_headers
from .rights import check_rights
from .wal import CONFIGURATION, PAYLOAD, fields

READS = {"range"}
WRITES = {"put", "delete", "txn", "revoke"}
LIMIT = 20  # violations kept per rule


@dataclasses.dataclass(order=True)
class Violation:
    time: float
    rule: str
    text: str

    def __str__(self):
        return f"{self.rule} at {self.time / 1e9:.6f}: {self.text}"


def check(history):
    """All violations, earliest first."""
    checker = Checker(history)
    checker.run()
    return sorted(checker.violations)


def highest_before(pairs):
    """Tells the highest value of the pairs (time, value) before a time, 0 if there is none."""
    pairs = sorted(pairs)
    highest = [0, *itertools.accumulate((value for _, value in pairs), max)]
    return lambda time: highest[bisect.bisect_left(pairs, (time,))]


class Checker:
    def __init__(self, history):
        self.history, self.violations = history, []
        self.counts = defaultdict(int)
        self.events = {}  # revision -> list of (type, key, kv or None, previous or None)
        self.past = Past()
        self.positions = {}  # op id -> position
        self.owners = {}  # revision -> op
        self.ends = {}  # lease -> (position, op or None, time) of its end
        self.writers = {}  # (key, value) -> op
        self.compactions = [op for op in history.ops if op.kind == "compact" and op.outcome != REFUSED]

    def run(self):
        self.collect_events()
        self.replay()
        self.last = max(self.events, default=1)
        self.first_seen = self.when_first_seen()
        self.place_values()
        self.place_answers()
        self.place_deletes()
        self.check_refused()
        self.check_answers()
        self.check_real_time()
        self.check_headers()
        for watch in self.history.watches:
            WatchCheck(self, watch).run()
        self.check_leases()
        check_rights(self.history, self.report)
        self.check_finals()
        self.check_logs()

    def report(self, rule, time, text):
        self.counts[rule] += 1
        if self.counts[rule] <= LIMIT:
            self.violations.append(Violation(time, rule, str(text)))

    # Phase A: what happened, by revision.

    def collect_events(self):
        kv_type = protos.load().kv.KeyValue
        for watch in self.history.watches:
            if not watch.collector:
                continue
            for when, response in watch.responses:
                for revision, group in itertools.groupby(response.events, lambda e: e.kv.mod_revision):
                    found = []
                    for event in group:
                        previous = event.prev_kv if event.HasField("prev_kv") else None
                        if event.type == PUT:
                            found.append((PUT, event.kv.key, event.kv, previous))
                        else:
                            if event.kv != kv_type(key=event.kv.key, mod_revision=revision):
                                self.report("A3", when, f"a delete carries more than its key: {event}")
                            found.append((DELETE, event.kv.key, None, previous))
                    known = self.events.get(revision)
                    if known is None:
                        self.events[revision] = found
                    elif [e[:3] for e in known] != [e[:3] for e in found]:
                        self.report("A1", when, f"revision {revision} differs at {watch}: {found} not {known}")
                    else:
                        # After a compaction, one collector may lack what another one has.
                        self.events[revision] = [a if a[3] is not None else b for a, b in zip(known, found)]

    def replay(self):
        kv_type = protos.load().kv.KeyValue
        for revision in range(2, max(self.events, default=1) + 1):
            if revision not in self.events:
                self.report("A2", 0, f"no collector saw revision {revision}")
                continue
            seen = set()
            for kind, key, kv, previous in self.events[revision]:
                old = self.past.at(key, revision - 1)
                if key in seen:
                    self.report("A3", 0, f"revision {revision} changes {key} twice")
                seen.add(key)
                if kind == DELETE and old is None:
                    self.report("A3", 0, f"revision {revision} deletes {key}, which does not exist")
                if kind == PUT:
                    expected = kv_type(key=key, value=kv.value, lease=kv.lease, mod_revision=revision,
                                       create_revision=old.create_revision if old else revision,
                                       version=old.version + 1 if old else 1)
                    if kv != expected:
                        self.report("A3", 0, f"revision {revision}: {kv} should be {expected}")
                if previous is not None and previous != old:
                    self.report("A3", 0, f"revision {revision}: {previous} before {key}, should be {old}")
                self.past.append(revision, key, kv)

    def when_first_seen(self):
        """For each revision, the first time that anybody was shown it or a later one."""
        seen = [NEVER] * (self.last + 2)
        for op in self.history.ops:
            if op.outcome == OK and 0 < op.response.header.revision <= self.last:
                revision = op.response.header.revision
                seen[revision] = min(seen[revision], op.returned)
        for watch in self.history.watches:
            for when, response in watch.responses:
                revision = max((e.kv.mod_revision for e in response.events), default=0)
                if revision <= self.last:
                    seen[revision] = min(seen[revision], when)
        for revision in range(self.last - 1, -1, -1):
            seen[revision] = min(seen[revision], seen[revision + 1])
        return seen

    # Phase B: where each request stands. 2r = it made revision r, 2h+1 = it saw revision h and changed nothing.

    def place_values(self):
        """A4: who wrote each value. Values are unique, so an unknown outcome is decided by its values."""
        writers, explained = self.writers, {}
        for op in self.history.ops:
            for put in puts_of(op.kind, op.request):
                writers[put.key, put.value] = op
        for revision, events in sorted(self.events.items()):
            for kind, key, kv, _ in events:
                if kind == DELETE:
                    continue
                op = writers.get((key, kv.value))
                if op is None:
                    self.report("A4", self.first_seen[revision], f"nobody wrote {kv} of revision {revision}")
                elif explained.setdefault(op.id, revision) != revision:
                    self.report("A4", self.first_seen[revision],
                                f"applied twice, at {explained[op.id]} and {revision}: {op}")
                elif op.outcome == UNKNOWN:
                    self.own(revision, op)
                elif op.outcome == REFUSED:
                    self.report("B3", op.returned, f"refused, but in revision {revision}: {op}")

    def own(self, revision, op):
        other = self.owners.setdefault(revision, op)
        if other is not op:
            self.report("B1", op.returned, f"revision {revision} has two owners: {op} and {other}")
        self.positions[op.id] = 2 * revision

    def effects(self, op, revision):
        view = View(self.past, revision - 1)
        view.evaluate(op.kind, op.request)
        return view.effects

    def matches(self, op, revision):
        """Whether the request, run on the revision before, does exactly what this revision did."""
        mine = [each[:3] for each in self.effects(op, revision)]
        return mine == [each[:3] for each in self.events.get(revision, [])]

    def place_answers(self):
        for op in self.history.ops:
            if op.outcome != OK or op.kind not in READS | WRITES:
                continue
            revision = op.response.header.revision
            if revision > self.last:
                self.report("B1", op.returned, f"revision {revision} is past the end, {self.last}: {op}")
                continue
            changed = did_change(op.kind, op.response)
            if op.kind == "revoke":
                changed = bool(self.effects(op, revision)) and self.matches(op, revision)
            if not changed:
                self.positions[op.id] = 2 * revision + 1
                if op.kind == "revoke":
                    self.ends[op.request.ID] = (2 * revision + 1, op, op.returned)
                continue
            self.own(revision, op)
            if not self.matches(op, revision):
                self.report("B1", op.returned, f"revision {revision} is {self.events.get(revision)}, not the "
                            f"work of {op}, which is {self.effects(op, revision)}")
        for revision, op in self.owners.items():
            if op.outcome == UNKNOWN and not self.matches(op, revision):
                self.report("B2", op.called, f"revision {revision} is {self.events[revision]}, not {op}")

    def place_deletes(self):
        """B4: a revision without owner holds deletes, of an unknown request or of a lease that ran out."""
        candidates = [op for op in self.history.ops if op.outcome == UNKNOWN and op.kind in WRITES
                      and op.id not in self.positions and op.kind != "put"]
        for revision in sorted(set(self.events) - set(self.owners)):
            seen = self.first_seen[revision]
            events = self.events[revision]
            if any(kind == PUT for kind, *_ in events):
                self.report("B4", seen, f"nobody made revision {revision}: {events}")
                continue
            owner = next((op for op in candidates if op.called < seen and self.matches(op, revision)), None)
            if owner is not None:
                candidates.remove(owner)
                self.own(revision, owner)
                continue
            leases = {getattr(self.past.at(key, revision - 1), "lease", 0) for _, key, *_ in events}
            lease = leases.pop()
            held = [key for key in self.past.keys
                    if getattr(self.past.at(key, revision - 1), "lease", 0) == lease]
            if leases or lease == 0 or [key for _, key, *_ in events] != held:
                self.report("B4", seen, f"nobody deleted {[e[1] for e in events]} at revision {revision} "
                            f"(leases {leases | {lease}})")
            else:
                self.ends[lease] = (2 * revision, None, seen)
        for revision, op in self.owners.items():
            if op.kind == "revoke":
                self.ends[op.request.ID] = (2 * revision, op, op.returned)

    def check_refused(self):
        """A refusal must be one that the request deserves."""
        begun = highest_before((c.called, c.request.revision) for c in self.compactions)
        for op in self.history.ops:
            if op.outcome != REFUSED or op.kind != "range" or op.code != "OUT_OF_RANGE":
                continue
            wanted = op.request.revision
            compacted = begun(op.returned) > wanted
            future = op.request.serializable or bisect.bisect_left(self.first_seen, op.called, 0, self.last + 1) <= wanted
            if not compacted and not future:
                self.report("C1", op.returned, f"neither compacted nor ahead: {op}")

    # Phase C: each answer is right at its position.

    def check_answers(self):
        done = highest_before((c.returned, c.request.revision) for c in self.compactions if c.outcome == OK)
        for op in self.history.ops:
            if op.outcome != OK or op.id not in self.positions:
                continue
            position = self.positions[op.id]
            view = View(self.past, position // 2 - (position % 2 == 0))
            expected = view.evaluate(op.kind, op.request)
            actual = without_headers(op.kind, op.response)
            if actual != expected:
                self.report("C", op.returned, f"should be {' '.join(str(expected).split())}: {op}")
            if op.kind == "range" and op.request.revision > 0:
                if op.request.revision > position // 2:
                    self.report("C1", op.returned, f"read of the future: {op}")
                if not op.request.serializable and done(op.called) > op.request.revision:
                    self.report("C1", op.returned, f"read of a compacted revision: {op}")

    # Phase D: the order of revisions agrees with real time.

    def check_real_time(self):
        items, calls = [], []
        for op in self.history.ops:
            position = self.positions.get(op.id)
            if position is None:
                continue
            if op.kind == "range" and op.request.serializable:
                items.append((op.returned, position - 1, op))
                continue
            items.append((op.returned if op.outcome == OK else NEVER, position, op))
            calls.append((op.called, op))
        for watch in self.history.watches:
            for when, response in watch.responses:
                revision = max((e.kv.mod_revision for e in response.events), default=0)
                if not response.events and not response.created and not response.canceled:
                    revision = response.header.revision
                items.append((when, 2 * revision, watch))
        items.sort(key=lambda each: each[0])
        calls.sort(key=lambda each: each[0])
        index, highest, shown_by = 0, 0, None
        for called, op in calls:
            while index < len(items) and items[index][0] < called:
                if items[index][1] > highest:
                    highest, shown_by = items[index][1], items[index][2]
                index += 1
            position = self.positions[op.id]
            if position < highest or (position == highest and position % 2 == 0):
                self.report("D", op.returned, f"called after position {highest} had been shown by {shown_by}, "
                            f"yet stands at {position}: {op}")

    def check_headers(self):
        """L4: revision and term of one life of a member do not go down, and no revision is past the end."""
        for name in ("revision", "raft_term"):
            lives = defaultdict(list)
            for op in self.history.ops:
                if op.outcome != OK or op.kind == "hash":
                    continue
                value = getattr(op.response.header, name)
                if name == "revision" and value > self.last:
                    self.report("L4", op.returned, f"revision past the end, {self.last}: {op}")
                if op.incarnation is not None:
                    lives[op.member, op.incarnation].append((value, op))
            for life in lives.values():
                returns = sorted(life, key=lambda each: each[1].returned)
                index, highest, shown_by = 0, 0, None
                for value, op in sorted(life, key=lambda each: each[1].called):
                    while index < len(returns) and returns[index][1].returned < op.called:
                        if returns[index][0] > highest:
                            highest, shown_by = returns[index]
                        index += 1
                    if value < highest:
                        self.report("L4", op.returned, f"{name} went down from {highest} of {shown_by}: {op}")

    # Phase F: leases, and what all members say in the end.

    def check_leases(self):
        renewals = defaultdict(list)
        for op in self.history.ops:
            if op.outcome == OK and op.kind in ("grant", "keepalive"):
                renewals[op.response.ID].append(op)
        for lease, (position, revoke, time) in self.ends.items():
            for op in renewals[lease]:
                lasts = op.response.TTL * 1e9 * (1 - self.history.clock_error)
                if revoke is None and op.response.TTL > 0 and op.called + lasts > time:
                    early = (op.called + lasts - time) / 1e9
                    self.report("L1", time, f"lease {lease} ended {early:.3f} s early, position {position}; {op}")
                if revoke is not None and revoke.outcome == OK and op.called > revoke.returned \
                        and op.response.TTL > 0:
                    self.report("L2", op.returned, f"kept alive after {revoke}: {op}")
        for revision, events in self.events.items():
            for _, _, kv, _ in events:
                if kv is not None and kv.lease in self.ends and 2 * revision > self.ends[kv.lease][0]:
                    self.report("L2", self.first_seen[revision],
                                f"revision {revision} uses lease {kv.lease} after its end {self.ends[kv.lease]}")

    def check_finals(self):
        rows = [kv for key in self.past.keys for kv in [self.past.at(key, self.last)] if kv is not None]
        first = None
        for name, final in sorted(self.history.finals.items()):
            for kind in ("linear", "serial"):
                if final[kind] is None:
                    self.report("L4", NEVER, f"{name} answers no {kind} read after the faults")
                elif list(final[kind].kvs) != rows or final[kind].header.revision != self.last:
                    odd = [kv for kv in final[kind].kvs if kv not in rows]
                    lost = [kv for kv in rows if kv not in final[kind].kvs]
                    self.report("L4", NEVER, f"{kind} read of {name} at {final[kind].header.revision} of "
                                f"{self.last}: has {odd}, lacks {lost}")
            rest = {key: value for key, value in final.items() if key not in ("linear", "serial")}
            first = first or (name, rest)
            if rest != first[1]:
                self.report("L4", NEVER, f"{name} has {rest}, {first[0]} has {first[1]}")


    # What the logs of the members hold.

    def check_logs(self):
        """L5: no two logs differ in a committed entry, and the store's history is that of the log."""
        agreed = {}
        for name, log in sorted(self.history.logs.items()):
            for index, entry in log.committed.items():
                entry = same(entry)
                owner, known = agreed.setdefault(index, (name, entry))
                if entry != known:
                    self.report("L5", NEVER, f"entry {index} of {name} is {entry}, of {owner} {known}")
        if agreed:
            self.check_order(agreed)

    def check_order(self, agreed):
        """Each put is in the log, as often as in the store's history and in the same order."""
        raft = protos.load().internal
        revisions = {(key, kv.value): revision for revision, events in self.events.items()
                     for kind, key, kv, _ in events if kind == PUT}
        first, shown = min(agreed), 0
        for index, (_, (_, kind, data)) in sorted(agreed.items()):
            if kind != PAYLOAD or not data:
                continue
            try:
                request = raft.InternalRaftRequest.FromString(data)
            except DecodeError:
                continue  # an older form, of etcd's own business
            name = next((each for each in ("put", "txn") if request.HasField(each)), None)
            found = {revisions.pop((put.key, put.value), None)
                     for put in (puts_of(name, getattr(request, name)) if name else ())} - {None}
            if len(found) > 1 or any(each <= shown for each in found):
                self.report("L5", NEVER, f"entry {index} makes revisions {found} after {shown}: {request}")
            shown = max(found | {shown})
            op = self.writers.get((request.put.key, request.put.value)) if name == "put" else None
            # Whether a limited user's was refused is only known once it is applied.
            if op and not op.user and not found and not request.put.lease and op.outcome != REFUSED:
                self.report("L5", NEVER, f"entry {index} is in no revision: {request}")
        # What came before the oldest log's first entry is not to be found there.
        if first <= 1 and revisions:
            self.report("L5", NEVER, f"in no log: {sorted((r, k) for (k, _), r in revisions.items())[:5]}")


def same(entry):
    """An entry in a form in which those that mean the same are equal: each kind of member writes the first
    ones, of the cluster's configuration, itself, and some write fields that are zero."""
    term, kind, data = entry
    if kind != CONFIGURATION:
        return entry
    return term, kind, tuple(sorted((number, value) for number, value in fields(data).items() if value))


class WatchCheck:
    """Phase E: one watch stream shows every event of its range once, in order, whole revisions."""

    def __init__(self, checker, watch):
        self.checker, self.watch, self.request = checker, watch, watch.request
        self.position = None  # everything up to here has been shown
        self.future = 0
        self.parts = []

    def report(self, rule, when, text):
        self.checker.report(rule, when, f"{text} ({self.watch})")

    def run(self):
        for when, response in self.watch.responses:
            if response.created:
                start = self.request.start_revision
                self.position = start - 1 if start else response.header.revision
                self.future = start if start > response.header.revision + 1 else 0
            elif self.position is None:
                self.report("E", when, "answered before it was created")
                return
            if response.canceled:
                self.canceled(when, response)
                return
            if response.events:
                self.show(when, response)
            elif not response.created:
                self.progress(when, response.header.revision)

    def show(self, when, response):
        if response.header.revision < response.events[-1].kv.mod_revision:
            self.report("E2", when, f"events past the header {response.header.revision}")
        self.parts.extend(response.events)
        if response.fragment:
            if not self.request.fragment:
                self.report("E3", when, "split into fragments unasked")
            return
        events, self.parts = self.parts, []
        if self.watch.permitted is not None:
            for event in events:
                if not any(contains(key, end, event.kv.key) for key, end in self.watch.permitted):
                    self.report("E9", when, f"shows {event.kv.key}, which its user may not read")
        revisions = [event.kv.mod_revision for event in events]
        if revisions != sorted(revisions) or revisions[0] <= self.position:
            self.report("E2", when, f"revisions {revisions} after {self.position}")
        last = max(self.position, revisions[-1])
        expected = self.expected(last)
        actual = [(event.type, event.kv.key, event.kv if event.type == PUT else None) for event in events]
        if actual != [each[:3] for each in expected]:
            self.report("E4", when, f"shows {revisions} after {self.position}: {actual}, should be {expected}")
        else:
            self.previous(when, events, expected)
        self.position = last

    def expected(self, last):
        """The events of the range and filters after `position` up to `last`."""
        found = []
        for revision in range(self.position + 1, last + 1):
            for event in self.checker.events.get(revision, ()):
                if event[0] not in self.request.filters \
                        and contains(self.request.key, self.request.range_end, event[1]):
                    found.append(event)
        return found

    def previous(self, when, events, expected):
        for event, (_, key, _, _) in zip(events, expected):
            revision = event.kv.mod_revision
            old = self.checker.past.at(key, revision - 1) if self.request.prev_kv else None
            if event.HasField("prev_kv"):
                if event.prev_kv != old:
                    self.report("E4", when, f"{key} at {revision} had {old}, not {event.prev_kv}")
            elif old is not None and not any(
                    c.request.revision >= revision and c.called < when for c in self.checker.compactions):
                self.report("E4", when, f"{key} at {revision} lacks its previous value {old}")

    def progress(self, when, revision):
        if self.parts:
            self.report("E3", when, "progress between fragments")
        if revision < self.future:
            self.report("E6", when, f"progress {revision} before the start {self.future}")
            return
        if revision < self.position:
            self.report("E5", when, f"progress {revision} after {self.position}")
        skipped = self.expected(revision)
        if skipped and self.watch.hasty:
            return  # as if it had not been sent: what it skips must still come
        if skipped:
            self.report("E5", when, f"progress {revision} skips {skipped} after {self.position}")
        self.position = max(self.position, revision)

    def canceled(self, when, response):
        compacted = response.compact_revision
        if not compacted:
            if not response.cancel_reason:
                self.report("E7", when, "cancelled without a reason")
            return
        if compacted <= self.position + 1:
            self.report("E7", when, f"cancelled by compaction {compacted}, next was {self.position + 1}")
        if not any(c.request.revision == compacted and c.called < when for c in self.checker.compactions):
            self.report("E7", when, f"cancelled by compaction {compacted}, which nobody asked for")
