"""The checker passes a clean history and finds each kind of lie planted into one."""

import copy
import random

import protos
import pytest

from . import wal
from .checker import check
from .history import NEVER, OK, REFUSED, UNKNOWN, History, Op, Watch
from .model import DELETE, Past, View, did_change
from .rights import Right

api = protos.load()
rpc, kv = api.rpc, api.kv
STEP = 1_000_000  # nanoseconds between two operations


class World:
    """A correct store, asked one thing after another, with watches that see all. Lies are planted afterwards."""

    def __init__(self, seed=1, count=300):
        self.random, self.history, self.past = random.Random(seed), History(), Past()
        self.revision, self.time, self.compacted = 1, 0, 0
        self.events = {}
        self.leases = {}
        for number in range(count):
            self.random_op(number)
        self.op("put", rpc.PutRequest(key=b"tombstone", value=b"last"))
        self.watch(b"\0", b"\0", 1, collector=True, member="a")
        self.watch(b"\0", b"\0", 1, collector=True, member="b")
        self.watch(b"k/", b"k0", 20, member="b")
        self.watch(b"k/1", b"", 0, member="a")
        for name in "ab":
            rows = View(self.past, self.revision).rows(b"\0", b"\0")
            answer = rpc.RangeResponse(kvs=rows, count=len(rows))
            answer.header.revision = self.revision
            other = rpc.RangeResponse()
            other.CopyFrom(answer)
            self.history.finals[name] = {"linear": answer, "serial": other, "hash": 7, "leases": [],
                                         "members": [(1, "a", "http://a:2380", "http://a:2379", False)]}
            self.history.logs[name] = self.log()

    def op(self, kind, request, **changes):
        self.time += STEP
        view = View(self.past, self.revision)
        response = view.evaluate(kind, request)
        if view.effects:
            self.revision += 1
            self.events[self.revision] = view.effects
            for _, key, new, _ in view.effects:
                self.past.append(self.revision, key, new)
        response.header.revision, response.header.raft_term = self.revision, 2
        op = Op(len(self.history.ops) + 1, self.random.randrange(3), self.random.choice("ab"), 1, kind, request,
                self.time, self.time + STEP // 2, OK, "", response)
        for name, value in changes.items():
            setattr(op, name, value)
        self.history.ops.append(op)
        return op

    def plain(self, kind, request, response):
        """An operation outside the key space."""
        self.time += STEP
        response.header.revision, response.header.raft_term = self.revision, 2
        op = Op(len(self.history.ops) + 1, 0, "a", 1, kind, request, self.time, self.time + STEP // 2, OK, "",
                response)
        self.history.ops.append(op)
        return op

    def grant(self, lease, ttl):
        self.leases[lease] = ttl
        return self.plain("grant", rpc.LeaseGrantRequest(ID=lease, TTL=ttl), rpc.LeaseGrantResponse(ID=lease, TTL=ttl))

    def keep_alive(self, lease, ttl=None):
        return self.plain("keepalive", rpc.LeaseKeepAliveRequest(ID=lease),
                          rpc.LeaseKeepAliveResponse(ID=lease, TTL=self.leases[lease] if ttl is None else ttl))

    def expire(self, lease):
        """The lease runs out: its keys vanish with nobody asking."""
        op = self.op("revoke", rpc.LeaseRevokeRequest(ID=lease))
        self.history.ops.remove(op)

    def random_op(self, number):
        key = b"k/%d" % self.random.randrange(4)
        value = b"%d" % number
        match self.random.randrange(9):
            case 0 | 1 | 2: self.op("put", rpc.PutRequest(key=key, value=value, prev_kv=number % 2 == 0))
            case 3: self.op("delete", rpc.DeleteRangeRequest(key=key, prev_kv=True))
            case 4: self.op("range", rpc.RangeRequest(key=b"k/", range_end=b"k0", limit=2))
            case 5: self.op("range", rpc.RangeRequest(key=key, serializable=number % 2 == 0))
            case 6:
                old = max(self.compacted, self.revision - self.random.randrange(9), 1)
                self.op("range", rpc.RangeRequest(key=b"k/", range_end=b"k0", revision=old))
            case 7:
                guard = rpc.Compare(key=key, target=rpc.Compare.VERSION, result=rpc.Compare.GREATER, version=1)
                puts = [rpc.RequestOp(request_put=rpc.PutRequest(key=b"k/%d" % n, value=b"%s.%d" % (value, n)))
                        for n in range(2)]
                read = rpc.RequestOp(request_range=rpc.RangeRequest(key=key))
                self.op("txn", rpc.TxnRequest(compare=[guard], success=[*puts, read], failure=[read]))
            case 8:
                lease = 1000 + number
                self.grant(lease, 1)
                self.op("put", rpc.PutRequest(key=b"l/%d" % number, value=value, lease=lease))
                self.keep_alive(lease)
                if self.random.random() < 0.5:
                    self.op("revoke", rpc.LeaseRevokeRequest(ID=lease))
                else:
                    self.time += 1_000_000_000
                    self.expire(lease)

    def log(self):
        """What the log of a member would hold: every request that changed something, in order."""
        internal, entries = api.internal.InternalRaftRequest, {}
        fields = {"put": "put", "txn": "txn", "delete": "delete_range"}
        for op in self.history.ops:
            if op.kind in fields and did_change(op.kind, op.response):
                request = internal(**{fields[op.kind]: op.request})
                entries[len(entries) + 1] = (2, wal.PAYLOAD, request.SerializeToString())
        return wal.Log(entries, len(entries), 2, 0)

    def compact(self, revision):
        self.compacted = revision
        return self.plain("compact", rpc.CompactionRequest(revision=revision), rpc.CompactionResponse())

    def watch(self, key, end, start, member="a", collector=False):
        """A watch opened at the end that is shown everything from `start` on; 0 sees nothing but progress."""
        request = rpc.WatchCreateRequest(key=key, range_end=end, start_revision=start, prev_kv=True)
        watch = Watch(len(self.history.watches) + 1, member, 1, request, self.time, collector)
        self.time += STEP

        def answer(**fields):
            response = rpc.WatchResponse(**fields)
            response.header.revision = self.revision
            watch.responses.append((self.time, response))
            return response

        answer(created=True)
        for revision in range(start, self.revision + 1) if start else ():
            mine = [each for each in self.events.get(revision, ())
                    if (key <= each[1] < end if end > b"\0" else end == b"\0" or each[1] == key)]
            if mine:
                response = answer()
                for kind, name, new, old in mine:
                    response.events.append(kv.Event(
                        type=kind, prev_kv=old,
                        kv=new if kind != DELETE else kv.KeyValue(key=name, mod_revision=revision)))
        answer()
        self.history.watches.append(watch)
        return watch

    def pick(self, kind, wanted=lambda op: True):
        """An operation near the middle."""
        found = [op for op in self.history.ops if op.kind == kind and wanted(op)]
        return found[len(found) // 2]

    def changing(self):
        return self.pick("put", lambda op: op.request.key.startswith(b"k/"))

    def shown(self, watch=2, wanted=lambda response: True):
        """The responses of a watch that carry events."""
        return [r for _, r in self.history.watches[watch].responses if r.events and wanted(r)]

    def everywhere(self, revision):
        """The response of each collector that carries a revision."""
        return [r for watch in self.history.watches if watch.collector
                for _, r in watch.responses if r.events and r.events[0].kv.mod_revision == revision]


@pytest.fixture(scope="module")
def clean():
    return World()


@pytest.fixture
def world(clean):
    fresh = copy.copy(clean)
    lock, clean.history.lock = clean.history.lock, None
    fresh.history = copy.deepcopy(clean.history)
    clean.history.lock = fresh.history.lock = lock
    return fresh


def rules(world):
    return {each.rule for each in check(world.history)}


@pytest.mark.parametrize("seed", range(5))
def test_clean(seed):
    assert check(World(seed, 400).history) == []


def test_unknown_outcomes_are_resolved():
    """Some happened, some did not, some were deletes and revokes."""
    world = World(3, 50)
    world.history.watches.clear()
    world.history.finals.clear()
    world.history.logs.clear()
    for number in range(40):
        unknown = {"outcome": UNKNOWN, "returned": NEVER, "response": None}
        world.op("put", rpc.PutRequest(key=b"k/1", value=b"u%d" % number), **unknown)
        if number % 3 == 0:
            world.op("delete", rpc.DeleteRangeRequest(key=b"k/1"), **unknown)
        lost = Op(10_000 + number, 9, "a", 1, "put", rpc.PutRequest(key=b"k/2", value=b"never%d" % number), world.time)
        world.history.ops.append(lost)
        world.history.ops.append(
            Op(20_000 + number, 9, "a", 1, "delete", rpc.DeleteRangeRequest(key=b"k/3"), world.time))
    world.watch(b"\0", b"\0", 1, collector=True)
    assert check(world.history) == []


def drop_event(world):
    del world.shown()[5].events[:]


def swap_events(world):
    a, b = world.shown()[5:7]
    mine, theirs = list(a.events), list(b.events)
    del a.events[:], b.events[:]
    a.events.extend(theirs)
    b.events.extend(mine)


def repeat_event(world):
    a, b = world.shown()[5:7]
    copied = list(a.events)
    del b.events[:]
    b.events.extend(copied)


def delay_revision(world):
    world.changing().response.header.revision += 1


def stale_read(world):
    """A read at the revision before a write that had been acknowledged."""
    write = world.changing()
    revision = write.response.header.revision - 1
    response = View(world.past, revision).evaluate("range", rpc.RangeRequest(key=write.request.key))
    response.header.revision = revision
    world.history.ops.append(Op(50_000, 7, "b", 1, "range", rpc.RangeRequest(key=write.request.key),
                                write.returned + 1, write.returned + 2, OK, "", response))


def lose_write(world):
    """Acknowledged, but nobody is ever shown it."""
    world.history.ops.append(Op(50_000, 7, "b", 1, "put", rpc.PutRequest(key=b"k/0", value=b"lost"), world.time,
                                world.time + 1, OK, "", rpc.PutResponse(header={"revision": world.revision})))


def nobodys_value(world):
    for response in world.everywhere(world.changing().response.header.revision):
        response.events[0].kv.value = b"from nowhere"


def apply_twice(world):
    first = world.changing()
    later = [op for op in world.history.ops if op.kind == "put" and op.called > first.called
             and op.request.key == first.request.key][0]
    for response in world.everywhere(later.response.header.revision):
        response.events[0].kv.value = first.request.value
    later.request.value = first.request.value


def wrong_version(world):
    for response in world.everywhere(world.changing().response.header.revision):
        response.events[0].kv.version += 1


def wrong_count(world):
    world.pick("range", lambda op: op.request.limit).response.count += 1


def wrong_more(world):
    answer = world.pick("range", lambda op: op.request.limit).response
    answer.more = not answer.more


def wrong_branch(world):
    answer = world.pick("txn", lambda op: not op.response.succeeded).response
    answer.succeeded = True


def wrong_branch_that_wrote(world):
    world.pick("txn", lambda op: op.response.succeeded).response.succeeded = False


def split_revision(world):
    watch = world.history.watches[2]
    for index, (when, response) in enumerate(watch.responses):
        if len(response.events) > 1:
            rest = rpc.WatchResponse(header=response.header, events=response.events[1:])
            del response.events[1:]
            watch.responses.insert(index + 1, (when, rest))
            return


def early_progress(world):
    watch = world.history.watches[2]
    revision = watch.responses[6][1].events[0].kv.mod_revision
    watch.responses.insert(5, (watch.responses[5][0], rpc.WatchResponse(header={"revision": revision})))


def progress_before_start(world):
    watch = world.history.watches[2]
    watch.request.start_revision = world.revision + 50
    del watch.responses[1:-1]


def skip_over_compaction(world):
    world.compact(60)
    watch = world.history.watches[2]
    watch.responses[:] = watch.responses[:1] + [
        each for each in watch.responses[1:] if not each[1].events or each[1].events[0].kv.mod_revision >= 60]


def needless_cancel(world):
    world.compact(20)
    watch = world.history.watches[2]
    del watch.responses[-1:]
    watch.responses.append((world.time, rpc.WatchResponse(canceled=True, compact_revision=20)))


def early_expiry(world):
    ended = [lease for lease in world.leases
             if not any(op.kind == "revoke" and op.request.ID == lease for op in world.history.ops)]
    op = next(op for op in world.history.ops if op.kind == "keepalive" and op.request.ID == ended[0])
    op.response.TTL = 30


def keep_alive_after_revoke(world):
    world.time += STEP
    world.keep_alive(world.pick("revoke").request.ID)


def other_hash(world):
    world.history.finals["b"]["hash"] = 8


def lost_at_the_end(world):
    del world.history.finals["b"]["serial"].kvs[-1]


def header_goes_back(world):
    op = world.pick("keepalive")
    op.response.header.revision -= 20


def term_goes_back(world):
    world.pick("keepalive").response.header.raft_term = 1
    world.pick("grant").response.header.raft_term = 1


def refused_yet_present(world):
    op = world.changing()
    op.outcome, op.code, op.response = REFUSED, "RESOURCE_EXHAUSTED", None


def dirty_event(world):
    """A watch shows what was never committed."""
    response = world.shown()[-1]
    response.events.append(kv.Event(kv=kv.KeyValue(key=b"k/9", value=b"dirty", version=1,
                                                   create_revision=world.revision + 1,
                                                   mod_revision=world.revision + 1)))


def nobodys_delete(world):
    op = world.pick("delete", lambda op: did_change("delete", op.response))
    world.history.ops.remove(op)


def collectors_differ(world):
    world.everywhere(world.changing().response.header.revision)[0].events[0].kv.value = b"other"


def no_previous(world):
    for response in world.shown(wanted=lambda r: r.events[0].HasField("prev_kv"))[:1]:
        response.events[0].ClearField("prev_kv")


def wrong_previous(world):
    world.pick("put", lambda op: op.response.HasField("prev_kv")).response.prev_kv.value = b"other"


def shown_before_called(world):
    world.history.watches[2].responses[0:1] = [
        (0, world.history.watches[2].responses[0][1]), (1, world.history.watches[2].responses[1][1])]
    del world.history.watches[2].responses[2]


def compacted_read(world):
    wanted = world.revision - 30
    world.compact(wanted + 5)
    world.op("range", rpc.RangeRequest(key=b"k/", range_end=b"k0", revision=wanted))


def compacted_for_no_reason(world):
    op = world.pick("range", lambda op: op.request.revision)
    op.outcome, op.code, op.response = REFUSED, "OUT_OF_RANGE", None


def seen_by_nobody(world):
    """A revision that no collector was shown."""
    for response in world.everywhere(world.changing().response.header.revision):
        del response.events[:]


def half_a_txn(world):
    """The outcome is unknown, and only one of its two writes is there."""
    op = world.pick("txn", lambda op: op.response.succeeded)
    for response in world.everywhere(op.response.header.revision):
        del response.events[-1]
    op.outcome, op.returned, op.response = UNKNOWN, NEVER, None


def unasked_fragment(world):
    world.shown()[4].fragment = True


def shown_before_created(world):
    del world.history.watches[2].responses[0]


def other_members(world):
    world.history.finals["b"]["members"].append((2, "b", "http://b:2380", "http://b:2379", False))


def logs_differ(world):
    entries = world.history.logs["b"].entries
    entries[7] = (3, *entries[7][1:])


def log_lacks_entry(world):
    """No member's log has a write that the store has."""
    for log in world.history.logs.values():
        del log.entries[len(log.entries)]


def log_in_other_order(world):
    for log in world.history.logs.values():
        first, second = [index for index, (_, _, data) in log.entries.items()
                         if api.internal.InternalRaftRequest.FromString(data).HasField("put")][:2]
        log.entries[first], log.entries[second] = log.entries[second], log.entries[first]


def entry_in_no_revision(world):
    """Committed and never applied: an acknowledged write that no store shows."""
    op = Op(50_000, 7, "b", 1, "put", rpc.PutRequest(key=b"k/0", value=b"forgotten"), world.time)
    world.history.ops.append(op)
    request = api.internal.InternalRaftRequest(put=op.request)
    for log in world.history.logs.values():
        log.entries[len(log.entries) + 1] = (2, wal.PAYLOAD, request.SerializeToString())
        log.commit += 1


def shown_beyond_permission(world):
    world.history.watches[2].permitted = [(b"k/1", b"k/3")]


def limited(world):
    """A put, a read and a watch become those of a user who may do so."""
    put = next(op for op in world.history.ops if op.kind == "put" and op.outcome == OK and op.id > 100)
    read = next(op for op in world.history.ops if op.kind == "range" and op.outcome == OK and op.id > put.id
                and not op.request.range_end and not op.request.revision)
    watch = world.history.watches[3]
    assert watch.request.key == b"k/1" and not watch.request.range_end
    put.user = read.user = watch.user = "ann"
    world.history.rights = [
        Right("bob", b"\0", b"\0", 0), Right("ann", b"k/", b"k0", put.response.header.revision - 1,
                                             read.response.header.revision, put.called - 1, read.returned + 1),
        Right("ann", b"k/1", b"", 0)]
    return put, read, watch


def granted_later(world):
    put, read, _ = limited(world)
    world.history.rights[1].first = max(put.response.header.revision, read.response.header.revision) + 1


def revoked_before(world):
    put, _, _ = limited(world)
    world.history.rights[1].last = put.response.header.revision - 1


def other_key(world):
    put, _, _ = limited(world)
    world.history.rights[1].key = put.request.key + b"0"


def other_user(world):
    limited(world)
    world.history.rights[1].user = "bob"


def refused_with_the_right(world):
    put, _, _ = limited(world)
    world.history.ops.append(Op(60_000, 9, "a", 1, "put", rpc.PutRequest(key=b"k/1", value=b"never"), put.called,
                                put.returned, REFUSED, "PERMISSION_DENIED", user="ann"))


def watched_without_right(world):
    limited(world)
    world.history.rights.pop()
    world.history.rights[1].last = 0


def test_limited_users_within_their_rights(world):
    put, _, _ = limited(world)
    # Refused as the right was taken away meanwhile, or may not have been there yet.
    world.history.rights[1].granted = put.called + 1
    world.history.ops.append(Op(60_000, 9, "a", 1, "put", rpc.PutRequest(key=b"k/2", value=b"never"), put.called,
                                put.returned, REFUSED, "PERMISSION_DENIED", user="ann"))
    assert not rules(world)


def test_old_etcd_tells_progress_before_history(world):
    early_progress(world)
    world.history.watches[2].hasty = True
    assert not rules(world)


def test_old_etcd_must_show_what_its_progress_has_skipped(world):
    watch = world.history.watches[2]
    watch.hasty = True
    early_progress(world)
    del watch.responses[6]
    assert rules(world) & {"E2", "E4"}


MUTANTS = {
    granted_later: "R1", revoked_before: "R1", other_key: "R1", other_user: "R1", refused_with_the_right: "R2",
    watched_without_right: "R3",
    seen_by_nobody: "A2", half_a_txn: "B2", unasked_fragment: "E3", shown_before_created: "E",
    other_members: "L4", logs_differ: "L5", log_lacks_entry: "L5", log_in_other_order: "L5",
    entry_in_no_revision: "L5", shown_beyond_permission: "E9",
    drop_event: "E5", swap_events: "E2", repeat_event: "E2", delay_revision: "B1", stale_read: "D",
    lose_write: "B1", nobodys_value: "A4", apply_twice: "A4", wrong_version: "A3", wrong_count: "C",
    wrong_more: "C", wrong_branch: "C", wrong_branch_that_wrote: "C", split_revision: "E4",
    early_progress: "E5", progress_before_start: "E6", skip_over_compaction: "E4", needless_cancel: "E7",
    early_expiry: "L1", keep_alive_after_revoke: "L2", other_hash: "L4", lost_at_the_end: "L4",
    header_goes_back: "L4", term_goes_back: "L4", refused_yet_present: "B3", dirty_event: "E4",
    nobodys_delete: "B4", collectors_differ: "A1", no_previous: "E4", wrong_previous: "C",
    shown_before_called: "D", compacted_read: "C1", compacted_for_no_reason: "C1",
}


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda each: each.__name__)
def test_mutant(world, mutant):
    mutant(world)
    assert MUTANTS[mutant] in rules(world)
