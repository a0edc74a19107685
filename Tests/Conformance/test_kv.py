"""Range, Put, DeleteRange and Compact: every option, and the combinations of them."""

import itertools

ALL = {"key": b"\0", "range_end": b"\0"}
MIB = 1024 * 1024


def fill(s):
    """Keys whose version, value, creation and modification order all differ from key order."""
    base = s.revision()
    for key, value, times in ((b"d", b"1", 2), (b"a", b"9", 1), (b"c", b"5", 4), (b"b", b"3", 3),
                              (b"e", b"7", 5)):
        for _ in range(times):
            s.call("KV.Put", key=key, value=value)
    s.call("KV.Put", key=b"gone", value=b"x")
    s.call("KV.DeleteRange", key=b"gone")
    return base


def test_range_sort_and_limit(same):
    def scenario(s):
        fill(s)
        for order, target, limit, keys_only in itertools.product(
                range(3), range(5), (0, 1, 3, 5, 6, -1), (False, True)):
            s.call("KV.Range", **ALL, sort_order=order, sort_target=target, limit=limit,
                   keys_only=keys_only)
    same(scenario)


def test_range_sort_ties(same):
    """Rows with equal sort attributes have no defined order: compared as a set."""
    def scenario(s):
        rpc = s.api.rpc
        put = lambda key: rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=b"same"))
        s.txn(success=[put(b"x"), put(b"y"), put(b"z")])
        for order, target in itertools.product(range(3), range(1, 5)):
            s.call("KV.Range", **ALL, sort_order=order, sort_target=target, rows=lambda kv: kv["key"])
    same(scenario)


def test_range_unknown_sort_options(same):
    def scenario(s):
        fill(s)
        for order, target in ((3, 0), (-1, 0), (99, 4), (3, 1)):
            s.call("KV.Range", **ALL, sort_order=order, sort_target=target,
                   rows=lambda kv: kv["key"])
    same(scenario)


def test_range_filters(same):
    def scenario(s):
        base = fill(s)
        names = ("min_mod_revision", "max_mod_revision", "min_create_revision", "max_create_revision")
        points = [base + offset for offset in (1, 3, 4, 8, 15)] + [-1, base + 100]
        for name, point, limit in itertools.product(names, points, (0, 2)):
            s.call("KV.Range", **ALL, **{name: point}, limit=limit)
        for low, high in itertools.product(points, points):
            s.call("KV.Range", **ALL, min_mod_revision=low, max_mod_revision=high, keys_only=True)
            s.call("KV.Range", **ALL, min_create_revision=low, max_create_revision=high, limit=1,
                   sort_order=2)
        s.call("KV.Range", **ALL, min_mod_revision=points[1], count_only=True)
        s.call("KV.Range", key=b"a", max_mod_revision=1)
    same(scenario)


def test_range_bounds(same):
    def scenario(s):
        for key in (b"\0", b"\0\0", b"a", b"a\0", b"ab", b"b", b"b\xff", b"\xff", b"\xff\xff", b"\xffz"):
            s.call("KV.Put", key=key, value=key)
        keys = (b"\0", b"a", b"a\0", b"aa", b"b", b"\xff", b"\xff\xff\xff", b"nothing")
        ends = (b"", b"\0", b"\0\0", b"a", b"b", b"b\0", b"c", b"\xff", b"\xff\xff")
        for key, end in itertools.product(keys, ends):
            s.call("KV.Range", key=key, range_end=end)
            s.call("KV.Range", key=key, range_end=end, count_only=True, limit=1)
            s.call("KV.Range", key=key, range_end=end, limit=1, serializable=True)
        for end in ends:
            s.call("KV.Range", key=b"", range_end=end)
    same(scenario)


def test_range_revisions(same):
    def scenario(s):
        base = fill(s)
        for revision in (-5, -1, 0, *range(base, base + 20)):
            for options in ({}, {"count_only": True}, {"keys_only": True}, {"limit": 2},
                            {"serializable": True}, {"sort_order": 2, "sort_target": 1, "limit": 1}):
                s.call("KV.Range", **ALL, revision=revision, **options)
            s.call("KV.Range", key=b"gone", revision=revision)
            s.call("KV.Range", key=b"e", revision=revision)
    same(scenario)


def test_range_flag_combinations(same):
    def scenario(s):
        base = fill(s)
        for bits in itertools.product((False, True), repeat=3):
            flags = dict(zip(("serializable", "keys_only", "count_only"), bits))
            for limit, revision, order in itertools.product((0, 2, -7), (0, base + 9), (0, 1, 2)):
                s.call("KV.Range", **ALL, **flags, limit=limit, revision=revision, sort_order=order)
    same(scenario)


def test_keys_only_and_leases(same):
    """What a key's lease looks like in every form of an answer."""
    def scenario(s):
        s.call("Lease.LeaseGrant", TTL=600, ID=71)
        s.call("KV.Put", key=b"leased", value=b"v", lease=71)
        s.call("KV.Put", key=b"free", value=b"w")
        for target, order in itertools.product(range(5), range(3)):
            s.call("KV.Range", **ALL, keys_only=True, sort_target=target, sort_order=order)
            s.call("KV.Range", **ALL, sort_target=target, sort_order=order)
        s.call("Lease.LeaseRevoke", ID=71)
        s.call("KV.Range", **ALL)
    same(scenario)


def test_put(same):
    def scenario(s):
        s.call("Lease.LeaseGrant", TTL=600, ID=81)
        s.call("Lease.LeaseGrant", TTL=600, ID=82)
        for options in itertools.product((b"", b"1"), (0, 81, 82, 404), (False, True), (False, True),
                                         (False, True)):
            value, lease, prev, ignore_value, ignore_lease = options
            for key in (b"k", b"new-" + str(options).encode()):
                s.call("KV.Put", key=key, value=value, lease=lease, prev_kv=prev,
                       ignore_value=ignore_value, ignore_lease=ignore_lease)
                s.call("KV.Range", key=key)
        s.call("KV.Put", key=b"", value=b"x")
        s.call("KV.Put", key=b"", value=b"x", ignore_value=True)
        s.call("KV.Put", key=b"", lease=404, ignore_lease=True)
        s.call("KV.Put", key=b"k", value=b"x", lease=404, ignore_value=True, ignore_lease=True)
        s.call("KV.Put", key=b"k", lease=-1)
        s.call("KV.Put")
    same(scenario)


def test_put_sizes(same):
    """Around the two limits: what a request may weigh, and what a message may weigh."""
    def scenario(s):
        for size in (MIB, MIB * 3 // 2 - 1024, MIB * 3 // 2 + 1024, MIB * 2 - 1024):
            s.call("KV.Put", key=b"big", value=b"v" * size)
        s.call("KV.Put", key=b"big", value=b"v" * (MIB * 2 + 10))
        s.call("KV.Put", key=b"k" * (MIB * 3 // 2 + 1024))
        s.call("KV.Put", key=b"k" * 40000, value=b"long key", prev_kv=True)
        s.call("KV.Range", key=b"k" * 40000)
        s.call("KV.Range", key=b"k" * (MIB * 3 // 2 + 2048))
        s.call("KV.DeleteRange", key=b"k" * (MIB * 3 // 2 + 2048))
        rpc = s.api.rpc
        half = rpc.RequestOp(request_put=rpc.PutRequest(key=b"h1", value=b"v" * (MIB * 3 // 4)))
        other = rpc.RequestOp(request_put=rpc.PutRequest(key=b"h2", value=b"v" * (MIB * 3 // 4 + 2048)))
        s.txn(success=[half, other])
        s.txn(success=[half])
        s.call("KV.Range", **ALL, keys_only=True)
    same(scenario)


def test_delete_range(same):
    def scenario(s):
        keys = (b"a", b"aa", b"ab", b"b", b"c", b"\xff")
        for start, end, prev in itertools.product(
                (b"a", b"ab", b"zz", b"\0"), (b"", b"\0", b"a", b"b", b"c", b"\0\0"), (False, True)):
            for key in keys:
                s.call("KV.Put", key=key, value=b"v")
            s.call("KV.DeleteRange", key=start, range_end=end, prev_kv=prev)
            s.call("KV.Range", **ALL, keys_only=True)
        s.call("KV.DeleteRange", key=b"nothing")
        s.call("KV.DeleteRange", key=b"", range_end=b"\0")
        s.call("KV.DeleteRange")
        s.call("Lease.LeaseGrant", TTL=600, ID=91)
        s.call("KV.Put", key=b"l", lease=91)
        s.call("KV.DeleteRange", key=b"l", prev_kv=True)
        s.call("Lease.LeaseTimeToLive", ID=91, keys=True)
        s.call("KV.Put", key=b"l")
        s.call("KV.Range", key=b"l")
    same(scenario)


def test_compact(same):
    def scenario(s):
        base = fill(s)
        now = s.revision()
        s.call("KV.Compact", revision=-1)
        for revision in (base + 5, base + 5, base + 2, now + 1, now + 1000, base + 7):
            s.call("KV.Compact", revision=revision, physical=revision % 2 == 0)
            for read in range(base + 1, now + 2):
                s.call("KV.Range", **ALL, revision=read)
            s.call("KV.Range", key=b"a", revision=base + 1, serializable=True)
        s.call("KV.Compact", revision=0)
        s.call("KV.Compact", revision=0, physical=True)
        s.call("KV.Compact", revision=now, physical=True)
        s.call("KV.Compact", revision=now, physical=True)
        s.call("KV.Range", **ALL)
        s.call("KV.Range", **ALL, revision=now)
        s.call("KV.Put", key=b"after", value=b"v")
        s.call("KV.Range", **ALL, revision=now)
        s.call("Maintenance.HashKV", revision=0)
    same(scenario)
