"""Transactions: guards, nesting, duplicates, limits, revisions inside, read-only forms."""

import itertools


class Ops:
    """Short names for the parts of a transaction."""

    def __init__(self, s):
        self.rpc = s.api.rpc

    def put(self, key, value=b"v", **options):
        return self.rpc.RequestOp(request_put=self.rpc.PutRequest(key=key, value=value, **options))

    def get(self, key, **options):
        return self.rpc.RequestOp(request_range=self.rpc.RangeRequest(key=key, **options))

    def delete(self, key, range_end=b"", **options):
        return self.rpc.RequestOp(request_delete_range=self.rpc.DeleteRangeRequest(
            key=key, range_end=range_end, **options))

    def txn(self, compare=(), success=(), failure=()):
        return self.rpc.RequestOp(request_txn=self.rpc.TxnRequest(
            compare=compare, success=success, failure=failure))

    def guard(self, key, target="VERSION", result="EQUAL", range_end=b"", **union):
        return self.rpc.Compare(key=key, target=target, result=result, range_end=range_end, **union)


def everything(s):
    s.call("KV.Range", key=b"\0", range_end=b"\0")


def test_compares(same):
    def scenario(s):
        o = Ops(s)
        s.call("Lease.LeaseGrant", TTL=600, ID=5)
        s.call("KV.Put", key=b"a", value=b"m")
        s.call("KV.Put", key=b"b", value=b"m", lease=5)
        s.call("KV.Put", key=b"b", value=b"n", lease=5)
        now = s.revision()
        unions = [{"version": n} for n in (0, 1, 2)]
        unions += [{"create_revision": n} for n in (0, now - 2, now - 1)]
        unions += [{"mod_revision": n} for n in (0, now - 2, now)]
        unions += [{"value": v} for v in (b"", b"m", b"mm", b"n")]
        unions += [{"lease": n} for n in (0, 5, 6)]
        targets = {"version": 0, "create_revision": 1, "mod_revision": 2, "value": 3, "lease": 4}
        places = ((b"a", b""), (b"b", b""), (b"none", b""), (b"a", b"c"), (b"a", b"\0"),
                  (b"x", b"z"), (b"b", b"a"))
        for union, result, (key, end) in itertools.product(unions, range(4), places):
            target = targets[next(iter(union))]
            s.txn([o.guard(key, target, result, end, **union)])
    same(scenario)


def test_odd_compares(same):
    def scenario(s):
        o = Ops(s)
        s.call("KV.Put", key=b"a", value=b"")
        for target, result in itertools.product(range(6), range(5)):
            s.txn([o.guard(b"a", target, result)])  # no value given
            s.txn([o.guard(b"none", target, result)])
            s.txn([o.guard(b"a", target, result, version=1)])  # perhaps a value of another kind
            s.txn([o.guard(b"a", target, result, value=b"")])
        s.txn([o.guard(b"")])
        s.txn([o.guard(b"a", version=1), o.guard(b"")])
        s.txn([o.guard(b"a", version=1), o.guard(b"a", version=2)], [o.get(b"a")], [o.put(b"b")])
        s.txn([o.guard(b"a", version=1)] * 3, [o.get(b"a")], [o.put(b"b")])
    same(scenario)


def test_branches_and_answers(same):
    def scenario(s):
        o = Ops(s)
        for truth in (True, False):
            guard = [o.guard(b"none", version=0 if truth else 1)]
            s.txn(guard, [o.put(b"a", b"1")], [o.put(b"b", b"1")])
            s.txn(guard, [o.get(b"a")], [o.put(b"b", b"2", prev_kv=True)])
            s.txn(guard, [o.put(b"a", prev_kv=True)], [o.get(b"b")])
            s.txn(guard, [o.delete(b"a", prev_kv=True)], [o.delete(b"b", b"z", prev_kv=True)])
            s.txn(guard, [], [o.put(b"only", b"else")])
            s.txn(guard, [o.put(b"only", b"then")], [])
            s.txn(guard, [o.delete(b"nothing")], [o.delete(b"nothing"), o.get(b"a")])
            everything(s)
    same(scenario)


def test_order_inside(same):
    def scenario(s):
        o = Ops(s)
        s.call("KV.Put", key=b"a", value=b"0")
        s.txn([], [o.get(b"a"), o.put(b"a", b"1"), o.get(b"a"), o.put(b"b"), o.get(b"a", range_end=b"z"),
                   o.get(b"a", range_end=b"z", count_only=True), o.get(b"a", range_end=b"z", limit=1)])
        s.txn([], [o.delete(b"a"), o.get(b"a", range_end=b"z"), o.delete(b"a"), o.get(b"b"),
                   o.put(b"c"), o.delete(b"nothing"), o.get(b"c", keys_only=True)])
        s.txn([], [o.delete(b"b", b"d", prev_kv=True), o.delete(b"\0", b"\0", prev_kv=True),
                   o.get(b"\0", range_end=b"\0")])
        s.txn([], [o.delete(b"nothing"), o.get(b"x"), o.put(b"x"), o.delete(b"nothing")])
        s.txn([], [o.put(b"p", prev_kv=True), o.txn([], [o.get(b"p"), o.put(b"q", prev_kv=True)])])
        s.txn([], [o.get(b"\0", range_end=b"\0", sort_order=2, sort_target=3),
                   o.get(b"\0", range_end=b"\0", sort_order=1, sort_target=0, limit=2)])
        everything(s)
    same(scenario)


def test_revisions_inside(same):
    def scenario(s):
        o = Ops(s)
        for n in range(4):
            s.call("KV.Put", key=b"a", value=str(n).encode())
        now = s.revision()
        s.call("KV.Compact", revision=now - 2, physical=True)
        for revision in (-2, -1, 0, now - 3, now - 2, now - 1, now, now + 1, now + 2):
            s.txn([], [o.get(b"a", revision=revision)])
            s.txn([], [o.get(b"a", revision=revision, serializable=True)])
            s.txn([o.guard(b"a", version=99)], [o.get(b"a", revision=revision)], [o.get(b"a")])
            s.txn([], [o.put(b"w"), o.get(b"a", revision=revision), o.get(b"w", revision=revision)])
            s.txn([o.guard(b"a", version=99)], [o.get(b"a", revision=revision)], [o.put(b"w")])
            s.txn([], [o.txn([], [o.get(b"a", revision=revision)])])
            now = s.revision() if revision == 0 else now
        everything(s)
    same(scenario)


def test_nested(same):
    def scenario(s):
        o = Ops(s)
        absent = [o.guard(b"s", version=0)]
        s.txn([], [o.put(b"s"), o.txn(absent, [o.put(b"t")], [o.put(b"u")])])
        s.txn([], [o.put(b"s"), o.txn(absent, [o.put(b"t")], [o.put(b"u")])])
        s.txn([], [o.txn([], [o.txn([], [o.txn(absent, [], [o.put(b"deep"), o.get(b"deep")])])])])
        s.txn([], [o.txn([], []), o.txn(), o.get(b"deep")])
        s.txn([], [o.txn([], [o.get(b"deep")])])
        s.txn(absent, [o.txn([], [o.put(b"v")])], [o.txn(absent, [], [o.delete(b"deep", prev_kv=True)])])
        s.txn([], [o.txn([o.guard(b"")], [])])
        s.txn([], [o.txn([], [], [o.get(b"")])])
        s.txn([], [o.get(b"a"), o.txn([], [o.delete(b"nothing")]), o.put(b"w"), o.get(b"a"),
                   o.txn([], [o.get(b"w"), o.delete(b"w"), o.get(b"w")]), o.get(b"w")])
        everything(s)
    same(scenario)


def test_invalid_operations(same):
    def scenario(s):
        o = Ops(s)
        bad = [o.put(b""), o.get(b""), o.delete(b""), o.rpc.RequestOp(),
               o.put(b"k", b"x", ignore_value=True), o.put(b"k", ignore_lease=True, lease=3),
               o.put(b"none", b"", ignore_value=True), o.put(b"none", ignore_lease=True),
               o.put(b"k", lease=404), o.txn([o.guard(b"")])]
        for op in bad:
            s.txn([], [op])
            s.txn([], [], [op])
            s.txn([o.guard(b"none", version=1)], [op], [o.put(b"good")])
            s.txn([], [o.put(b"first"), op])
            s.txn([], [o.txn([], [op])])
        everything(s)
        s.txn([], [o.put(b"none", b"1"), o.put(b"later", b"", ignore_value=True)])
        s.txn([], [o.put(b"none", b"", ignore_value=True, prev_kv=True)])
        s.txn([], [o.put(b"none", b"2", ignore_lease=True, prev_kv=True)])
        everything(s)
    same(scenario)


def test_which_of_two_mistakes_is_told(same):
    def scenario(s):
        o = Ops(s)
        s.call("KV.Put", key=b"a")
        s.call("KV.Compact", revision=s.revision())
        mistakes = [o.get(b"a", revision=1), o.get(b"a", revision=s.revision() + 9),
                    o.put(b"l", lease=404), o.put(b"none", b"", ignore_value=True),
                    o.put(b"m", b"", lease=404, ignore_value=True),
                    o.txn([], [o.get(b"a", revision=1)]), o.txn([], [o.put(b"n", lease=404)])]
        for first, second in itertools.permutations(mistakes, 2):
            s.txn([], [first, second])
        static = [o.put(b""), o.get(b""), o.rpc.RequestOp(), o.put(b"k", b"x", ignore_value=True),
                  o.put(b"k", b"", ignore_lease=True, lease=1)]
        for first, second in itertools.permutations(static, 2):
            s.txn([], [first, second])
            s.txn([o.guard(b"")], [first])
            s.txn([], [o.put(b"d"), first, o.put(b"d")])
    same(scenario)


def test_duplicates(same):
    def scenario(s):
        o = Ops(s)
        s.call("KV.Put", key=b"a")
        put, other = o.put(b"a"), o.put(b"b")
        one, wide, endless, before = (o.delete(b"a"), o.delete(b"a", b"c"), o.delete(b"\0", b"\0"),
                                      o.delete(b"0", b"a"))
        lists = [[put, put], [put, other, put], [put, one], [one, put], [put, wide], [wide, put],
                 [put, endless], [endless, put], [put, before], [before, put], [one, wide, endless],
                 [put, o.get(b"a")], [other, one], [one, one]]
        nested = [[put, o.txn([], [put])], [o.txn([], [put]), put], [put, o.txn([], [], [put])],
                  [put, o.txn([], [one])], [o.txn([], [one]), put], [one, o.txn([], [put])],
                  [o.txn([], [put]), one], [wide, o.txn([], [], [put])], [endless, o.txn([], [put])],
                  [o.txn([], [put]), o.txn([], [put])], [o.txn([], [put]), o.txn([], [one])],
                  [o.txn([], [one]), o.txn([], [put])], [o.txn([], [put], [put])],
                  [o.txn([], [put], [one])], [o.txn([], [one], [put])],
                  [o.txn([], [put], [put]), put], [o.txn([], [put, put])],
                  [o.txn([], [o.txn([], [put])]), put], [o.txn([], [o.txn([], [put])], [put])],
                  [o.txn([], [o.txn([], [put])]), o.txn([], [o.txn([], [], [put])])],
                  [o.txn([], [o.txn([], [one])]), put], [o.txn([], [wide]), other]]
        for ops in lists + nested:
            s.txn([], ops)
            s.txn([], [], ops)
            everything(s)
    same(scenario)


def test_too_many_operations(same):
    def scenario(s):
        o = Ops(s)
        puts = [o.put(b"k%d" % n) for n in range(129)]
        gets = [o.get(b"k")] * 129
        guards = [o.guard(b"k", version=0)] * 129
        for count in (127, 128, 129):
            s.txn([], puts[:count])
            s.txn([], [], puts[:count])
            s.txn([], gets[:count])
            s.txn(guards[:count])
            s.txn(guards[:count], gets[:count], puts[:count])
        for outer, inner in ((1, 127), (1, 128), (2, 126), (2, 127), (64, 64), (65, 64)):
            ops = [o.txn([], puts[:inner]), *gets[:outer - 1]]
            s.txn([], ops)
            s.txn([], gets[:1], ops)
            s.txn([], [o.txn(guards[:inner]), *gets[:outer - 1]])
        s.txn([], [o.txn([], [o.txn([], puts[:126])])])
        s.txn([], [o.txn([], [o.txn([], puts[:127])])])
    same(scenario)


def test_read_only_forms(same):
    def scenario(s):
        o = Ops(s)
        s.call("KV.Put", key=b"a", value=b"1")
        for flags in itertools.product((False, True), repeat=2):
            ops = [o.get(b"a", serializable=flag) for flag in flags]
            s.txn([], ops)
            s.txn([o.guard(b"a", version=1)], ops, ops)
            s.txn([o.guard(b"a", version=2)], ops, [o.delete(b"nothing")])
        s.txn([o.guard(b"a", version=1)])
        s.txn([o.guard(b"a", version=7)])
        s.txn()
        s.txn([], [o.get(b"a", range_end=b"\0", keys_only=True, limit=1),
                   o.get(b"\0", range_end=b"\0", count_only=True)])
        s.txn([], [o.get(b"a", sort_order=1, sort_target=4, range_end=b"z")])
    same(scenario)
