"""The gRPC surface as a client in another language sees it: a fresh single member, exact answers."""

import queue
import socket
import struct
import threading
import time
import urllib.error
import urllib.request

import grpc
import pytest
from harness import Cluster


@pytest.fixture(scope="module")
def single():
    with Cluster(("apus",)) as cluster:
        yield cluster


@pytest.fixture(scope="module")
def channel(single):
    with grpc.insecure_channel(single.endpoints[0]) as channel:
        yield channel


def failure(call, *arguments, **options):
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **options)
    return caught.value.code(), caught.value.details()


class WatchStream:
    """A watch stream whose requests are sent one by one."""

    def __init__(self, api, channel, metadata=()):
        self.api, self.requests = api, queue.Queue()
        self.call = api.grpc.WatchStub(channel).Watch(iter(self.requests.get, None), metadata=metadata)
        self.answers = queue.Queue()
        threading.Thread(target=self._receive, daemon=True).start()

    def _receive(self):
        try:
            for answer in self.call:
                self.answers.put(answer)
        except grpc.RpcError as error:
            self.answers.put(error)

    def create(self, **options):
        self.requests.put(self.api.rpc.WatchRequest(create_request=self.api.rpc.WatchCreateRequest(**options)))

    def cancel(self, watch_id):
        self.requests.put(self.api.rpc.WatchRequest(cancel_request=self.api.rpc.WatchCancelRequest(watch_id=watch_id)))

    def progress(self):
        self.requests.put(self.api.rpc.WatchRequest(progress_request=self.api.rpc.WatchProgressRequest()))

    def next(self, timeout=5):
        return self.answers.get(timeout=timeout)

    def silent(self, seconds=0.3):
        time.sleep(seconds)
        return self.answers.empty()

    def close(self):
        self.call.cancel()


def events(answer):
    return [(event.type, event.kv.key, event.kv.mod_revision) for event in answer.events]


def test_golden_traces(api, single, channel):
    """One story over a fresh store: revisions, versions, transactions, compaction, watches, leases."""
    rpc, kv = api.rpc, api.grpc.KVStub(channel)
    lease = api.grpc.LeaseStub(channel)

    def put(key, value=b"", **options):
        return kv.Put(rpc.PutRequest(key=key, value=value, **options))

    def read(key, **options):
        return kv.Range(rpc.RangeRequest(key=key, **options))

    def brief(one):
        return one.create_revision, one.mod_revision, one.version

    def op(**options):
        return rpc.RequestOp(**options)

    empty = read(b"k")
    assert (empty.header.revision, empty.count, list(empty.kvs)) == (1, 0, [])
    assert empty.header.cluster_id and empty.header.member_id and empty.header.raft_term >= 2
    first = put(b"k", b"a")
    assert first.header.revision == 2 and not first.HasField("prev_kv")
    second = put(b"k", b"b", prev_kv=True)
    assert second.header.revision == 3
    assert second.prev_kv.value == b"a" and brief(second.prev_kv) == (2, 2, 1)
    assert brief(read(b"k").kvs[0]) == (2, 3, 2)

    txn = kv.Txn(rpc.TxnRequest(success=[
        op(request_put=rpc.PutRequest(key=b"x", value=b"1")), op(request_put=rpc.PutRequest(key=b"y", value=b"2")),
        op(request_range=rpc.RangeRequest(key=b"x", range_end=b"z")),
        op(request_delete_range=rpc.DeleteRangeRequest(key=b"nope"))]))
    assert txn.succeeded and txn.header.revision == 4
    inner = txn.responses
    assert [inner[0].response_put.header.revision, inner[1].response_put.header.revision] == [4, 4]
    assert [brief(each) for each in inner[2].response_range.kvs] == [(4, 4, 1), (4, 4, 1)]
    assert inner[2].response_range.header.revision == 4 and inner[2].response_range.header.cluster_id == 0
    assert inner[3].response_delete_range.deleted == 0 and inner[3].response_delete_range.header.revision == 4

    absent = rpc.Compare(result=rpc.Compare.NOT_EQUAL, target=rpc.Compare.VALUE, key=b"nope", value=b"q")
    refused = kv.Txn(rpc.TxnRequest(compare=[absent], success=[op(request_put=rpc.PutRequest(key=b"a"))]))
    assert not refused.succeeded and refused.header.revision == 4
    assert kv.Txn(rpc.TxnRequest()).header.revision == 4
    deleted = kv.DeleteRange(rpc.DeleteRangeRequest(key=b"k"))
    assert (deleted.deleted, deleted.header.revision) == (1, 5)
    again = kv.DeleteRange(rpc.DeleteRangeRequest(key=b"k"))
    assert (again.deleted, again.header.revision) == (0, 5)
    put(b"k", b"c")
    assert brief(read(b"k").kvs[0]) == (6, 6, 1)
    old = read(b"k", revision=3)
    assert old.kvs[0].value == b"b" and old.header.revision == 6
    assert read(b"k", revision=5).count == 0
    assert failure(read, b"k", revision=7) == (
        grpc.StatusCode.OUT_OF_RANGE, "etcdserver: mvcc: required revision is a future revision")

    watch = WatchStream(api, channel)
    watch.create(key=b"k", start_revision=2)
    created = watch.next()
    assert created.created and created.watch_id == 0 and created.header.revision == 6
    seen = watch.next()
    assert events(seen) == [(0, b"k", 2), (0, b"k", 3), (1, b"k", 5), (0, b"k", 6)] and seen.header.revision == 6
    watch.create(key=b"k", start_revision=2, filters=[rpc.WatchCreateRequest.NODELETE])
    assert watch.next().watch_id == 1
    assert events(watch.next()) == [(0, b"k", 2), (0, b"k", 3), (0, b"k", 6)]

    everything = dict(range_end=b"\0")
    limited = read(b"\0", limit=1, **everything)
    assert [each.key for each in limited.kvs] == [b"k"] and limited.more and limited.count == 3
    filtered = read(b"\0", limit=1, min_mod_revision=5, **everything)
    assert [each.key for each in filtered.kvs] == [b"k"] and not filtered.more and filtered.count == 3
    last = read(b"\0", limit=1, sort_order=rpc.RangeRequest.DESCEND, **everything)
    assert [each.key for each in last.kvs] == [b"y"] and last.more

    compact = lambda revision, **options: kv.Compact(rpc.CompactionRequest(revision=revision, **options))
    assert compact(5).header.revision == 6
    assert failure(compact, 5) == (grpc.StatusCode.OUT_OF_RANGE, "etcdserver: mvcc: required revision has been compacted")
    assert failure(compact, 7)[1] == "etcdserver: mvcc: required revision is a future revision"
    assert failure(read, b"k", revision=4)[1] == "etcdserver: mvcc: required revision has been compacted"
    assert read(b"k", revision=5).count == 0 and read(b"x", revision=5).count == 1
    watch.create(key=b"k", start_revision=5)
    assert watch.next().watch_id == 2
    assert events(watch.next()) == [(1, b"k", 5), (0, b"k", 6)]
    watch.create(key=b"k", start_revision=4)
    assert watch.next().created
    cancelled = watch.next()
    assert cancelled.canceled and cancelled.compact_revision == 5 and cancelled.header.revision == 0
    watch.close()

    granted = lease.LeaseGrant(rpc.LeaseGrantRequest(TTL=1))
    assert granted.TTL == 2 and granted.header.revision == 6
    assert put(b"p", lease=granted.ID).header.revision == 7
    assert put(b"q", lease=granted.ID).header.revision == 8
    assert put(b"p").header.revision == 9
    assert lease.LeaseRevoke(rpc.LeaseRevokeRequest(ID=granted.ID)).header.revision == 10
    assert read(b"q").count == 0 and read(b"p").count == 1
    assert lease.LeaseTimeToLive(rpc.LeaseTimeToLiveRequest(ID=granted.ID)).TTL == -1
    assert next(lease.LeaseKeepAlive(iter([rpc.LeaseKeepAliveRequest(ID=granted.ID)]))).TTL == 0
    assert failure(lease.LeaseRevoke, rpc.LeaseRevokeRequest(ID=granted.ID)) == (
        grpc.StatusCode.NOT_FOUND, "etcdserver: requested lease not found")

    guard = rpc.Compare(result=rpc.Compare.EQUAL, target=rpc.Compare.VERSION, key=b"s", version=0)
    nested = rpc.TxnRequest(compare=[guard], success=[op(request_put=rpc.PutRequest(key=b"t"))],
                            failure=[op(request_put=rpc.PutRequest(key=b"u"))])
    outer = kv.Txn(rpc.TxnRequest(success=[op(request_put=rpc.PutRequest(key=b"s")), op(request_txn=nested)]))
    assert outer.header.revision == 11 and outer.responses[1].response_txn.succeeded
    assert outer.responses[1].response_txn.HasField("header")
    assert outer.responses[1].response_txn.header == rpc.ResponseHeader()
    assert brief(read(b"s").kvs[0]) == brief(read(b"t").kvs[0]) == (11, 11, 1)

    twice = [op(request_put=rpc.PutRequest(key=b"s"))] * 2
    assert failure(kv.Txn, rpc.TxnRequest(success=twice)) == (
        grpc.StatusCode.INVALID_ARGUMENT, "etcdserver: duplicate key given in txn request")
    assert failure(read, b"") == (grpc.StatusCode.INVALID_ARGUMENT, "etcdserver: key is not provided")
    assert failure(put, b"absent", ignore_value=True)[1] == "etcdserver: key not found"
    assert failure(put, b"absent", b"v", ignore_value=True)[1] == "etcdserver: value is provided"
    many = [op(request_range=rpc.RangeRequest(key=b"%d" % n)) for n in range(129)]
    assert failure(kv.Txn, rpc.TxnRequest(success=many))[1] == "etcdserver: too many operations in txn request"
    assert failure(put, b"k", lease=404) == (grpc.StatusCode.NOT_FOUND, "etcdserver: requested lease not found")


def test_flags_of_a_put(api, single, channel):
    """Each alone and together: optimised builds once took the last of them for false, which no unit test shows."""
    kv, lease = api.grpc.KVStub(channel), api.grpc.LeaseStub(channel)
    granted = lease.LeaseGrant(api.rpc.LeaseGrantRequest(TTL=1000)).ID

    def put(key, **fields):
        return kv.Put(api.rpc.PutRequest(key=key, **fields))

    for fields in ({"ignore_value": True}, {"ignore_lease": True}, {"ignore_value": True, "ignore_lease": True}):
        assert failure(put, b"flags/absent", **fields)[1] == "etcdserver: key not found", fields
    key = b"flags/k"
    put(key, value=b"1", lease=granted)
    assert put(key, value=b"2", ignore_lease=True, prev_kv=True).prev_kv.value == b"1"
    stored = kv.Range(api.rpc.RangeRequest(key=key)).kvs[0]
    assert (stored.value, stored.lease) == (b"2", granted)
    put(key, ignore_value=True)
    stored = kv.Range(api.rpc.RangeRequest(key=key)).kvs[0]
    assert (stored.value, stored.lease, stored.version) == (b"2", 0, 3)
    lease.LeaseRevoke(api.rpc.LeaseRevokeRequest(ID=granted))
    assert kv.Range(api.rpc.RangeRequest(key=key)).count == 1


def test_watch_stream_rules(api, single, channel):
    kv = api.grpc.KVStub(channel)
    watch = WatchStream(api, channel)
    watch.progress()
    assert watch.silent(), "no watcher, no progress"
    watch.create(key=b"w/", range_end=b"w0", prev_kv=True)
    created = watch.next()
    assert (created.created, created.watch_id) == (True, 0)
    watch.create(key=b"w/", watch_id=7)
    assert watch.next().watch_id == 7
    watch.create(key=b"w/", watch_id=7)
    refused = watch.next()
    assert refused.created and refused.canceled and refused.watch_id == -1
    assert refused.cancel_reason == "mvcc: duplicate watch ID provided on the WatchStream"
    watch.create(key=b"b", range_end=b"a")
    assert watch.next().cancel_reason == "mvcc: watcher range is empty"
    watch.create(key=b"b", start_revision=-1)
    assert watch.next().cancel_reason == "etcdserver: mvcc: required revision has been compacted"

    first = kv.Put(api.rpc.PutRequest(key=b"w/1", value=b"1")).header.revision
    seen = watch.next()
    assert events(seen) == [(0, b"w/1", first)] and seen.header.revision == first
    assert not seen.events[0].HasField("prev_kv")
    kv.DeleteRange(api.rpc.DeleteRangeRequest(key=b"w/1"))
    gone = watch.next()
    assert gone.events[0].type == 1 and gone.events[0].prev_kv.value == b"1"
    assert gone.events[0].kv == api.kv.KeyValue(key=b"w/1", mod_revision=first + 1)
    watch.progress()
    progress = watch.next()
    assert progress.watch_id == -1 and not progress.events and progress.header.revision == first + 1
    watch.create(key=b"w/", range_end=b"w0", start_revision=first + 3)
    future = watch.next().watch_id
    watch.cancel(99)
    assert watch.silent(), "an unknown id is not answered"
    watch.cancel(0)
    ended = watch.next()
    assert ended.canceled and ended.watch_id == 0 and not ended.created
    kv.Put(api.rpc.PutRequest(key=b"w/2"))
    assert watch.silent(), "the only watcher left starts in the future"
    kv.Put(api.rpc.PutRequest(key=b"w/3"))
    assert (lambda answer: (answer.watch_id, events(answer)))(watch.next()) == (future, [(0, b"w/3", first + 3)])
    # Half-closing does not end the stream.
    watch.requests.put(None)
    time.sleep(0.2)
    kv.Put(api.rpc.PutRequest(key=b"w/4"))
    assert events(watch.next()) == [(0, b"w/4", first + 4)]
    watch.close()


def test_a_revision_is_never_split_and_order_is_kept(api, single, channel):
    kv, rpc = api.grpc.KVStub(channel), api.rpc
    watch = WatchStream(api, channel)
    watch.create(key=b"many/", range_end=b"many0")
    watch.next()
    for batch in range(30):
        kv.Txn(rpc.TxnRequest(success=[
            rpc.RequestOp(request_put=rpc.PutRequest(key=b"many/%d" % n, value=b"%d" % batch)) for n in range(20)]))
    seen = []
    while len(seen) < 600:
        answer = watch.next()
        for revision in {event.kv.mod_revision for event in answer.events}:
            assert sum(event.kv.mod_revision == revision for event in answer.events) == 20
        seen += events(answer)
    assert [revision for _, _, revision in seen] == sorted(revision for _, _, revision in seen)
    watch.close()


def test_fragments(api, single, channel):
    kv, rpc = api.grpc.KVStub(channel), api.rpc
    start = None
    for number in range(5):
        revision = kv.Put(rpc.PutRequest(key=b"frag/%d" % number, value=b"x" * 1_000_000)).header.revision
        start = start or revision
    with grpc.insecure_channel(single.endpoints[0], options=[("grpc.max_receive_message_length", -1)]) as large:
        watch = WatchStream(api, large)
        watch.create(key=b"frag/", range_end=b"frag0", start_revision=start, fragment=True)
        assert watch.next().created
        parts = []
        while sum(len(part.events) for part in parts) < 5:
            parts.append(watch.next())
        assert [key for part in parts for _, key, _ in events(part)] == [b"frag/%d" % n for n in range(5)]
        assert all(part.ByteSize() < 2.1 * 2**20 for part in parts)
        watch.close()


def test_a_long_range_in_a_transaction_that_writes(api):
    """It is read after the transaction was applied, and shows what it would have shown in it; on a member that did not
    take the call nothing of it is read, and all hold the same."""
    with Cluster() as cluster, grpc.insecure_channel(cluster.followers()[0].endpoint) as channel:
        rpc, kv = api.rpc, api.grpc.KVStub(channel)
        for first in range(0, 3000, 100):
            kv.Txn(rpc.TxnRequest(success=[rpc.RequestOp(request_put=rpc.PutRequest(key=b"t/%05d" % n, value=b"v"))
                                           for n in range(first, first + 100)]), timeout=10)
        everything = rpc.RequestOp(request_range=rpc.RangeRequest(key=b"t/", range_end=b"t0"))
        delete = rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=b"t/00000"))
        txns = [kv.Txn.future(rpc.TxnRequest(success=[everything, delete, everything]), timeout=20)]
        # Others write to the same keys, and compact what they see.
        for n in range(50):
            revision = kv.Put(rpc.PutRequest(key=b"t/%05d" % (n * 7 + 1), value=b"late"), timeout=10).header.revision
        kv.Compact(rpc.CompactionRequest(revision=revision), timeout=10)
        answer = txns[0].result()
        before, deleted, after = (getattr(each, each.WhichOneof("response")) for each in answer.responses)
        assert (before.count, len(before.kvs), deleted.deleted, after.count, len(after.kvs)) == (3000, 3000, 1, 2999, 2999)
        assert before.kvs[1:] == after.kvs
        assert all(each.mod_revision < answer.header.revision for each in after.kvs)
        assert (before.header.revision, after.header.revision) == (answer.header.revision - 1, answer.header.revision)
        revision = kv.Put(rpc.PutRequest(key=b"last"), timeout=10).header.revision
        hashes = set()
        for member in cluster.members:
            with grpc.insecure_channel(member.endpoint) as other:
                # A follower may be a moment behind.
                api.grpc.KVStub(other).Range(rpc.RangeRequest(key=b"last"), timeout=5)
                hashes.add(api.grpc.MaintenanceStub(other).HashKV(rpc.HashKVRequest(revision=revision), timeout=5).hash)
        assert len(hashes) == 1


def test_transport_rules(api, single, channel):
    kv, rpc = api.grpc.KVStub(channel), api.rpc
    unknown = channel.unary_unary("/etcdserverpb.KV/Nope")
    assert failure(unknown, b"") == (grpc.StatusCode.UNIMPLEMENTED, "unknown method Nope for service etcdserverpb.KV")
    assert failure(channel.unary_unary("/no.Service/M"), b"") == (
        grpc.StatusCode.UNIMPLEMENTED, "unknown service no.Service")
    garbage = channel.unary_unary("/etcdserverpb.KV/Range")
    code, text = failure(garbage, b"\xff\xff\xff")
    assert code == grpc.StatusCode.INTERNAL and text.startswith("grpc: error unmarshalling request: ")
    value = b"x" * 1_600_000
    assert failure(kv.Put, rpc.PutRequest(key=b"big", value=value)) == (
        grpc.StatusCode.INVALID_ARGUMENT, "etcdserver: request is too large")
    code, text = failure(kv.Put, rpc.PutRequest(key=b"big", value=b"x" * 2_200_000))
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert text.startswith("grpc: received message larger than max (") and text.endswith(" vs. 2097152)")
    assert kv.Put(rpc.PutRequest(key=b"big", value=b"x" * 1_500_000)).header.revision
    assert len(kv.Range(rpc.RangeRequest(key=b"big")).kvs[0].value) == 1_500_000
    compressed = kv.Range(rpc.RangeRequest(key=b"big"), compression=grpc.Compression.Gzip)
    assert len(compressed.kvs[0].value) == 1_500_000
    code, text = failure(kv.Range, rpc.RangeRequest(key=b"big"), compression=grpc.Compression.Deflate)
    assert code == grpc.StatusCode.UNIMPLEMENTED
    assert text == 'grpc: Decompressor is not installed for grpc-encoding "deflate"'
    called = time.monotonic()
    with pytest.raises(grpc.RpcError) as caught:
        for _ in api.grpc.WatchStub(channel).Watch(iter([]), timeout=0.5):
            pass
    assert caught.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED and time.monotonic() - called < 2


def test_health_service_and_pages(api, single, channel):
    health = api.health_grpc.HealthStub(channel)
    assert health.Check(api.health.HealthCheckRequest()).status == 1
    assert failure(health.Check, api.health.HealthCheckRequest(service="x")) == (
        grpc.StatusCode.NOT_FOUND, "unknown service")
    assert next(health.Watch(api.health.HealthCheckRequest())).status == 1

    def page(path, method="GET"):
        request = urllib.request.Request(f"http://{single.endpoints[0]}{path}", method=method)
        try:
            with urllib.request.urlopen(request, timeout=5) as answer:
                return answer.status, answer.read().decode()
        except urllib.error.HTTPError as error:
            return error.code, error.read().decode()

    assert page("/health") == (200, '{"health":"true","reason":""}')
    status, version = page("/version")
    assert status == 200 and version.startswith('{"etcdserver":"3.7.1","etcdcluster":"3.7.0"')
    status, metrics = page("/metrics")
    assert status == 200 and "etcd_server_has_leader 1" in metrics
    assert page("/nope") == (404, "404 page not found\n")
    assert page("/health", "POST")[0] == 405


def test_garbage_on_the_wire_hurts_nobody(api, single, channel):
    host, port = single.endpoints[0].split(":")
    payloads = [b"\0" * 1000, b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\xff" * 5000, b"GET / HTTP/1.1\r\n" + b"a" * 200_000,
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + struct.pack(">I", 0x00000404) + b"\0" * 9, b"\x16\x03\x01" * 50]
    for payload in payloads:
        with socket.create_connection((host, int(port)), timeout=3) as raw:
            try:
                raw.sendall(payload)
                raw.settimeout(0.3)
                raw.recv(100)
            except OSError:
                pass
    assert api.grpc.KVStub(channel).Range(api.rpc.RangeRequest(key=b"k")).header.revision
    assert single.members[0].process.poll() is None


def test_maintenance(api, single, channel):
    maintenance, rpc = api.grpc.MaintenanceStub(channel), api.rpc
    status = maintenance.Status(rpc.StatusRequest())
    assert status.version == "3.7.1" and status.leader == status.header.member_id
    assert status.dbSize >= status.dbSizeInUse > 0 and status.raftAppliedIndex <= status.raftIndex
    assert status.dbSizeQuota == 2147483648
    assert not list(maintenance.Alarm(rpc.AlarmRequest()).alarms)
    assert not maintenance.Defragment(rpc.DefragmentRequest()).HasField("header")
    assert maintenance.Hash(rpc.HashRequest()).hash
    parts = list(maintenance.Snapshot(rpc.SnapshotRequest()))
    blob = b"".join(part.blob for part in parts)
    assert len(blob) % 512 == 32 and parts[-1].remaining_bytes == 0 and len(parts[-1].blob) == 32
    assert all(len(part.blob) <= 32 * 1024 for part in parts)
    assert failure(maintenance.MoveLeader, rpc.MoveLeaderRequest(targetID=5)) == (
        grpc.StatusCode.FAILED_PRECONDITION, "etcdserver: bad leader transferee")
