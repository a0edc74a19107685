"""Clusters grow, shrink and replace their members while they work; stock etcdctl asks for it."""

import itertools
import json
import shutil
import threading
import time
import urllib.error
import urllib.request

import grpc
import pytest
from harness import Cluster
from test_failover import Client, expect_equal_hashes

REMOVED = "the member has been permanently removed from the cluster"
MUST_GO = "data-dir used by this member must be removed"


class Load:
    """Puts through whoever answers, and remembers what was acknowledged. Use as a context manager."""

    def __init__(self, api, cluster):
        self.api, self.cluster = api, cluster
        self.acknowledged, self.failed, self.longest = {}, 0, 0.0
        self.halt = threading.Event()
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.clients = {}

    def client(self, member):
        if member.endpoint not in self.clients:
            self.clients[member.endpoint] = Client(self.api, member.endpoint)
        return self.clients[member.endpoint]

    def run(self):
        last = time.monotonic()
        for number in itertools.count():
            if self.halt.is_set():
                return
            members = list(self.cluster.members)
            key = b"load/%d" % number
            try:
                self.client(members[number % len(members)]).put(key, b"%d" % number, timeout=1)
                self.acknowledged[key] = b"%d" % number
                self.longest = max(self.longest, time.monotonic() - last)
                last = time.monotonic()
            except grpc.RpcError:
                self.failed += 1
                time.sleep(0.01)

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.halt.set()
        self.thread.join(10)

    def expect_kept(self):
        assert len(self.acknowledged) > 100
        for member in self.cluster.members:
            answer = Client(self.api, member.endpoint).kv.Range(
                self.api.rpc.RangeRequest(key=b"load/", range_end=b"load0"), timeout=20)
            stored = {kv.key: kv.value for kv in answer.kvs}
            missing = [key for key, value in self.acknowledged.items() if stored.get(key) != value]
            assert not missing, f"{member.name} lost {len(missing)} of {len(self.acknowledged)}"


def id_of(cluster, name, endpoints=None):
    return f"{cluster.listed(endpoints)[name]['ID']:x}"


def expect_removed(member, timeout=6):
    """The process ends by itself, with etcd's words and code."""
    assert member.process.wait(timeout) == 0
    log = member.log_since_start()
    assert REMOVED in log and MUST_GO in log
    assert log.index(REMOVED) < log.index(MUST_GO)


def until(condition, timeout=15, what="condition"):
    deadline = time.monotonic() + timeout
    while not condition():
        assert time.monotonic() < deadline, f"no {what} within {timeout} s"
        time.sleep(0.1)


def expect_equal_lists(cluster, timeout=10):
    def lists():
        return {json.dumps(sorted(cluster.listed([m.endpoint]).items()), sort_keys=True)
                for m in cluster.members}
    until(lambda: len(lists()) == 1, timeout, "agreement on the members")


def members_page(member):
    with urllib.request.urlopen(f"{member.peer_url}/members", timeout=5) as answer:
        return json.load(answer)


def answers_members(member):
    try:
        return bool(members_page(member))
    except OSError:
        return False


# --- growing and shrinking ---------------------------------------------------------------------------


def test_one_three_five_three_under_load(api):
    with Cluster(("apus",)) as cluster, Load(api, cluster) as load:
        cluster.ctl("put", "before", "1", check=True)
        for name in ("m2", "m3", "m4", "m5"):
            cluster.add("apus", name).wait_ready()
        expect_equal_lists(cluster)
        assert len(cluster.listed()) == 5
        assert all(each["name"] and each["clientURLs"] for each in cluster.listed().values())
        for name in ("m1", "m2"):
            removed = cluster.remove(name, endpoints=[cluster.members[-1].endpoint])
            expect_removed(removed)
            cluster.ctl("put", f"without-{name}", "1", check=True)
        assert sorted(cluster.listed()) == ["m3", "m4", "m5"]
        load.__exit__()
        load.expect_kept()
        expect_equal_hashes(api, cluster)
        # The remaining ones know the present membership after a restart, from their own data.
        for member in cluster.members:
            member.stop()
        for member in cluster.members:
            member.start()
        for member in cluster.members:
            member.wait_ready()
        assert sorted(cluster.listed()) == ["m3", "m4", "m5"]
        load.expect_kept()


def test_second_member_is_waited_for():
    with Cluster(("apus",)) as cluster:
        first = cluster.members[0]
        second = cluster.new_member("apus", "m2")
        done = cluster.ctl("member", "add", "m2", f"--peer-urls={second.peer_url}", check=True)
        assert "added to cluster" in done.stdout
        # Two members need both of them.
        assert cluster.ctl("put", "k", "v", "--command-timeout=1s").returncode != 0
        # And a restart does not forget the change.
        first.kill()
        first.start()
        second.state = "existing"
        second.initial_cluster = f"m1={first.peer_url},m2={second.peer_url}"
        first.wait_log("restarting local member")
        until(lambda: answers_members(first), what="peer port")
        second.start()
        cluster.members.append(second)
        first.wait_ready()
        second.wait_ready()
        cluster.ctl("put", "k", "v", check=True)


def test_joined_member_restarts_and_catches_up_by_snapshot(api):
    flags = ["--snapshot-count", "100", "--experimental-snapshot-catchup-entries", "10"]
    with Cluster(("apus",), flags=flags) as cluster:
        client = Client(api, cluster.members[0].endpoint)
        for number in range(1500):
            client.put(b"k%d" % (number % 50), b"%d" % number)
        joined = cluster.add("apus", "m2")
        joined.wait_ready()
        assert "applied snapshot" in joined.log_text()
        for _ in range(2):
            joined.kill()
            joined.start()
            joined.wait_ready()
        expect_equal_hashes(api, cluster)
        expect_equal_lists(cluster)


def test_killed_while_joining(api):
    with Cluster(("apus",)) as cluster:
        for number in range(20):
            cluster.ctl("put", f"k{number}", "v", check=True)
        joining = cluster.add("apus", "m2")
        for pause in (0.05, 0.1, 0.2):
            time.sleep(pause)
            joining.kill()
            joining.start()
        joining.wait_ready()
        cluster.members[0].kill()
        cluster.members[0].start()
        cluster.members[0].wait_ready()
        expect_equal_hashes(api, cluster)


# --- removal -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("asked", ["leader", "follower"])
def test_leader_removes_itself(api, asked):
    with Cluster() as cluster:
        leader = cluster.leader()
        others = [m for m in cluster.members if m is not leader]
        time.sleep(5)
        with Load(api, cluster) as load:
            time.sleep(1)
            asked_member = leader if asked == "leader" else others[0]
            cluster.remove(leader.name, endpoints=[asked_member.endpoint])
            expect_removed(leader)
            time.sleep(1)
        load.expect_kept()
        assert load.longest < 2.5
        assert cluster.leader() in others


def test_removed_while_down():
    with Cluster() as cluster:
        down = cluster.followers()[0]
        down.kill()
        rest = [m.endpoint for m in cluster.members if m is not down]
        cluster.remove(down.name, endpoints=rest)
        cluster.ctl("put", "k", "v", check=True)
        down.start()
        expect_removed(down, 15)


def test_refusals():
    with Cluster(("apus", "apus", "apus")) as cluster:
        time.sleep(5.5)
        # The checks read the view of the member that is asked: always the same one.
        asked = [cluster.leader().endpoint]

        def ctl(*arguments, **more):
            return cluster.ctl(*arguments, **{"endpoints": asked, **more})

        def refused(*arguments, **more):
            done = ctl(*arguments, **more)
            assert done.returncode != 0, done.stdout
            return done.stderr

        assert "etcdserver: member not found" in refused("member", "remove", "1234")
        assert "etcdserver: member not found" in refused("member", "promote", "1234")
        assert "etcdserver: member not found" in refused(
            "member", "update", "1234", "--peer-urls=http://127.0.0.1:1")
        used = cluster.members[0].peer_url
        assert "etcdserver: Peer URLs already exists" in refused("member", "add", "x", f"--peer-urls={used}")
        second = id_of(cluster, "m2")
        assert "etcdserver: Peer URLs already exists" in refused(
            "member", "update", second, f"--peer-urls={used}")
        assert "etcdserver: can only promote a learner member" in refused("member", "promote", second)
        ctl("member", "add", "l1", "--peer-urls=http://127.0.0.1:1", "--learner", check=True)
        learner = id_of(cluster, "http://127.0.0.1:1")
        assert "etcdserver: too many learner members in cluster" in refused(
            "member", "add", "l2", "--peer-urls=http://127.0.0.1:2", "--learner")
        for member in cluster.members:
            assert "can only promote a learner member which is in sync with leader" in refused(
                "member", "promote", learner, endpoints=[member.endpoint])
        ctl("member", "remove", learner, check=True)
        # A removed id stays removed.
        assert "etcdserver: member not found" in refused("member", "remove", learner)
        ctl("member", "add", "m4", "--peer-urls=http://127.0.0.1:3", check=True)
        # Four voters, three started: a fifth would make three of five, a sixth is too much.
        ctl("member", "add", "m5", "--peer-urls=http://127.0.0.1:4", check=True)
        assert "re-configuration failed due to not enough started members" in refused(
            "member", "add", "m6", "--peer-urls=http://127.0.0.1:5")
        assert "re-configuration failed due to not enough started members" in refused(
            "member", "remove", second)


def test_unhealthy_cluster_is_not_changed():
    with Cluster() as cluster:
        done = cluster.ctl("member", "add", "x", "--peer-urls=http://127.0.0.1:1")
        assert "etcdserver: unhealthy cluster" in done.stderr
        time.sleep(5.5)
        victim, other = cluster.followers()
        victim.kill()
        time.sleep(0.5)
        asked = [cluster.leader().endpoint]
        done = cluster.ctl("member", "remove", id_of(cluster, other.name, asked), endpoints=asked)
        assert "etcdserver: unhealthy cluster" in done.stderr
        done = cluster.ctl("member", "add", "x", "--peer-urls=http://127.0.0.1:1", endpoints=asked)
        assert "etcdserver: unhealthy cluster" in done.stderr
        cluster.remove(victim.name, endpoints=asked)
        cluster.ctl("put", "k", "v", endpoints=asked, check=True)


def test_lax_check_lets_a_cluster_grow_at_once():
    with Cluster(flags=["--strict-reconfig-check=false"]) as cluster:
        cluster.ctl("member", "add", "x", "--peer-urls=http://127.0.0.1:1", check=True)
        done = cluster.ctl("member", "add", "y", "--peer-urls=http://127.0.0.1:2", check=True)
        assert "ETCD_NAME=\"y\"" in done.stdout


def test_answers(api):
    """What only the messages show: headers without revision, urls checked, the added member bare."""
    with Cluster(("apus",)) as cluster:
        cluster.ctl("put", "k", "v", check=True)
        stub = api.grpc.ClusterStub(grpc.insecure_channel(cluster.members[0].endpoint))
        for urls in ([], ["abc"], ["http://127.0.0.1"], ["http://127.0.0.1:1/p"], ["ftp://127.0.0.1:1"]):
            with pytest.raises(grpc.RpcError) as refused:
                stub.MemberAdd(api.rpc.MemberAddRequest(peerURLs=urls), timeout=5)
            assert refused.value.code() == grpc.StatusCode.INVALID_ARGUMENT
            assert refused.value.details() == "etcdserver: given member URLs are invalid"
        with pytest.raises(grpc.RpcError) as refused:
            stub.MemberRemove(
                api.rpc.MemberRemoveRequest(ID=stub.MemberList(api.rpc.MemberListRequest()).members[0].ID),
                timeout=5)
        assert refused.value.code() == grpc.StatusCode.UNKNOWN
        assert (refused.value.details()
                == "etcdserver: re-configuration failed due to not enough started members")
        answer = stub.MemberAdd(
            api.rpc.MemberAddRequest(peerURLs=["http://127.0.0.1:2", "http://127.0.0.1:1"], isLearner=True),
            timeout=5)
        assert answer.header.revision == 0 and answer.header.cluster_id and answer.header.raft_term
        assert answer.member.peerURLs == ["http://127.0.0.1:1", "http://127.0.0.1:2"]
        assert answer.member.isLearner and not answer.member.name and not answer.member.clientURLs
        assert [m.ID for m in answer.members] == sorted(m.ID for m in answer.members)
        assert answer.member.ID in [m.ID for m in answer.members]
        gone = stub.MemberRemove(api.rpc.MemberRemoveRequest(ID=answer.member.ID), timeout=5)
        assert [m.name for m in gone.members] == ["m1"] and gone.header.revision == 0


# --- learners ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("version", ["3.4", "3.5"])
def test_learner_is_added_and_promoted_through_a_follower(api, version):
    with Cluster() as cluster:
        for number in range(50):
            cluster.ctl("put", f"k{number}", "v", version=version, check=True)
        learner = cluster.add("apus", "m4", learner=True, version=version)
        learner.wait_ready()
        client = Client(api, learner.endpoint)
        assert client.get(b"k1", serializable=True).kvs[0].value == b"v"
        assert client.maintenance.Status(api.rpc.StatusRequest(), timeout=3).isLearner
        health = api.health_grpc.HealthStub(grpc.insecure_channel(learner.endpoint))
        stub = api.grpc.ClusterStub(grpc.insecure_channel(learner.endpoint))
        lease = api.grpc.LeaseStub(grpc.insecure_channel(learner.endpoint))
        for call in (
                lambda: client.get(b"k1"), lambda: client.put(b"k", b"v"),
                lambda: stub.MemberList(api.rpc.MemberListRequest(), timeout=3),
                lambda: lease.LeaseGrant(api.rpc.LeaseGrantRequest(TTL=10), timeout=3),
                lambda: health.Check(api.health.HealthCheckRequest(), timeout=3),
                lambda: client.maintenance.HashKV(api.rpc.HashKVRequest(), timeout=3)):
            with pytest.raises(grpc.RpcError) as refused:
                call()
            assert refused.value.details() == "etcdserver: rpc not supported for learner"
            assert refused.value.code() == grpc.StatusCode.FAILED_PRECONDITION
        follower = cluster.followers()[0]
        assert follower is not learner
        done = cluster.ctl("member", "promote", id_of(cluster, "m4", [follower.endpoint]),
                           endpoints=[follower.endpoint], version=version, check=True)
        assert "promoted in cluster" in done.stdout
        until(lambda: not Client(api, learner.endpoint).maintenance.Status(
            api.rpc.StatusRequest(), timeout=3).isLearner, what="promotion")
        client.put(b"k", b"v")
        expect_equal_hashes(api, cluster)
        # A voter counts: with one of four gone it is needed.
        leader = cluster.leader()
        leader.kill()
        until(lambda: cluster.ctl("put", "after", "1", "--command-timeout=2s", endpoints=[learner.endpoint])
              .returncode == 0, what="write")


def test_promotion_page():
    with Cluster(("apus",)) as cluster:
        member = cluster.members[0]

        def post(path):
            request = urllib.request.Request(f"{member.peer_url}{path}", method="POST", data=b"")
            try:
                with urllib.request.urlopen(request, timeout=5) as answer:
                    return answer.status, answer.read().decode()
            except urllib.error.HTTPError as error:
                return error.code, error.read().decode()

        own = members_page(member)[0]["id"]
        assert post("/members/promote/zz") == (404, "member zz not found in cluster\n")
        assert post("/members/promote/77") == (404, "etcdserver: member not found\n")
        assert post(f"/members/promote/{own}") == (412, "membership: can only promote a learner member\n")
        learner = cluster.add("apus", "m2", learner=True)
        learner.wait_ready()
        status, body = post(f"/members/promote/{next(m['id'] for m in members_page(member) if m['id'] != own)}")
        assert status == 200
        assert sorted(each["name"] for each in json.loads(body)) == ["m1", "m2"]
        assert not any(each.get("isLearner") for each in json.loads(body))


# --- replacing and moving ----------------------------------------------------------------------------


def test_dead_member_is_replaced(api):
    with Cluster() as cluster, Load(api, cluster) as load:
        time.sleep(1)
        dead = cluster.followers()[0]
        dead.kill()
        rest = [m.endpoint for m in cluster.members if m is not dead]
        cluster.remove(dead.name, endpoints=rest)
        new = cluster.add("apus", "m9")
        new.wait_ready()
        load.__exit__()
        load.expect_kept()
        expect_equal_hashes(api, cluster)
        expect_equal_lists(cluster)
        assert len(cluster.listed()) == 3


def test_wiped_member_does_not_come_back_under_its_id():
    with Cluster() as cluster:
        victim = cluster.followers()[0]
        victim.kill()
        shutil.rmtree(victim.data)
        for state in ("new", "existing"):
            victim.state = state
            victim.start()
            assert victim.process.wait(15) == 1
            assert "has already been bootstrapped" in victim.log_since_start()


def test_peer_url_is_updated(api):
    with Cluster() as cluster:
        moved = cluster.followers()[0]
        rest = [m.endpoint for m in cluster.members if m is not moved]
        member_id = id_of(cluster, moved.name)
        moved.stop()
        moved.peer_port = cluster.new_member("apus", "unused").peer_port
        done = cluster.ctl("member", "update", member_id, f"--peer-urls={moved.peer_url}", endpoints=rest,
                           check=True)
        assert "updated in cluster" in done.stdout
        cluster.ctl("put", "k", "v", endpoints=rest, check=True)
        moved.start()
        moved.wait_ready()
        cluster.ctl("put", "k2", "v", endpoints=[moved.endpoint], check=True)
        expect_equal_hashes(api, cluster)
        # The moved member is needed now.
        next(m for m in cluster.members if m is not moved).kill()
        until(lambda: cluster.ctl("put", "k3", "v", "--command-timeout=2s", endpoints=[moved.endpoint])
              .returncode == 0, what="write")


# --- joining refused ---------------------------------------------------------------------------------


def test_joining_refused():
    with Cluster(("apus",)) as cluster:
        first = cluster.members[0]
        stranger = cluster.new_member("apus", "x")
        stranger.state = "existing"

        def refused(initial_cluster):
            stranger.initial_cluster = initial_cluster
            stranger.start()
            assert stranger.process.wait(20) == 1
            return stranger.log_since_start()

        assert "member count is unequal" in refused(f"m1={first.peer_url},x={stranger.peer_url}")
        assert "couldn't find local name" in refused(f"m1={first.peer_url}")
        nobody = cluster.new_member("apus", "nobody").peer_url
        assert ("could not retrieve cluster information from the given URLs"
                in refused(f"m1={nobody},x={stranger.peer_url}"))
        other = cluster.new_member("apus", "other").peer_url
        cluster.ctl("member", "add", "y", f"--peer-urls={other}", check=True)
        log = refused(f"m1={first.peer_url},x={stranger.peer_url}")
        assert "no match found for existing member" in log


# --- beside etcd -------------------------------------------------------------------------------------


def test_apus_joins_etcd_and_etcd_joins_apus(api):
    with Cluster(("etcd35",)) as cluster:
        cluster.ctl("put", "k", "v", check=True)
        cluster.add("apus", "m2").wait_ready()
        cluster.add("etcd35", "m3").wait_ready()
        cluster.ctl("put", "k2", "v", endpoints=[cluster.members[1].endpoint], check=True)
        expect_equal_lists(cluster)
        expect_equal_hashes(api, cluster)
    with Cluster(("apus",), flags=["--snapshot-count", "100"]) as cluster:
        # A cluster version that etcd 3.5 can join: a 3.7 cluster is too new for it.
        done = cluster.new_member("etcd35", "m2")
        cluster.ctl("member", "add", "m2", f"--peer-urls={done.peer_url}", check=True)
        done.state = "existing"
        done.initial_cluster = f"m1={cluster.members[0].peer_url},m2={done.peer_url}"
        done.start()
        cluster.former.append(done)
        assert done.process.wait(20) != 0
        assert "incompatible with current running cluster" in done.log_text()


@pytest.mark.parametrize("leader_kind", ["etcd35", "apus"])
def test_etcd_joins_a_mixed_cluster(api, leader_kind):
    """A cluster at level 3.5 takes members of both kinds, by log and by snapshot."""
    flags = ["--snapshot-count", "200"]
    with Cluster(("etcd35", "apus", "apus"), flags=flags) as cluster:
        target = next(m for m in cluster.members if m.kind == leader_kind)
        if cluster.leader() is not target:
            cluster.ctl("move-leader", id_of(cluster, target.name), endpoints=[cluster.leader().endpoint],
                        check=True)
        client = Client(api, target.endpoint)
        for number in range(12_000 if leader_kind == "etcd35" else 3000):
            client.put(b"k%d" % (number % 100), b"%d" % number)
        time.sleep(2)
        cluster.add("etcd35", "e4", endpoints=[target.endpoint]).wait_ready(40)
        cluster.add("apus", "a5", endpoints=[target.endpoint]).wait_ready(40)
        assert cluster.leader() is target
        expect_equal_lists(cluster)
        expect_equal_hashes(api, cluster)
        for name in ("e4", "a5"):
            joined = next(m for m in cluster.members if m.name == name)
            joined.kill()
            joined.start()
            joined.wait_ready(40)
        expect_equal_lists(cluster)
        expect_equal_hashes(api, cluster)


def test_learner_of_apus_under_etcd_is_promoted_both_ways(api):
    with Cluster(("etcd35", "apus", "etcd35")) as cluster:
        learner = cluster.add("apus", "m4", learner=True)
        learner.wait_ready()
        for leads, asks in (("etcd35", "apus"), ("apus", "etcd35")):
            target = next(m for m in cluster.members if m.kind == leads and m is not learner)
            if cluster.leader() is not target:
                cluster.ctl("move-leader", id_of(cluster, target.name, [target.endpoint]),
                            endpoints=[cluster.leader().endpoint], check=True)
                until(lambda: cluster.leader() is target, what="leader")
            asked = next(m for m in cluster.members if m.kind == asks and m is not learner)
            other = cluster.ctl("member", "promote", "7777", endpoints=[asked.endpoint])
            assert "member not found" in other.stderr
            promoted = id_of(cluster, learner.name, [asked.endpoint])
            cluster.ctl("member", "promote", promoted, endpoints=[asked.endpoint], check=True)
            again = cluster.ctl("member", "promote", promoted, endpoints=[asked.endpoint])
            assert "can only promote a learner member" in again.stderr
            if leads == "etcd35":
                learner = cluster.add("apus", "m5", learner=True, endpoints=[target.endpoint])
                learner.wait_ready()
        expect_equal_lists(cluster)
        expect_equal_hashes(api, cluster)


@pytest.mark.parametrize("leads", ["etcd35", "apus"])
def test_members_of_either_kind_are_removed(leads):
    with Cluster(("etcd35", "apus", "apus", "etcd35")) as cluster:
        target = next(m for m in cluster.members if m.kind == leads)
        if cluster.leader() is not target:
            cluster.ctl("move-leader", id_of(cluster, target.name), endpoints=[cluster.leader().endpoint],
                        check=True)
        time.sleep(5.5)
        for kind in ("apus", "etcd35"):
            victim = next(m for m in cluster.members if m.kind == kind and m is not target)
            expect_removed(cluster.remove(victim.name, endpoints=[target.endpoint]), 10)
        cluster.ctl("put", "k", "v", check=True)


def promote(cluster, name, timeout=20):
    """As soon as the learner is in sync."""
    deadline = time.monotonic() + timeout
    endpoints = [m.endpoint for m in cluster.members if m.name != name]
    while True:
        done = cluster.ctl("member", "promote", id_of(cluster, name, endpoints), endpoints=endpoints)
        if done.returncode == 0:
            break
        assert "in sync" in done.stderr and time.monotonic() < deadline, done.stderr
        time.sleep(0.2)
    # It refuses calls until it has heard of its promotion.
    own = next(m.endpoint for m in cluster.members if m.name == name)
    until(lambda: cluster.ctl("member", "list", endpoints=[own]).returncode == 0, what="promotion")


def lead_elsewhere(cluster, member):
    """Moves leadership away from a member that is about to go: etcd waits for an election otherwise."""
    if cluster.leader() is member:
        target = next(m for m in cluster.members if m.kind == "apus")
        cluster.ctl("move-leader", id_of(cluster, target.name, [target.endpoint]), endpoints=[member.endpoint],
                    check=True)
        until(lambda: cluster.leader() is target, what="leader")


@pytest.mark.parametrize("kind", ["etcd34", "etcd35"])
@pytest.mark.parametrize("way", ["learner first", "remove first"])
def test_rolling_migration_from_etcd(api, way, kind):
    """Three members of etcd become three of Apus, one at a time, under load (docs/migration.md)."""
    with Cluster((kind, kind, kind)) as cluster, Load(api, cluster) as load:
        time.sleep(5.5)
        last = cluster.leader()
        order = [m for m in cluster.members if m is not last] + [last]
        for number, old in enumerate(order, 1):
            name = f"a{number}"
            if way == "learner first":
                cluster.add("apus", name, learner=True, endpoints=[last.endpoint], timeout=30).wait_ready(30)
                promote(cluster, name)
            if old is last:
                lead_elsewhere(cluster, old)
            rest = [m.endpoint for m in cluster.members if m is not old]
            expect_removed(cluster.remove(old.name, endpoints=rest), 15)
            if way == "remove first":
                cluster.add("apus", name, endpoints=rest, timeout=30).wait_ready(30)
        assert [m.kind for m in cluster.members] == ["apus"] * 3
        # Nobody of the old version is left: the leader raises the cluster's version.
        until(lambda: json.loads(urllib.request.urlopen(
            f"http://{cluster.members[0].endpoint}/version", timeout=5).read())["etcdcluster"] == "3.7.0",
            20, "cluster version 3.7.0")
        load.__exit__()
        load.expect_kept()
        expect_equal_hashes(api, cluster)
        expect_equal_lists(cluster)
        print(f"acknowledged {len(load.acknowledged)}, failed {load.failed}, longest gap {load.longest:.2f} s")
