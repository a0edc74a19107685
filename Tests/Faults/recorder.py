"""Clients that write down every call they make, and watchers that write down all they are shown."""

import itertools
import queue
import random
import threading
import time

import grpc
import protos

from .history import DEFINITE, OK, REFUSED, UNKNOWN, Op, Watch

CHANNEL_OPTIONS = [("grpc.initial_reconnect_backoff_ms", 50), ("grpc.min_reconnect_backoff_ms", 50),
                   ("grpc.max_reconnect_backoff_ms", 300), ("grpc.use_local_subchannel_pool", 1),
                   ("grpc.enable_retries", 0), ("grpc.max_receive_message_length", -1)]
HOT = [b"k/%d" % number for number in range(12)]
LEASED = [b"l/%d" % number for number in range(12)]


def connect(endpoint, guard=None, user="root"):
    channel = grpc.insecure_channel(endpoint, options=CHANNEL_OPTIONS)
    return guard.channel(channel, endpoint, user) if guard else channel


class Recorder:
    """Shared by all clients of one run: the history, the numbering, and what is known of the revision."""

    def __init__(self, history, members):
        self.history, self.members = history, members
        self.api = protos.load()
        self.op_ids, self.client_ids = itertools.count(1), itertools.count(1)
        self.watch_ids = itertools.count(1)
        self.halt = threading.Event()  # no new operations
        self.revision = 1  # the highest seen; a hint for choosing requests, not a fact
        self.compacted = 0
        self.acknowledged = []  # times of acknowledged writes

    def call(self, client, member, stubs_, kind, request, timeout, user=""):
        """Makes one call and records it. Returns the Op."""
        rpc = {"put": "Put", "delete": "DeleteRange", "txn": "Txn", "range": "Range", "compact": "Compact",
               "grant": "LeaseGrant", "revoke": "LeaseRevoke", "status": "Status", "hash": "HashKV"}
        op = Op(next(self.op_ids), client, member.name, member.incarnation, kind, request, time.monotonic_ns(),
                user=user)
        try:
            if kind == "keepalive":
                op.response = next(iter(stubs_.lease.LeaseKeepAlive(iter([request]), timeout=timeout)))
            else:
                stub = {"grant": stubs_.lease, "revoke": stubs_.lease, "status": stubs_.maintenance,
                        "hash": stubs_.maintenance}.get(kind, stubs_.kv)
                op.response = getattr(stub, rpc[kind])(request, timeout=timeout)
            op.outcome = OK
        except grpc.RpcError as error:
            op.code = error.code().name
            op.outcome = REFUSED if op.code in DEFINITE else UNKNOWN
            op.response = error.details()
            if member.cluster.guard:
                member.cluster.guard.heard(member.endpoint, user or "root", op.response)
        except StopIteration:
            op.code = "ENDED"
        if op.outcome != UNKNOWN:
            op.returned = time.monotonic_ns()
        if op.outcome == OK:
            self.revision = max(self.revision, op.response.header.revision)
            if kind in ("put", "txn", "delete"):
                self.acknowledged.append(op.returned)
        else:
            op.response, op.code = None, f"{op.code}" if op.outcome == REFUSED else f"{op.code}: {op.response}"
        if member.incarnation != op.incarnation:
            op.incarnation = None
        with self.history.lock:
            self.history.ops.append(op)
        return op


class Stubs:
    def __init__(self, api, endpoint, guard=None, user="root"):
        self.channel = connect(endpoint, guard, user)
        self.kv = api.grpc.KVStub(self.channel)
        self.lease = api.grpc.LeaseStub(self.channel)
        self.maintenance = api.grpc.MaintenanceStub(self.channel)
        self.watch = api.grpc.WatchStub(self.channel)
        self.cluster = api.grpc.ClusterStub(self.channel)


class StubsByMember(dict):
    """Connections to members, made when they are needed: members come and go."""

    def __init__(self, recorder, user="root"):
        self.recorder, self.user = recorder, user

    def __missing__(self, member):
        self[member] = made = Stubs(self.recorder.api, member.endpoint, member.cluster.guard, self.user)
        return made


class Worker(threading.Thread):
    """One logical client at a time: one call outstanding, a new identity after each unknown outcome."""

    user = ""  # whose rights are limited

    def __init__(self, recorder, seed, pace=0.01, leases=True, timeout=2.0):
        super().__init__(daemon=True)
        self.recorder, self.random, self.pace, self.timeout = recorder, random.Random(seed), pace, timeout
        self.rpc = recorder.api.rpc
        self.stubs = StubsByMember(recorder)
        self.client, self.sequence = next(recorder.client_ids), 0
        self.leases, self.with_leases = [], leases
        self.known = {}  # key -> the mod revision last seen, for compares

    def run(self):
        member = self.random.choice([*self.recorder.members])
        while not self.recorder.halt.is_set():
            if self.random.random() < 0.05:
                member = self.random.choice([*self.recorder.members])
            kind, request = self.choose()
            op = self.recorder.call(self.client, member, self.stubs[member], kind, request, self.timeout, self.user)
            self.learn(op)
            if op.outcome == UNKNOWN:
                self.client = next(self.recorder.client_ids)
                member = self.random.choice([*self.recorder.members])
                time.sleep(0.02)
            if self.pace:
                time.sleep(self.random.expovariate(1 / self.pace))
        for each in self.stubs.values():
            each.channel.close()

    def learn(self, op):
        if op.outcome != OK:
            if op.kind == "keepalive" or (op.outcome == REFUSED and op.kind == "put" and op.request.lease):
                self.leases = self.leases[-1:]
            return
        if op.kind == "range":
            for kv in op.response.kvs:
                self.known[kv.key] = kv.mod_revision
        elif op.kind == "put":
            self.known[op.request.key] = op.response.header.revision
        elif op.kind == "grant":
            self.leases.append(op.response.ID)
        elif op.kind == "keepalive" and op.response.TTL == 0 and op.request.ID in self.leases:
            self.leases.remove(op.request.ID)

    def value(self):
        self.sequence += 1
        return b"%d:%d" % (self.client, self.sequence)

    def key(self):
        return self.random.choice(HOT)

    def choose(self):
        names = ["put", "put_prev", "delete", "delete_range", "swap", "multi", "txn_delete", "get", "list",
                 "serializable", "old", "lease"]
        weights = [26, 5, 6, 1, 12, 5, 2, 12, 5, 8, 4, 14 if self.with_leases else 0]
        return getattr(self, self.random.choices(names, weights)[0])()

    def put(self):
        return "put", self.rpc.PutRequest(key=self.key(), value=self.value())

    def put_prev(self):
        return "put", self.rpc.PutRequest(key=self.key(), value=self.value(), prev_kv=True)

    def delete(self):
        return "delete", self.rpc.DeleteRangeRequest(key=self.key(), prev_kv=self.random.random() < 0.5)

    def delete_range(self):
        low, high = sorted(self.random.sample(HOT, 2))
        return "delete", self.rpc.DeleteRangeRequest(key=low, range_end=high, prev_kv=True)

    def swap(self):
        """As Kubernetes does: put if unchanged since, else read."""
        key, rpc = self.key(), self.rpc
        guard = rpc.Compare(key=key, target=rpc.Compare.MOD, result=rpc.Compare.EQUAL,
                            mod_revision=self.known.get(key, 0))
        read = rpc.RequestOp(request_range=rpc.RangeRequest(key=key))
        write = rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=self.value()))
        if self.random.random() < 0.2:
            write = rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=key))
        return "txn", rpc.TxnRequest(compare=[guard], success=[write], failure=[read])

    def multi(self):
        """Several keys in one revision, and a read that must see the writes before it."""
        rpc, keys = self.rpc, self.random.sample(HOT, 4)
        ops = [rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=self.value(), prev_kv=True))
               for key in keys[:3]]
        ops.append(rpc.RequestOp(request_range=rpc.RangeRequest(key=b"k/", range_end=b"k0", limit=5)))
        ops.append(rpc.RequestOp(request_delete_range=rpc.DeleteRangeRequest(key=keys[3])))
        guard = rpc.Compare(key=keys[0], target=rpc.Compare.VERSION, result=rpc.Compare.LESS, version=4)
        other = rpc.RequestOp(request_put=rpc.PutRequest(key=keys[3], value=self.value()))
        return "txn", rpc.TxnRequest(compare=[guard], success=ops, failure=[other])

    def txn_delete(self):
        ops = [self.rpc.RequestOp(request_delete_range=self.rpc.DeleteRangeRequest(key=key, prev_kv=True))
               for key in self.random.sample(HOT, 2)]
        return "txn", self.rpc.TxnRequest(success=ops)

    def get(self):
        return "range", self.rpc.RangeRequest(key=self.key())

    def list(self):
        request = self.rpc.RangeRequest(key=b"k/", range_end=b"k0")
        match self.random.randrange(6):
            case 0: request.limit = self.random.randint(1, 12)
            case 1: request.keys_only = True
            case 2: request.count_only = True
            case 3: request.sort_order = self.rpc.RangeRequest.DESCEND
            case 4: request.min_mod_revision = max(1, self.recorder.revision - 20)
            case 5: request.key, request.range_end = b"\0", b"\0"
        return "range", request

    def serializable(self):
        kind, request = self.list() if self.random.random() < 0.4 else self.get()
        request.serializable = True
        return kind, request

    def old(self):
        request = self.rpc.RangeRequest(key=b"k/", range_end=b"k0")
        request.revision = max(1, self.recorder.revision + self.random.randint(-60, 3))
        request.serializable = self.random.random() < 0.3
        return "range", request

    def lease(self):
        rpc = self.rpc
        if not self.leases or (len(self.leases) < 3 and self.random.random() < 0.2):
            return "grant", rpc.LeaseGrantRequest(TTL=self.random.choice([1, 2, 3]))
        lease, number = self.random.choice(self.leases), self.random.random()
        if number < 0.45:
            return "put", rpc.PutRequest(key=self.random.choice(LEASED), value=self.value(), lease=lease)
        if number < 0.9:
            return "keepalive", rpc.LeaseKeepAliveRequest(ID=lease)
        self.leases.remove(lease)
        return "revoke", rpc.LeaseRevokeRequest(ID=lease)


class Guest(Worker):
    """A user who may touch some keys now and then, and tries all of them, one at a time."""

    def __init__(self, recorder, seed, user, pace=0.01):
        super().__init__(recorder, seed, pace, leases=False)
        self.user, self.stubs = user, StubsByMember(recorder, user)

    def choose(self):
        kind, request = self.random.choice([self.put, self.put_prev, self.delete, self.get, self.old_or_new, self.pair])()
        return kind, request

    def old_or_new(self):
        request = self.rpc.RangeRequest(key=self.key(), serializable=self.random.random() < 0.6)
        return "range", request

    def pair(self):
        """A transaction of two requests for one key."""
        rpc, key = self.rpc, self.key()
        return "txn", rpc.TxnRequest(success=[
            rpc.RequestOp(request_range=rpc.RangeRequest(key=key)),
            rpc.RequestOp(request_put=rpc.PutRequest(key=key, value=self.value(), prev_kv=True))])


class Watcher(threading.Thread):
    """Opens watches one after another, each for a while. A collector watches all from revision 1 on."""

    def __init__(self, recorder, seed, member=None, user=""):
        super().__init__(daemon=True)
        self.recorder, self.random, self.member = recorder, random.Random(seed), member
        self.collector, self.user = member is not None, user
        self.rpc = recorder.api.rpc
        self.stubs = StubsByMember(recorder, user or "root")
        self.closing = threading.Event()
        self.shown = 0  # the last revision shown by the open stream
        self.open = None  # the queue of requests of the open stream
        self.watch = self.previous = None
        self.start_at = 1

    def run(self):
        while not self.closing.is_set():
            member = self.member or self.random.choice([*self.recorder.members])
            self.once(member, self.request())
        for each in self.stubs.values():
            each.channel.close()

    def request(self):
        if self.collector:
            return self.rpc.WatchCreateRequest(key=b"\0", range_end=b"\0", start_revision=self.start_at,
                                               prev_kv=True, progress_notify=True)
        request = self.rpc.WatchCreateRequest(
            prev_kv=self.random.random() < 0.5, progress_notify=self.random.random() < 0.5,
            fragment=self.random.random() < 0.2)
        request.key, request.range_end = (self.random.choice(HOT), b"") if self.user else self.random.choice(
            [(b"\0", b"\0"), (b"k/", b"k0"), (b"k/3", b"k/7"), (self.random.choice(HOT), b""), (b"l/", b"l0")])
        head = self.recorder.revision
        request.start_revision = max(0, self.random.choice(
            [0, 0, head, head - self.random.randint(0, 100), head + self.random.randint(1, 40),
             self.recorder.compacted, self.recorder.compacted + 1, self.start_at]))
        request.filters.extend(self.random.choice([[], [], [], [0], [1]]))
        return request

    def once(self, member, request):
        watch = Watch(next(self.recorder.watch_ids), member.name, member.incarnation, request,
                      time.monotonic_ns(), self.collector, self.previous, user=self.user,
                      hasty=member.kind != "apus")
        with self.recorder.history.lock:
            self.recorder.history.watches.append(watch)
        asks = queue.Queue()
        asks.put(self.rpc.WatchRequest(create_request=request))
        self.shown, self.open, self.watch = 0, asks, watch
        timeout = None if self.collector else self.random.uniform(1, 12)
        call = None
        try:
            call = self.stubs[member].watch.Watch(iter(asks.get, None), timeout=timeout)
            self.active = call
            for response in call:
                watch.responses.append((time.monotonic_ns(), response))
                self.learn(response)
                if response.canceled:
                    self.refused(member, response)
                    break
            watch.end = "ended"
        except grpc.RpcError as error:
            watch.end = f"{error.code().name}: {error.details()}"
        finally:
            self.open = None
            asks.put(None)
            if call is not None:
                call.cancel()
        self.previous = watch.id
        if not watch.responses:
            time.sleep(0.1)

    def refused(self, member, response):
        if member.cluster.guard and not response.compact_revision:
            member.cluster.guard.heard(member.endpoint, self.user or "root", response.cancel_reason)
            time.sleep(0.1)

    def learn(self, response):
        if response.compact_revision:
            self.start_at = response.compact_revision
        elif response.events and not response.fragment:
            self.shown = max(self.shown, response.events[-1].kv.mod_revision)
            self.start_at = self.shown + 1
        elif not response.created and not response.events:
            self.shown = max(self.shown, response.header.revision)
        self.recorder.revision = max(self.recorder.revision, response.header.revision)

    def ask_progress(self):
        asks = self.open
        if asks is not None:
            asks.put(self.rpc.WatchRequest(progress_request=self.rpc.WatchProgressRequest()))
            return True
        return False

    def close(self):
        self.closing.set()
        call = getattr(self, "active", None)
        if call is not None:
            call.cancel()
