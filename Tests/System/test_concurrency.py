"""The Election and Lock services: the same scenarios on Apus and on etcd, through every member."""

import concurrent.futures
import itertools
import queue
import random
import signal
import subprocess
import threading
import time

import grpc
import pytest
from harness import ETCDCTL, Cluster

names = (f"contest{number}".encode() for number in itertools.count())


@pytest.fixture(scope="module", params=["apus", "etcd35", "etcd34"])
def cluster(request):
    with Cluster((request.param,) * 3) as cluster:
        cluster.kind = request.param
        cluster.leader()
        yield cluster


@pytest.fixture
def client(api, cluster, member):
    with Client(api, cluster, member) as client:
        yield client


@pytest.fixture(params=[0, 1, 2])
def member(request):
    return request.param


@pytest.fixture
def name():
    return next(names)


class Client:
    """Everything the scenarios need of one member, over one connection."""

    def __init__(self, api, cluster, member):
        self.rpc = api.rpc
        # etcd leaves a key in line whose call ends before its watch is open, and ends a call whose
        # watch is overtaken by a compaction.
        self.settling = 0 if cluster.members[member].kind == "apus" else 0.2
        endpoint = cluster.endpoints[member]
        self.election_types = api.election
        self.lock_types = api.lock
        self.channel = grpc.insecure_channel(endpoint, options=[("grpc.use_local_subchannel_pool", 1)])
        self.kv, self.lease = api.grpc.KVStub(self.channel), api.grpc.LeaseStub(self.channel)
        self.election = api.election_grpc.ElectionStub(self.channel)
        self.locks = api.lock_grpc.LockStub(self.channel)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.channel.close()

    def grant(self, ttl=60, lease=0):
        return self.lease.LeaseGrant(self.rpc.LeaseGrantRequest(TTL=ttl, ID=lease)).ID

    def revoke(self, lease):
        return self.lease.LeaseRevoke(self.rpc.LeaseRevokeRequest(ID=lease))

    def ttl(self, lease):
        return self.lease.LeaseTimeToLive(self.rpc.LeaseTimeToLiveRequest(ID=lease, keys=True))

    def put(self, key, value=b"", lease=0):
        return self.kv.Put(self.rpc.PutRequest(key=key, value=value, lease=lease))

    def keys(self, name):
        """The contenders, oldest first."""
        found = self.kv.Range(self.rpc.RangeRequest(key=name + b"/", range_end=name + b"0", sort_target="CREATE",
                                                    sort_order="ASCEND"))
        return list(found.kvs)

    def lock_request(self, name, lease=0):
        return self.lock_types.LockRequest(name=name, lease=lease)

    def lock(self, name, lease=0, timeout=10):
        return self.locks.Lock(self.lock_request(name, lease), timeout=timeout)

    def unlock(self, key):
        return self.locks.Unlock(self.lock_types.UnlockRequest(key=key))

    def waiting_lock(self, name, lease=0, timeout=30):
        """A Lock call that stands in line."""
        before = len(self.keys(name))
        call = self.locks.Lock.future(self.lock_request(name, lease), timeout=timeout)
        eventually(lambda: len(self.keys(name)) == before + 1)
        time.sleep(self.settling)
        return call

    def campaign_request(self, name, value=b"", lease=0):
        return self.election_types.CampaignRequest(name=name, value=value, lease=lease)

    def campaign(self, name, value=b"", lease=0):
        return self.election.Campaign(self.campaign_request(name, value, lease), timeout=10)

    def waiting_campaign(self, name, value=b"", lease=0):
        before = len(self.keys(name))
        call = self.election.Campaign.future(self.campaign_request(name, value, lease), timeout=30)
        eventually(lambda: len(self.keys(name)) == before + 1)
        time.sleep(self.settling)
        return call

    def proclaim(self, leader, value):
        return self.election.Proclaim(self.election_types.ProclaimRequest(leader=leader, value=value))

    def resign(self, leader):
        return self.election.Resign(self.election_types.ResignRequest(leader=leader))

    def leader(self, name):
        return self.election.Leader(self.election_types.LeaderRequest(name=name))


class Observer:
    """An Observe stream read in the background."""

    def __init__(self, client, name, metadata=()):
        self.call = client.election.Observe(client.election_types.LeaderRequest(name=name), metadata=metadata)
        self.answers = queue.Queue()
        threading.Thread(target=self._receive, daemon=True).start()

    def _receive(self):
        try:
            for answer in self.call:
                self.answers.put(answer)
        except grpc.RpcError as error:
            self.answers.put(error)

    def next(self, timeout=10):
        answer = self.answers.get(timeout=timeout)
        return answer.kv.key, answer.kv.value, answer.header.revision, answer.kv.mod_revision


def eventually(condition, timeout=10):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, "did not come about"
        time.sleep(0.02)


def failure(call, *arguments):
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments)
    return caught.value.code(), caught.value.details()


def unknown(text):
    return grpc.StatusCode.UNKNOWN, text


LEASE_NOT_FOUND = "etcdserver: requested lease not found"


# Locks


def test_lock_and_unlock(client, name):
    lease = client.grant()
    locked = client.lock(name, lease)
    assert locked.key == name + b"/%x" % lease
    [entry] = client.keys(name)
    assert (entry.key, entry.value, entry.lease) == (locked.key, b"", lease)
    assert locked.header.revision == entry.create_revision
    assert locked.header.cluster_id and locked.header.member_id and locked.header.raft_term
    # The same lease once more: it has the lock.
    again = client.lock(name, lease)
    assert (again.key, again.header.revision) == (locked.key, locked.header.revision)
    assert client.keys(name) == [entry]
    unlocked = client.unlock(locked.key)
    assert unlocked.header.revision == locked.header.revision + 1
    assert client.keys(name) == []
    # Unlocking what is not locked is no error, and no change.
    assert client.unlock(locked.key).header.revision == unlocked.header.revision
    assert unlocked.header.member_id == locked.header.member_id


def test_lock_without_lease_gets_one_of_a_minute(client, name):
    locked = client.lock(name)
    [entry] = client.keys(name)
    assert locked.key == entry.key == name + b"/%x" % entry.lease
    granted = client.ttl(entry.lease)
    assert (granted.grantedTTL, list(granted.keys)) == (60, [entry.key]) and 55 <= granted.TTL <= 60
    client.unlock(locked.key)


def test_negative_lease(client, name):
    lease = client.grant(lease=-random.getrandbits(40))
    assert client.lock(name, lease).key == name + b"/-%x" % -lease
    client.revoke(lease)
    assert client.keys(name) == []


def test_lock_errors(client, name):
    assert failure(client.lock, name, 12345) == unknown(LEASE_NOT_FOUND)
    assert failure(client.unlock, b"") == unknown("etcdserver: key is not provided")
    # An empty name is a name.
    locked = client.lock(b"")
    assert locked.key.startswith(b"/")
    client.unlock(locked.key)


def test_waiters_get_the_lock_in_order(api, cluster, client, name):
    """Through different members, with a waiter in the middle that gives up."""
    first = client.lock(name)
    with Client(api, cluster, 1) as second, Client(api, cluster, 2) as third:
        calls = [each.waiting_lock(name) for each in (second, third, client, second)]
        line = [entry.key for entry in client.keys(name)]
        revisions = [entry.create_revision for entry in client.keys(name)]
        assert line[0] == first.key and revisions == sorted(revisions)
        calls[1].cancel()
        eventually(lambda: len(client.keys(name)) == 4)
        assert [entry.key for entry in client.keys(name)] == line[:2] + line[3:]
        holder = first
        for call, key in ((calls[0], line[1]), (calls[2], line[3]), (calls[3], line[4])):
            assert not call.done()
            unlocked = client.unlock(holder.key)
            holder = call.result()
            assert holder.key == key
            assert holder.header.revision >= unlocked.header.revision
        assert [entry.key for entry in client.keys(name)] == [line[4]]
        client.unlock(holder.key)


def test_same_lease_waits_once(client, name):
    first, lease = client.lock(name), client.grant()
    one = client.waiting_lock(name, lease)
    two = client.locks.Lock.future(client.lock_request(name, lease), timeout=20)
    time.sleep(0.2)
    assert len(client.keys(name)) == 2 and not one.done() and not two.done()
    client.unlock(first.key)
    assert one.result().key == two.result().key == name + b"/%x" % lease
    client.revoke(lease)


@pytest.mark.parametrize("leased", [True, False])
def test_cancelled_waiter_leaves_nothing(client, name, leased):
    first, lease = client.lock(name), client.grant() if leased else 0
    before = client.keys(name)
    call = client.waiting_lock(name, lease)
    call.cancel()
    eventually(lambda: client.keys(name) == before)
    if leased:
        assert client.ttl(lease).TTL > 0  # The client's own lease is left alone.
    client.unlock(first.key)


def test_disconnected_waiters_leave_nothing(api, cluster, client, name, member):
    first = client.lock(name)
    before = client.keys(name)
    other = Client(api, cluster, member)
    calls = [other.waiting_lock(name), other.waiting_campaign(name)]
    assert len(client.keys(name)) == 3
    other.channel.close()
    assert all(call.done() for call in calls)
    eventually(lambda: client.keys(name) == before)
    client.unlock(first.key)


def test_second_message_ends_a_waiter(cluster, client, name):
    """A call that takes one message gets two: it ends, and with it its place in line."""
    if cluster.kind != "apus":
        pytest.skip("etcd leaves the second message unread")
    first = client.lock(name)
    before = client.keys(name)
    messages = queue.Queue()
    call = client.channel.stream_unary("/v3lockpb.Lock/Lock").future(iter(messages.get, None), timeout=10)
    messages.put(client.lock_request(name).SerializeToString())
    eventually(lambda: len(client.keys(name)) == 2)
    messages.put(client.lock_request(name).SerializeToString())
    assert call.exception().code() == grpc.StatusCode.INTERNAL
    messages.put(None)
    eventually(lambda: client.keys(name) == before)
    client.unlock(first.key)


def test_deadline_of_a_waiter(cluster, client, name):
    first = client.lock(name)
    before = client.keys(name)
    code, _ = failure(lambda: client.lock(name, timeout=0.5))
    expected = {grpc.StatusCode.DEADLINE_EXCEEDED}
    if cluster.kind != "apus":  # Its server may notice before the client does, and names no code.
        expected.add(grpc.StatusCode.UNKNOWN)
    assert code in expected
    eventually(lambda: client.keys(name) == before)
    client.unlock(first.key)


def test_revoked_holder_is_fenced_off(client, name):
    lease = client.grant()
    held = client.lock(name, lease)
    revision = held.header.revision
    call = client.waiting_lock(name)
    client.revoke(lease)
    [now] = client.keys(name)
    assert call.result().key == now.key and now.create_revision > revision
    # What the old holder does under the condition that it still holds the lock, fails.
    compare = client.rpc.Compare(key=held.key, target="CREATE", result="EQUAL", create_revision=revision)
    put = client.rpc.RequestOp(request_put=client.rpc.PutRequest(key=b"guarded", value=b"late"))
    assert not client.kv.Txn(client.rpc.TxnRequest(compare=[compare], success=[put])).succeeded
    client.unlock(now.key)


def test_expired_holder_makes_way(api, cluster, client, name):
    lease = client.grant(ttl=2)
    client.lock(name, lease)
    with Client(api, cluster, 1) as other:
        call = other.waiting_lock(name)
        assert call.result().key == client.keys(name)[0].key
        assert client.ttl(lease).TTL == -1
        client.unlock(call.result().key)


@pytest.mark.parametrize("way", ["revoke", "delete"])
def test_waiter_that_lost_its_key(cluster, client, name, way):
    first, lease = client.lock(name), client.grant()
    call = client.waiting_lock(name, lease)
    if way == "revoke":
        client.revoke(lease)
    else:
        client.unlock(name + b"/%x" % lease)
    client.unlock(first.key)
    if cluster.kind == "etcd34":
        call.result()  # It grants a lock that is lost already: etcd issue 11456.
    else:
        assert failure(call.result) == unknown("mutex: session is expired")
    assert client.keys(name) == []


def test_foreign_keys_stand_in_line(client, name):
    """Clients that use KV alone, as clientv3 does, and the service keep each other out."""
    client.put(name + b"/zzz", b"mine")
    call = client.waiting_lock(name)
    client.put(name + b"/zzz", b"still mine")
    client.put(name + b"/aaa", b"younger")
    time.sleep(0.2)
    assert not call.done()
    client.unlock(name + b"/zzz")
    locked = call.result()
    client.unlock(locked.key)
    client.unlock(name + b"/aaa")


def test_compaction_does_not_harm_waiters(client, name):
    first = client.lock(name)
    call = client.waiting_lock(name)
    for _ in range(5):
        revision = client.put(b"other").header.revision
    client.kv.Compact(client.rpc.CompactionRequest(revision=revision))
    client.unlock(first.key)
    client.unlock(call.result().key)


def test_mutual_exclusion(api, cluster, name):
    inside, most, entries = set(), [], []
    with concurrent.futures.ThreadPoolExecutor(6) as pool:

        def work(number):
            with Client(api, cluster, number % 3) as client:
                for _ in range(8):
                    locked = client.lock(name, timeout=60)
                    inside.add(number)
                    most.append(len(inside))
                    entries.append(int(client.keys(name)[0].create_revision))
                    inside.remove(number)
                    client.unlock(locked.key)

        for done in [pool.submit(work, number) for number in range(6)]:
            done.result()
    assert max(most) == 1 and len(most) == 48
    assert entries == sorted(entries) and len(set(entries)) == 48


# Elections


def test_campaign_proclaim_resign(client, name):
    assert failure(client.leader, name) == unknown("election: no leader")
    lease = client.grant()
    won = client.campaign(name, b"one", lease)
    leader = won.leader
    assert (leader.name, leader.key, leader.lease) == (name, name + b"/%x" % lease, lease)
    assert leader.rev == won.header.revision
    found = client.leader(name)
    assert (found.kv.key, found.kv.value, found.kv.create_revision) == (leader.key, b"one", leader.rev)
    assert found.header.revision == won.header.revision
    proclaimed = client.proclaim(leader, b"two")
    assert proclaimed.header.revision == won.header.revision + 1
    found = client.leader(name)
    assert (found.kv.value, found.kv.version, found.kv.lease) == (b"two", 2, lease)
    # The same lease once more, with the same value and with another one.
    again = client.campaign(name, b"two", lease)
    assert again.leader == leader and again.header.revision == proclaimed.header.revision
    third = client.campaign(name, b"three", lease)
    assert third.leader == leader and third.header.revision == proclaimed.header.revision
    assert client.leader(name).kv.value == b"three"
    resigned = client.resign(leader)
    assert resigned.header.revision == proclaimed.header.revision + 2
    assert failure(client.leader, name) == unknown("election: no leader")
    assert failure(client.proclaim, leader, b"late") == unknown("election: not leader")
    assert client.resign(leader).header.revision == resigned.header.revision


def test_election_errors(client, name):
    types = client.election_types
    missing = unknown('"leader" field must be provided')
    assert failure(client.election.Proclaim, types.ProclaimRequest(value=b"v")) == missing
    assert failure(client.election.Resign, types.ResignRequest()) == missing
    assert failure(client.campaign, name, b"v", 12345) == unknown(LEASE_NOT_FOUND)
    lease = client.grant()
    leader = client.campaign(name, b"v", lease).leader
    stranger = types.LeaderKey(name=name, key=leader.key, rev=leader.rev + 1, lease=lease)
    assert failure(client.proclaim, stranger, b"x") == unknown("election: not leader")
    client.resign(stranger)  # Changes nothing.
    assert client.leader(name).kv.value == b"v"
    stranger = types.LeaderKey(name=name, key=leader.key, rev=leader.rev, lease=12345)
    assert failure(client.proclaim, stranger, b"x") == unknown(LEASE_NOT_FOUND)
    no_key = unknown("etcdserver: key is not provided")
    empty = types.LeaderKey(name=name, lease=lease)
    assert failure(client.proclaim, empty, b"x") == no_key
    assert failure(client.resign, empty) == no_key
    client.revoke(lease)


def test_leases_granted_by_the_server(client, name):
    leader = client.campaign(name, b"v").leader
    assert leader.key == name + b"/%x" % leader.lease and client.ttl(leader.lease).grantedTTL == 60
    # A handle without lease binds the key to a new one.
    handle = client.election_types.LeaderKey(name=name, key=leader.key, rev=leader.rev)
    client.proclaim(handle, b"w")
    lease = client.leader(name).kv.lease
    assert lease not in (0, leader.lease) and client.ttl(lease).grantedTTL == 60
    client.resign(leader)


def test_candidates_lead_in_order(api, cluster, client, name):
    first = client.campaign(name, b"first")
    with Client(api, cluster, 1) as second, Client(api, cluster, 2) as third:
        calls = [second.waiting_campaign(name, b"second"), third.waiting_campaign(name, b"third"),
                 client.waiting_campaign(name, b"fourth")]
        line = client.keys(name)
        assert [entry.value for entry in line] == [b"first", b"second", b"third", b"fourth"]
        calls[1].cancel()
        eventually(lambda: len(client.keys(name)) == 3)
        leader = first.leader
        for call, entry in ((calls[0], line[1]), (calls[2], line[3])):
            assert not call.done() and client.leader(name).kv.key == leader.key
            client.resign(leader)
            won = call.result()
            leader = won.leader
            assert (leader.key, leader.rev) == (entry.key, entry.create_revision)
            # The header of the moment when the candidate came forward.
            assert won.header.revision == entry.create_revision
        client.resign(leader)
    assert client.keys(name) == []


def test_candidate_that_lost_its_key(cluster, client, name):
    first, lease = client.campaign(name, b"first"), client.grant()
    call = client.waiting_campaign(name, b"second", lease)
    client.revoke(lease)
    client.resign(first.leader)
    if cluster.kind == "apus":
        assert failure(call.result) == unknown("election: not leader")
    else:
        # etcd tells a candidate that it leads though its key is gone.
        assert failure(client.proclaim, call.result().leader, b"x") == unknown("election: not leader")


def test_observe(api, cluster, client, name):
    early = Observer(client, name)
    time.sleep(0.2)
    assert early.answers.empty()
    one = client.campaign(name, b"a").leader
    assert early.next() == (one.key, b"a", one.rev, one.rev)
    late = Observer(client, name)
    assert late.next()[:2] == (one.key, b"a")
    with Client(api, cluster, 1) as other:
        call = other.waiting_campaign(name, b"b")
        for value in (b"c", b"d", b"e"):
            revision = other.proclaim(one, value).header.revision
            for observer in (early, late):
                assert observer.next() == (one.key, value, revision, revision)
        other.resign(one)
        two = call.result().leader
        for observer in (early, late):
            key, value, _, mod = observer.next()
            assert (key, value, mod) == (two.key, b"b", two.rev)
        other.resign(two)
        three = other.campaign(name, b"f").leader
        for observer in (early, late):
            assert observer.next() == (three.key, b"f", three.rev, three.rev)
            observer.call.cancel()
            error = observer.answers.get(timeout=5)
            assert isinstance(error, grpc.RpcError) and error.code() == grpc.StatusCode.CANCELLED
        other.resign(three)


# Failures. Each on a cluster of its own.


def test_leader_is_killed(api, name):
    """Waiting calls through a follower outlive the leader of the cluster."""
    with Cluster(("apus",) * 3) as cluster:
        leader = cluster.leader()
        near = cluster.followers()[0]
        with Client(api, cluster, cluster.members.index(near)) as client:
            held = client.lock(name)
            call, observer = client.waiting_lock(name), Observer(client, b"watched", [("hasleader", "true")])
            chief = client.campaign(b"watched", b"1").leader
            assert observer.next()[1] == b"1"
            leader.kill()
            eventually(lambda: cluster.leader(), 20)
            client.proclaim(chief, b"2")
            assert observer.next()[1] == b"2"
            client.unlock(held.key)
            assert client.keys(name)[0].key == call.result().key
            # Without a quorum: an error as of any write, and an observer that insists is told.
            waiting = client.waiting_lock(name)
            next(m for m in cluster.members if m not in (leader, near)).kill()
            error = observer.answers.get(timeout=20)
            assert (error.code(), error.details()) == (grpc.StatusCode.UNAVAILABLE, "etcdserver: no leader")
            code, text = failure(lambda: client.lock(b"other", timeout=20))
            assert code == grpc.StatusCode.UNKNOWN and text.startswith("etcdserver: request timed out")
            code, text = failure(client.leader, b"watched")
            assert code == grpc.StatusCode.UNKNOWN and text.startswith("etcdserver: request timed out")
            assert not waiting.done()
            # With the quorum back, the line moves on.
            for each in cluster.members:
                if each.process.poll() is not None:
                    each.start()
            for each in cluster.members:
                each.wait_ready(30)
            client.unlock(call.result().key)
            assert waiting.result().key == client.keys(name)[0].key


def test_shutdown_is_not_held_up(api, name):
    with Cluster(("apus",)) as cluster, Client(api, cluster, 0) as client:
        client.lock(name)
        call, observer = client.waiting_lock(name), Observer(client, name)
        observer.next()
        assert cluster.members[0].stop(timeout=5) is not None
        assert call.exception().code() == grpc.StatusCode.UNAVAILABLE
        assert observer.answers.get(timeout=5).code() == grpc.StatusCode.UNAVAILABLE


# Stock etcdctl, which builds locks and elections on KV, leases and watches.


class Command:
    """An etcdctl that runs until it is stopped."""

    def __init__(self, cluster, version, *arguments, endpoint=0):
        self.process = subprocess.Popen(
            [ETCDCTL[version], "--endpoints", cluster.endpoints[endpoint], *arguments],
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={"PATH": "/usr/bin:/bin", "ETCDCTL_API": "3"})
        self.lines = queue.Queue()
        threading.Thread(target=self._read, daemon=True).start()

    def _read(self):
        for line in self.process.stdout:
            self.lines.put(line.rstrip("\n"))

    def line(self, timeout=15):
        return self.lines.get(timeout=timeout)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


@pytest.mark.parametrize("version", ["3.5", "3.4"])
def test_etcdctl_lock(api, cluster, version, name):
    text = name.decode()
    with Command(cluster, version, "lock", text, "--ttl", "2") as first:
        holder = first.line()
        assert holder.startswith(f"{text}/")
        with Command(cluster, version, "lock", text, "--ttl", "2", endpoint=1) as second, \
                Client(api, cluster, 2) as client:
            eventually(lambda: len(client.keys(name)) == 2)
            third = client.waiting_lock(name)
            assert second.lines.empty()
            # The holder dies: its lease runs out, the next one gets the lock.
            first.process.kill()
            assert second.line().startswith(f"{text}/")
            assert not third.done()
            # The next one stops in good order.
            second.process.send_signal(signal.SIGINT)
            locked = third.result()
            assert [entry.key for entry in client.keys(name)] == [locked.key]
            client.unlock(locked.key)
    run = cluster.ctl("lock", text, "sh", "--", "-c", "echo got $ETCD_LOCK_KEY", version=version)
    assert run.returncode == 0, run.stderr
    if version == "3.5":
        assert run.stdout.startswith(f"got {text}/"), (run.stdout, run.stderr)


@pytest.mark.parametrize("version", ["3.5", "3.4"])
def test_etcdctl_elect(api, cluster, version, name):
    text = name.decode()
    with Command(cluster, version, "elect", text, "one") as first:
        key = first.line()
        assert key.startswith(f"{text}/") and first.line() == "one"
        with Command(cluster, version, "elect", text, "two", endpoint=1) as second, \
                Command(cluster, version, "elect", "--listen", text, endpoint=2) as listener, \
                Client(api, cluster, 2) as client:
            assert (listener.line(), listener.line()) == (key, "one")
            eventually(lambda: len(client.keys(name)) == 2)
            call = client.waiting_campaign(name, b"three")
            assert second.lines.empty()
            first.process.kill()
            client.revoke(client.leader(name).kv.lease)  # Its time is up.
            key = second.line()
            assert second.line() == "two" and (listener.line(), listener.line()) == (key, "two")
            second.process.send_signal(signal.SIGINT)
            leader = call.result().leader
            assert (listener.line(), listener.line()) == (leader.key.decode(), "three")
            client.resign(leader)
