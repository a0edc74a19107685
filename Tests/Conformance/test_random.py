"""Random requests over a small key space: every answer, then the whole history, must be the same.

APUS_SEEDS is a list of seeds (default: a few fixed ones), APUS_STEPS the requests for each."""

import os
import random

import pytest
from test_txn import Ops

SEEDS = [int(seed) for seed in os.environ.get("APUS_SEEDS", "1,2,3,4").split(",")]
STEPS = int(os.environ.get("APUS_STEPS", "1500"))
ALL = {"key": b"\0", "range_end": b"\0"}
KEYS = [b"a", b"aa", b"ab", b"b", b"b\0", b"c", b"\xff", b"\0", b"d/1", b"d/2"]
ENDS = [b"", b"", b"", b"\0", b"b", b"c", b"d0", b"aa", b"\xff\xff"]
LEASES = [0, 0, 0, 1, 2, 3]
TARGETS = ("version", "create_revision", "mod_revision", "value", "lease")


class Generator:
    """Makes the next request from a seed and the revision reached. Equal for all servers as long
    as their answers are equal."""

    def __init__(self, s, seed):
        self.s, self.random, self.o = s, random.Random(seed), Ops(s)
        self.base = self.revision = s.revision()
        self.compacted = self.base

    def some_revision(self):
        roll = self.random.random()
        if roll < 0.5:
            return 0
        if roll < 0.55:
            return self.random.choice((-3, -1, 1))
        return self.random.randint(max(self.compacted - 2, 1), self.revision + 2)

    def range_fields(self):
        r = self.random
        fields = dict(key=r.choice(KEYS), range_end=r.choice(ENDS), revision=self.some_revision(),
                      serializable=r.random() < 0.3, keys_only=r.random() < 0.2,
                      count_only=r.random() < 0.1)
        if r.random() < 0.2:
            for name in r.sample(("min_mod_revision", "max_mod_revision", "min_create_revision",
                                  "max_create_revision"), r.randint(1, 2)):
                fields[name] = r.randint(max(1, self.revision - 60), self.revision + 1)
        if r.random() < 0.3:
            # With a limit, only orders without ties are defined.
            fields["sort_order"] = r.randint(0, 2)
            if r.random() < 0.5:
                fields["limit"] = r.randint(-1, 5)
            else:
                fields["sort_target"] = r.randint(0, 4)
        elif r.random() < 0.5:
            fields["limit"] = r.randint(-1, 5)
        return fields

    def put_fields(self, ignore=True):
        r = self.random
        fields = dict(key=r.choice(KEYS), value=r.choice((b"", b"x", b"y", b"long" * 50)),
                      prev_kv=r.random() < 0.3, lease=r.choice(LEASES))
        if ignore and r.random() < 0.15:
            fields.update(ignore_value=True, value=r.choice((b"", b"", b"", b"z")))
        if ignore and r.random() < 0.15:
            fields.update(ignore_lease=True, lease=r.choice((0, 0, 0, 2)))
        if r.random() < 0.02:
            fields["key"] = b""
        return fields

    def delete_fields(self):
        r = self.random
        return dict(key=r.choice(KEYS), range_end=r.choice(ENDS), prev_kv=r.random() < 0.4)

    def guard(self):
        r = self.random
        target = r.randrange(5)
        value = {0: r.randint(0, 3), 3: r.choice((b"", b"x", b"y")), 4: r.choice(LEASES)}.get(
            target, r.randint(max(0, self.revision - 20), self.revision))
        return self.o.guard(r.choice(KEYS), target, r.randrange(4), r.choice(ENDS) if r.random() < 0.3 else b"",
                            **{TARGETS[target]: value})

    def ops(self, depth):
        return [self.op(depth) for _ in range(self.random.choice((0, 1, 1, 2, 3)))]

    def op(self, depth):
        rpc, roll = self.s.api.rpc, self.random.random()
        if roll < 0.3:
            fields = self.range_fields()
            fields.pop("sort_target", None)  # ties
            return rpc.RequestOp(request_range=rpc.RangeRequest(**fields))
        if roll < 0.65:
            return rpc.RequestOp(request_put=rpc.PutRequest(**self.put_fields(not self.deletes)))
        if self.deletes and (roll < 0.85 or depth == 0):
            return rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(**self.delete_fields()))
        return self.o.txn(*self.txn(depth - 1)) if depth else self.o.get(b"a")

    def txn(self, depth=2):
        return ([self.guard() for _ in range(self.random.choice((0, 0, 1, 2)))],
                self.ops(depth), self.ops(depth))

    def step(self):
        s, roll = self.s, self.random.random()
        if roll < 0.30:
            answer = s.call("KV.Put", **self.put_fields())
        elif roll < 0.52:
            fields = self.range_fields()
            tied = fields.get("sort_target") and "limit" not in fields
            answer = s.call("KV.Range", **fields, rows=(lambda kv: kv["key"]) if tied else None)
        elif roll < 0.62:
            answer = s.call("KV.DeleteRange", **self.delete_fields())
        elif roll < 0.90:
            # A put with an ignore flag after a delete of its key ends the whole etcd process, so a
            # transaction has the one or the other. test_alone.py tries both on Apus.
            self.deletes = self.random.random() < 0.6
            answer = s.txn(*self.txn())
        elif roll < 0.95:
            answer = s.call("Lease.LeaseGrant", TTL=3600, ID=self.random.randint(1, 3))
        elif roll < 0.975:
            answer = s.call("Lease.LeaseRevoke", ID=self.random.randint(1, 4))
        elif roll < 0.985:
            s.call("Lease.LeaseTimeToLive", ID=self.random.randint(1, 4))
            answer = None
        else:
            target = self.revision - self.random.randint(-2, 40)
            answer = s.call("KV.Compact", revision=target, physical=self.random.random() < 0.5)
            if answer:
                self.compacted = target
        if answer is not None and answer.header.revision:
            self.revision = answer.header.revision


@pytest.mark.parametrize("seed", SEEDS)
def test_random_requests(same, seed):
    def scenario(s):
        generator = Generator(s, seed)
        start = generator.base + 1
        live = s.watch()
        live.create(**ALL, start_revision=start, prev_kv=False)
        for _ in range(STEPS):
            generator.step()
        last, compacted = generator.revision, max(generator.compacted, generator.base)
        # Refused, but only after earlier compactions have removed their records: until then the hash
        # of a history without keys depends on how far they got.
        s.call("KV.Compact", revision=1, physical=True)
        for revision in range(compacted, last + 2, max(1, (last - compacted) // 25)):
            s.call("KV.Range", **ALL, revision=revision)
            s.call("Maintenance.HashKV", revision=revision)
        s.call("KV.Range", **ALL)
        s.call("Maintenance.HashKV")
        for lease in (1, 2, 3):
            answer = s.stubs["Lease"].LeaseTimeToLive(
                s.api.rpc.LeaseTimeToLiveRequest(ID=lease, keys=True))
            s.note("attached", sorted(answer.keys))
        # One more put tells when the live watch has shown everything.
        mark = s.call("KV.Put", key=b"mark").header.revision
        replay = s.watch()
        replay.create(**ALL, start_revision=max(compacted, start), prev_kv=True)
        for w, label in ((live, "Watch.events"), (replay, "Watch.events from the compacted revision")):
            w.take_until(0, mark, label)

    try:
        same(scenario)
    except AssertionError as error:
        raise AssertionError(f"seed {seed}: APUS_SEEDS={seed} repeats it\n{error}") from None
