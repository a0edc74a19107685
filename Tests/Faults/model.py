"""The store as it should be: every key's past, and what a request does and answers at a given revision."""

import bisect

import protos

PUT, DELETE = 0, 1


class Past:
    """Each key's values by revision. `at` finds what a revision shows."""

    def __init__(self):
        self.revisions, self.values = {}, {}
        self.keys = []

    def append(self, revision, key, kv):
        """`kv` is None for a delete. Revisions must not go down per key."""
        if key not in self.values:
            self.revisions[key], self.values[key] = [], []
            bisect.insort(self.keys, key)
        self.revisions[key].append(revision)
        self.values[key].append(kv)

    def at(self, key, revision):
        revisions = self.revisions.get(key)
        if not revisions:
            return None
        index = bisect.bisect_right(revisions, revision)
        return self.values[key][index - 1] if index else None

    def select(self, key, end):
        if not end:
            return [key] if key in self.values else []
        low = bisect.bisect_left(self.keys, key)
        high = len(self.keys) if end == b"\0" else bisect.bisect_left(self.keys, end)
        return self.keys[low:high]


def contains(key, end, wanted):
    """Whether a request's range holds the key."""
    if not end:
        return wanted == key
    return key <= wanted and (end == b"\0" or wanted < end)


class View:
    """The state that one request sees: a revision of the past, and its own changes on top."""

    def __init__(self, past, revision):
        self.past, self.revision = past, revision
        self.changed = {}
        self.effects = []  # (type, key, new kv or None, old kv or None), in order

    def get(self, key):
        return self.changed[key] if key in self.changed else self.past.at(key, self.revision)

    def rows(self, key, end, revision=0):
        if revision:
            found = (self.past.at(each, revision) for each in self.past.select(key, end))
        else:
            keys = self.past.select(key, end)
            own = [each for each in self.changed if each not in self.past.values and contains(key, end, each)]
            found = (self.get(each) for each in (sorted([*keys, *own]) if own else keys))
        return [kv for kv in found if kv is not None]

    def evaluate(self, kind, request):
        """The expected response, headers left out. Changes gather in `effects`."""
        return getattr(self, "_" + kind)(request)

    def _range(self, request):
        rpc = protos.load().rpc
        rows = self.rows(request.key, request.range_end, max(request.revision, 0))
        response = rpc.RangeResponse(count=len(rows))
        if request.count_only:
            return response
        if request.min_mod_revision:
            rows = [kv for kv in rows if kv.mod_revision >= request.min_mod_revision]
        if request.max_mod_revision:
            rows = [kv for kv in rows if kv.mod_revision <= request.max_mod_revision]
        if request.sort_order == rpc.RangeRequest.DESCEND:  # by key is the only target in use
            rows = rows[::-1]
        if 0 < request.limit < len(rows):
            rows, response.more = rows[:request.limit], True
        response.kvs.extend(rows)
        if request.keys_only:
            for kv in response.kvs:
                kv.ClearField("value")
        return response

    def _put(self, request):
        api = protos.load()
        old = self.get(request.key)
        new = api.kv.KeyValue(
            key=request.key, value=old.value if request.ignore_value and old else request.value,
            lease=old.lease if request.ignore_lease and old else request.lease,
            create_revision=old.create_revision if old else self.revision + 1,
            mod_revision=self.revision + 1, version=old.version + 1 if old else 1)
        self.changed[request.key] = new
        self.effects.append((PUT, request.key, new, old))
        return api.rpc.PutResponse(prev_kv=old if request.prev_kv else None)

    def _delete(self, request):
        rows = self.rows(request.key, request.range_end)
        for kv in rows:
            self.changed[kv.key] = None
            self.effects.append((DELETE, kv.key, None, kv))
        return protos.load().rpc.DeleteRangeResponse(
            deleted=len(rows), prev_kvs=rows if request.prev_kv else [])

    def _txn(self, request):
        rpc = protos.load().rpc
        response = rpc.TxnResponse(succeeded=all(map(self.holds, request.compare)))
        for op in request.success if response.succeeded else request.failure:
            match op.WhichOneof("request"):
                case "request_range":
                    response.responses.add().response_range.CopyFrom(self._range(op.request_range))
                case "request_put":
                    response.responses.add().response_put.CopyFrom(self._put(op.request_put))
                case "request_delete_range":
                    answer = self._delete(op.request_delete_range)
                    response.responses.add().response_delete_range.CopyFrom(answer)
                case "request_txn":
                    response.responses.add().response_txn.CopyFrom(self._txn(op.request_txn))
        return response

    def _revoke(self, request):
        for key in self.past.keys:
            old = self.get(key)
            if old is not None and old.lease == request.ID:
                self.changed[key] = None
                self.effects.append((DELETE, key, None, old))
        return protos.load().rpc.LeaseRevokeResponse()

    def holds(self, compare):
        """Whether one guard is true here."""
        api = protos.load()
        rows = self.rows(compare.key, compare.range_end)
        if not rows:
            if compare.target == api.rpc.Compare.VALUE:
                return False
            rows = [api.kv.KeyValue()]
        return all(self.row_holds(compare, row) for row in rows)

    @staticmethod
    def row_holds(compare, row):
        field = ("version", "create_revision", "mod_revision", "value", "lease")[compare.target]
        ours, wanted = getattr(row, field), getattr(compare, field)
        return (ours == wanted, ours > wanted, ours < wanted, ours != wanted)[compare.result]


def without_headers(kind, response):
    """A copy that can be compared with what `evaluate` gives."""
    copy = type(response)()
    copy.CopyFrom(response)
    copy.ClearField("header")
    if kind == "txn":
        for each in copy.responses:
            name = each.WhichOneof("response")
            inner = getattr(each, name)
            if name == "response_txn":
                inner.CopyFrom(without_headers("txn", inner))
            else:
                inner.ClearField("header")
    return copy


def puts_of(kind, request):
    """Every put that a request could make, whichever branch it takes."""
    if kind == "put":
        yield request
    elif kind == "txn":
        for op in [*request.success, *request.failure]:
            name = op.WhichOneof("request")
            if name == "request_put":
                yield op.request_put
            elif name == "request_txn":
                yield from puts_of("txn", op.request_txn)


def did_change(kind, response):
    """Whether an answer says that the request changed the store. Revokes do not say."""
    if kind == "put":
        return True
    if kind == "delete":
        return response.deleted > 0
    if kind == "txn":
        return any(did_change({"response_put": "put", "response_delete_range": "delete",
                               "response_txn": "txn"}.get(name, ""), getattr(each, name))
                   for each in response.responses for name in [each.WhichOneof("response")])
    return False
