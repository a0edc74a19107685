"""Watch streams: creation answers, ids, filters, previous values, order, fragments, ends."""

import itertools

ALL = {"key": b"\0", "range_end": b"\0"}


def story(s):
    """Puts, a delete and a transaction; returns the revision before it all."""
    rpc, base = s.api.rpc, s.revision()
    for value in (b"1", b"2"):
        s.call("KV.Put", key=b"a", value=value)
    s.call("KV.Put", key=b"b", value=b"3")
    s.call("KV.DeleteRange", key=b"a")
    s.txn(success=[rpc.RequestOp(request_put=rpc.PutRequest(key=b"a", value=b"4")),
                   rpc.RequestOp(request_put=rpc.PutRequest(key=b"c", value=b"5")),
                   rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=b"b"))])
    return base


def test_creation_answers(same):
    def scenario(s):
        s.call("KV.Put", key=b"a")
        w = s.watch()
        for options in ({"key": b"a"}, {"key": b"a", "range_end": b"c"}, {"key": b""}, ALL,
                        {"key": b"", "range_end": b"\0"}, {"key": b"b", "range_end": b"a"},
                        {"key": b"b", "range_end": b"b"}, {"key": b"a", "watch_id": 7},
                        {"key": b"a", "watch_id": 7}, {"key": b"a", "watch_id": 1},
                        {"key": b"a", "watch_id": -5}, {"key": b"a", "watch_id": -1},
                        {"key": b"a", "start_revision": s.revision() + 50},
                        {"key": b"a", "progress_notify": True}, {"key": b"a", "fragment": True},
                        {"key": b"a", "filters": [0, 1, 9]}, {"key": b"a"},
                        {"key": b"\xff", "range_end": b"\0"}):
            w.create(**options)
    same(scenario)


def test_negative_start(same):
    def scenario(s):
        w = s.watch()
        w.create(key=b"a", start_revision=-1)
        w.create(key=b"a", start_revision=-100)
    same(scenario)


def test_ids_chosen_and_given(same):
    def scenario(s):
        w = s.watch()
        for watch_id in (2, 0, 0, 0, 5, 0, 0):
            w.create(key=b"a", watch_id=watch_id)
        w.cancel(2)
        w.create(key=b"a", watch_id=2)
        w.cancel(1)
        w.create(key=b"a")
        s.call("KV.Put", key=b"a")
        for watch_id in (0, 2, 3, 5):
            w.take(watch_id, 1)
        w.take(1, 0)
    same(scenario)


def test_live_events(same):
    def scenario(s):
        w = s.watch()
        ids = [w.create(**options, prev_kv=prev, filters=filters)
               for options, prev, filters in itertools.product(
                   ({"key": b"a"}, {"key": b"b", "range_end": b"d"}, ALL), (False, True),
                   ([], [0], [1], [0, 1]))]
        story(s)
        for index, watch_id in enumerate(ids):
            place, kind = index // 8, index % 4
            total, deletes, puts = ((4, 1, 3), (3, 1, 2), (7, 2, 5))[place]
            w.take(watch_id, (total, deletes, puts, 0)[kind])
    same(scenario)


def test_history(same):
    """Every start revision, in the past and in the future, gives the same events."""
    def scenario(s):
        base = story(s)
        w = s.watch()
        for start in range(base + 1, base + 9):
            for prev in (False, True):
                w.create(**ALL, start_revision=start, prev_kv=prev)
        expected = [(7, 6, 5, 4, 3, 0, 0, 0)[n // 2] for n in range(16)]
        for watch_id, count in enumerate(expected):
            w.take(watch_id, count)
        for n in range(4):
            s.call("KV.Put", key=b"later", value=str(n).encode())
        for watch_id in range(16):
            start = base + 1 + watch_id // 2
            w.take(watch_id, len([r for r in range(base + 6, base + 10) if r >= start]))
    same(scenario)


def test_golden_watch(same):
    def scenario(s):
        base = s.revision()
        for value in (b"a", b"b"):
            s.call("KV.Put", key=b"k", value=value)
        s.call("KV.DeleteRange", key=b"k")
        s.call("KV.Put", key=b"k", value=b"c")
        w = s.watch()
        w.create(key=b"k", start_revision=base + 1, prev_kv=True)
        w.take(0, 4)
        w.create(key=b"k", start_revision=base + 1, filters=[1])
        w.take(1, 3)
        w.progress()
        w.silent()
    same(scenario)


def test_compacted_start(same):
    def scenario(s):
        base = story(s)
        s.call("KV.Compact", revision=base + 3, physical=True)
        w = s.watch()
        for start in (1, base + 1, base + 2):
            w.create(key=b"a", start_revision=start, expect=2)
        w.create(**ALL, start_revision=base + 3, prev_kv=True)
        w.take(3, 5)
        w.create(key=b"a", watch_id=1)  # still reserved
        w.cancel(1)
        w.create(key=b"a", watch_id=1)
        w.create(key=b"x", start_revision=base + 4, prev_kv=True)
        w.silent()
    same(scenario)


def test_delete_at_the_compacted_revision(same):
    def scenario(s):
        base = story(s)
        s.call("KV.Compact", revision=base + 4, physical=True)
        w = s.watch()
        w.create(key=b"a", start_revision=base + 4, prev_kv=True)
        w.take(0, 2, timeout=1)
    same(scenario)


def test_cancel(same):
    def scenario(s):
        w = s.watch()
        w.create(key=b"a")
        w.create(key=b"a")
        w.cancel(0)
        w.cancel(0, answered=False)
        w.cancel(99, answered=False)
        w.cancel(-1, answered=False)
        w.silent()
        s.call("KV.Put", key=b"a")
        w.take(1, 1)
        w.take(0, 0)
        w.cancel(1)
        w.create(key=b"a")
        w.silent()
    same(scenario)


def test_progress(same):
    def scenario(s):
        w = s.watch()
        w.progress(answered=False)
        w.silent("Watch.progress without watchers")
        w.create(key=b"a")
        w.progress()
        s.call("KV.Put", key=b"a")
        s.call("KV.Put", key=b"b")
        w.take(0, 1)
        w.progress()
        w.create(key=b"a", start_revision=s.revision() + 20)
        w.progress(answered=False)
        w.silent("Watch.progress before a future start")
    same(scenario)


def test_empty_requests_are_ignored(same):
    def scenario(s):
        w = s.watch()
        w.send()
        w.create(key=b"a")
        w.send()
        w.silent()
        s.call("KV.Put", key=b"a")
        w.take(0, 1)
    same(scenario)


def test_half_close_keeps_events_coming(same):
    def scenario(s):
        w = s.watch()
        w.create(key=b"a")
        w.half_close()
        s.call("KV.Put", key=b"a", value=b"1")
        w.take(0, 1)
        s.call("KV.Put", key=b"a", value=b"2")
        w.take(0, 1)
    same(scenario)


def test_deadline_and_cancellation(same):
    def scenario(s):
        w = s.watch(timeout=0.7)
        w.create(key=b"a")
        w.end()
        w = s.watch()
        w.create(key=b"a")
        w.call.cancel()
        w.end()
        s.call("KV.Put", key=b"a")
    same(scenario)


def test_fragments(same):
    """One revision that is too large for one answer: whole without the flag, in parts with it."""
    def scenario(s):
        for n in range(6):
            s.call("KV.Put", key=b"f%d" % n, value=b"x" * (900 * 1024))
        live, start = s.watch(), s.revision() + 1
        for fragment in (False, True):
            live.create(**ALL, fragment=fragment, prev_kv=True)
        s.call("KV.DeleteRange", **ALL)
        later = s.watch()
        for fragment in (False, True):
            later.create(**ALL, start_revision=start, fragment=fragment, prev_kv=True)
        for w in (live, later):
            for watch_id in (0, 1):
                parts = w.take(watch_id, 6, timeout=10)
                s.note("fragments", [(part.fragment, len(part.events)) for part in parts])
    same(scenario)


def test_large_history(same):
    """Many large revisions: how they are grouped is open, the sum is the same."""
    def scenario(s):
        base = s.revision()
        for n in range(6):
            s.call("KV.Put", key=b"f%d" % n, value=b"x" * (900 * 1024))
        w = s.watch()
        for fragment in (False, True):
            watch_id = w.create(**ALL, start_revision=base + 1, fragment=fragment)
            w.take(watch_id, 6, timeout=10)
    same(scenario)


def test_lease_revocation_events(same):
    def scenario(s):
        s.call("Lease.LeaseGrant", TTL=600, ID=33)
        w = s.watch()
        w.create(**ALL, prev_kv=True)
        for key in (b"z", b"a", b"m"):
            s.call("KV.Put", key=key, lease=33)
        s.call("Lease.LeaseRevoke", ID=33)
        w.take(0, 6)
    same(scenario)


def test_many_watchers_and_streams(same):
    def scenario(s):
        streams = [s.watch() for _ in range(5)]
        for number, w in enumerate(streams):
            for n in range(20):
                w.create(key=b"k%d" % n, range_end=b"k%d\0" % n if number % 2 else b"")
        for n in range(20):
            s.call("KV.Put", key=b"k%d" % n, value=b"v")
        for w in streams:
            for n in range(20):
                w.take(n, 1)
    same(scenario)


def test_without_leader_demand(same):
    def scenario(s):
        w = s.watch(metadata=(("hasleader", "true"),))
        w.create(key=b"a")
        s.call("KV.Put", key=b"a")
        w.take(0, 1)
    same(scenario)
