"""Users and roles on real clusters, with the stock etcdctl."""

import contextlib
import json
import re
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

import protos
import pytest
from harness import BUILD, Cluster, free_ports

ROOT = ("--user", "root:rootpw")


def enable(cluster, version="3.5", **options):
    """Root, and `app`, who may read and write what begins with `app/`."""
    def ctl(*arguments):
        return cluster.ctl(*arguments, version=version, check=True, **options).stdout
    assert ctl("user", "add", "root:rootpw") == "User root created\n"
    assert ctl("auth", "enable") == "Authentication Enabled\n"
    assert ctl(*ROOT, "user", "add", "app:pw") == "User app created\n"
    ctl(*ROOT, "role", "add", "app")
    ctl(*ROOT, "role", "grant-permission", "app", "readwrite", "app/", "--prefix")
    ctl(*ROOT, "user", "grant-role", "app", "app")


def check_rights(cluster, endpoint, version="3.5"):
    def ctl(*arguments):
        return cluster.ctl(*arguments, endpoints=[endpoint], version=version)
    assert ctl("--user", "app:pw", "put", "app/k", "v").stdout == "OK\n"
    assert ctl("--user", "app:pw", "get", "app/k").stdout == "app/k\nv\n"
    for arguments, code, text in (
            (("--user", "app:pw", "get", "other"), 1, "Error: etcdserver: permission denied"),
            (("--user", "app:pw", "put", "other", "v"), 1, "Error: etcdserver: permission denied"),
            (("--user", "app:pw", "user", "list"), 1, "Error: etcdserver: permission denied"),
            (("get", "app/k"), 1, "Error: etcdserver: user name is empty"),
            (("--user", "app:no", "get", "app/k"), 2,
             "Error: etcdserver: authentication failed, invalid user ID or password")):
        done = ctl(*arguments)
        assert (done.returncode, done.stderr.splitlines()[-1]) == (code, text), (endpoint, arguments)


def test_every_member_every_client_restart_and_disable():
    with Cluster(flags=("--bcrypt-cost", "4")) as cluster:
        enable(cluster, endpoints=[cluster.endpoints[1]])
        for member in cluster.members:
            for version in ("3.4", "3.5"):
                check_rights(cluster, member.endpoint, version)
        # A token of one member is good at the others: the client goes round all three.
        for _ in range(3):
            assert cluster.ctl("--user", "app:pw", "get", "app/k", "-w", "simple",
                               check=True).stdout == "app/k\nv\n"
        for member in cluster.members:
            member.kill()
        cluster.start()
        for member in cluster.members:
            check_rights(cluster, member.endpoint)
        assert cluster.ctl(*ROOT, "auth", "disable", check=True).stdout == "Authentication Disabled\n"
        assert cluster.ctl("get", "app/k", check=True).stdout == "app/k\nv\n"


def test_a_lagging_member_gets_users_with_the_snapshot():
    flags = ("--bcrypt-cost", "4", "--snapshot-count", "50", "--experimental-snapshot-catchup-entries", "10")
    with Cluster(flags=flags) as cluster:
        late = cluster.followers()[0]
        late.stop()
        others = [m.endpoint for m in cluster.members if m is not late]
        enable(cluster, endpoints=others)
        for number in range(90):
            cluster.ctl(*ROOT, "put", f"k{number}", "v", endpoints=others[:1], check=True)
        late.start().wait_ready()
        late.wait_log("applied snapshot")
        check_rights(cluster, late.endpoint)


def test_saved_store_keeps_users_in_etcd_and_back(tmp_path):
    from harness import ETCDUTL
    file = tmp_path / "saved.db"
    with Cluster(("apus",), flags=("--bcrypt-cost", "4")) as cluster:
        enable(cluster)
        denied = cluster.ctl("--user", "app:pw", "snapshot", "save", str(file))
        assert denied.returncode == 5 and "permission denied" in denied.stderr
        cluster.ctl(*ROOT, "put", "app/k", "saved", check=True)
        cluster.ctl(*ROOT, "snapshot", "save", str(file), check=True)
    with Cluster(("etcd35",)) as etcd:
        member = etcd.members[0]
        member.kill()
        subprocess.run(["rm", "-rf", str(member.data)], check=True)
        subprocess.run(
            [str(ETCDUTL), "snapshot", "restore", str(file), "--data-dir", str(member.data),
             "--name", member.name, "--initial-cluster", etcd.initial_cluster,
             "--initial-advertise-peer-urls", member.peer_url, "--initial-cluster-token", "test"],
            check=True, capture_output=True)
        member.start().wait_ready()
        check_rights(etcd, member.endpoint)


@pytest.mark.parametrize("old", ("etcd34", "etcd35"))
def test_users_beside_etcd(old):
    """Entries of either kind of member mean the same on both."""
    version = {"etcd34": "3.4", "etcd35": "3.5"}[old]
    with Cluster((old, old, "apus")) as cluster:
        enable(cluster, version=version, endpoints=[cluster.endpoints[2]])
        for member in cluster.members:
            check_rights(cluster, member.endpoint, version)
        # A user made by etcd, and a password changed by it.
        etcd, apus = cluster.endpoints[0], cluster.endpoints[2]
        cluster.ctl(*ROOT, "user", "add", "two:x", endpoints=[etcd], version=version, check=True)
        cluster.ctl(*ROOT, "user", "grant-role", "two", "app", endpoints=[apus], version=version,
                    check=True)
        for endpoint in cluster.endpoints:
            done = cluster.ctl("--user", "two:x", "put", "app/two", endpoint, endpoints=[endpoint],
                               version=version)
            assert done.stdout == "OK\n", done.stderr
        cluster.ctl(*ROOT, "user", "delete", "two", endpoints=[apus], version=version, check=True)
        done = cluster.ctl("--user", "two:x", "get", "app/two", endpoints=[etcd], version=version)
        assert done.returncode == 2
        # The token that one member gives is good at the others, in whatever way they count.
        for giver in cluster.endpoints:
            token = login(giver)
            for taker in cluster.endpoints:
                put(taker, token)
        hashes = {cluster.ctl(*ROOT, "endpoint", "hashkv", endpoints=[e], version=version,
                              check=True).stdout.split()[-1] for e in cluster.endpoints}
        assert len(hashes) == 1


def test_logins_do_not_hold_up_writes():
    with Cluster(("apus",)) as cluster:
        enable(cluster)
        token = login(cluster.endpoints[0])
        slow, failures = [], []

        def storm(number):
            try:
                # Each wrong one is a hash of its own; the right one is compared once for all that wait.
                login(cluster.endpoints[0], password="pw" if number % 2 else f"wrong{number}")
            except Exception as error:  # noqa: BLE001
                if "authentication failed" not in str(error):
                    failures.append(error)
        threads = [threading.Thread(target=storm, args=(n,)) for n in range(200)]
        for thread in threads:
            thread.start()
        puts = 0
        deadline = time.monotonic() + 60
        while any(thread.is_alive() for thread in threads) and time.monotonic() < deadline:
            began = time.monotonic()
            put(cluster.endpoints[0], token)
            puts += 1
            slow.append(time.monotonic() - began)
        for thread in threads:
            thread.join(30)
        assert not failures
        # A hash takes some 50 ms; a hundred of them on the loop would be 5 s.
        assert max(slow) < 2 and puts > 20, (max(slow), puts)


def login(endpoint, name="app", password="pw"):
    import grpc
    api = protos.load()
    with grpc.insecure_channel(endpoint) as channel:
        return api.grpc.AuthStub(channel).Authenticate(
            api.rpc.AuthenticateRequest(name=name, password=password), timeout=60).token


def put(endpoint, token):
    import grpc
    api = protos.load()
    with grpc.insecure_channel(endpoint) as channel:
        api.grpc.KVStub(channel).Put(api.rpc.PutRequest(key=b"app/k"), metadata=(("token", token),),
                                     timeout=30)


def test_signed_tokens(tmp_path):
    key, public = tmp_path / "key.pem", tmp_path / "key.pub"
    subprocess.run(["openssl", "genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256",
                    "-out", str(key)], check=True, capture_output=True)
    subprocess.run(["openssl", "pkey", "-in", str(key), "-pubout", "-out", str(public)], check=True)
    option = f"jwt,pub-key={public},priv-key={key},sign-method=ES256,ttl=5m"
    with Cluster(flags=("--auth-token", option, "--bcrypt-cost", "4")) as cluster:
        enable(cluster)
        for member in cluster.members:
            check_rights(cluster, member.endpoint)
        token = login(cluster.endpoints[0])
        assert token.count(".") == 2
        for member in cluster.members:
            member.kill()
        cluster.start()
        # It outlives the process that signed it, until users or roles change.
        put(cluster.endpoints[1], token)
        cluster.ctl(*ROOT, "user", "add", "more:x", check=True)
        with pytest.raises(Exception, match="revision of auth store is old"):
            put(cluster.endpoints[1], token)


def test_json_calls_carry_the_token():
    with Cluster(("apus",), flags=("--bcrypt-cost", "4")) as cluster:
        enable(cluster)

        def post(path, body, **headers):
            request = urllib.request.Request(
                f"http://{cluster.endpoints[0]}/v3/{path}", json.dumps(body).encode(), headers)
            try:
                with urllib.request.urlopen(request, timeout=10) as answer:
                    return answer.status, json.load(answer)
            except urllib.error.HTTPError as error:
                return error.code, json.load(error)["message"]
        status, answer = post("auth/authenticate", {"name": "app", "password": "pw"})
        assert status == 200
        token = answer["token"]
        key = {"key": "YXBwL2s="}
        for text in (token, f"Bearer {token}"):
            assert post("kv/put", key, Authorization=text)[0] == 200
            assert post("kv/range", key, Authorization=text)[1]["count"] == "1"
        assert post("kv/range", {"key": "eg=="}, Authorization=token) == (403, "etcdserver: permission denied")
        assert post("kv/range", key) == (400, "etcdserver: user name is empty")
        assert post("kv/range", key, Authorization="x.1") == (401, "etcdserver: invalid auth token")
        assert post("auth/authenticate", {"name": "app", "password": "no"}) == (
            400, "etcdserver: authentication failed, invalid user ID or password")


@pytest.mark.parametrize("option, text", (
    ("jwt", "auth: invalid auth options"), ("opaque", "auth: invalid auth options"),
    ("jwt,sign-method=HS256", "auth: missing key data")))
def test_bad_token_options_end_the_start(option, text):
    cluster = Cluster(("apus",), flags=("--auth-token", option))
    try:
        member = cluster.members[0].start()
        assert member.process.wait(10) == 1
        assert text in member.log_text()
    finally:
        cluster.__exit__()


def test_apusctl():
    with Cluster(("apus",), flags=("--bcrypt-cost", "4")) as cluster:
        def both(*arguments, stdin=None):
            """The same words to both programs: the same output, the same end."""
            mine = subprocess.run([str(BUILD / "apusctl"), "--endpoints", cluster.endpoints[0],
                                   *arguments], input=stdin, capture_output=True, text=True,
                                  errors="replace", timeout=30, env={"PATH": "/usr/bin:/bin"})
            theirs = cluster.ctl(*arguments, stdin=stdin)
            assert (mine.returncode, mine.stdout) == (theirs.returncode, theirs.stdout), arguments
            if mine.returncode:
                assert mine.stderr.splitlines()[-1] == theirs.stderr.splitlines()[-1], arguments
            return mine

        def apusctl(*arguments, stdin=None):
            return subprocess.run([str(BUILD / "apusctl"), "--endpoints", cluster.endpoints[0],
                                   *arguments], input=stdin, capture_output=True, text=True,
                                  timeout=30, env={"PATH": "/usr/bin:/bin"})
        assert both("auth", "enable").returncode == 1
        assert apusctl("user", "add", "u1:p1").stdout == "User u1 created\n"
        assert apusctl("user", "add", "u2", "--interactive=false", stdin="secret\n").stdout \
            == "User u2 created\n"
        asked = apusctl("user", "add", "u3", stdin="a\na\n")
        assert asked.stdout == ("Password of u3: \nType password of u3 again for confirmation: \n"
                                "User u3 created\n")
        assert apusctl("role", "add", "r1").stdout == "Role r1 created\n"
        for words in (("read", "foo"), ("write", "foo2", "fooz"), ("read", "k", "--from-key"),
                      ("readwrite", "pre/", "--prefix"), ("read", "", "--prefix")):
            assert both("role", "grant-permission", "r1", *words).stdout == "Role r1 updated\n"
        both("role", "get", "r1")
        for form in ("json", "fields", "table"):
            both("role", "get", "r1", "-w", form)
        both("role", "list")
        both("role", "list", "-w", "fields")
        both("user", "grant-role", "u1", "r1")
        both("user", "get", "u1")
        both("user", "get", "u1", "--detail")
        both("user", "get", "u1", "-w", "fields")
        both("user", "list")
        both("user", "get", "nobody")
        both("role", "get", "nothing")
        both("role", "revoke-permission", "r1", "nothing")
        assert apusctl("role", "revoke-permission", "r1", "foo").stdout \
            == "Permission of key foo is revoked from role r1\n"
        assert apusctl("role", "revoke-permission", "r1", "pre/", "--prefix").stdout \
            == "Permission of range [pre/, pre0) is revoked from role r1\n"
        assert apusctl("role", "revoke-permission", "r1", "k", "--from-key").stdout \
            == "Permission of range [k, <open ended> is revoked from role r1\n"
        assert apusctl("user", "add", "root:rootpw").returncode == 0
        assert apusctl("auth", "enable").stdout == "Authentication Enabled\n"
        both("get", "k")
        both(*ROOT, "auth", "status")
        both(*ROOT, "auth", "status", "-w", "json")
        both("--user", "root:bad", "get", "k")
        both("--user", "u1:p1", "get", "zzz")
        both("--user", "root", "--password", "rootpw", "put", "k", "v")
        both("--user", "root", "get", "k", stdin="rootpw\n")
        assert both("--user", "u1:p1", "get", "k").returncode == 0
        assert both("--user", "u1:p1", "put", "k", "w").returncode == 1
        assert apusctl(*ROOT, "user", "passwd", "u1", "--interactive=false", stdin="p2\n").stdout \
            == "Password updated\n"
        assert apusctl("--user", "u1:p2", "put", "foo2", "v").returncode == 0
        assert apusctl(*ROOT, "user", "revoke-role", "u1", "r1").stdout \
            == "Role r1 is revoked from user u1\n"
        assert apusctl(*ROOT, "role", "delete", "r1").stdout == "Role r1 deleted\n"
        assert apusctl(*ROOT, "user", "delete", "u1").stdout == "User u1 deleted\n"
        assert apusctl(*ROOT, "auth", "disable").stdout == "Authentication Disabled\n"
        assert both("auth", "status").stdout.startswith("Authentication Status: false\nAuthRevision: ")


class Forwarder:
    """Passes connections on to another port, and keeps what those say who open them."""

    def __init__(self, port, target):
        self.target, self.said, self.sockets = target, bytearray(), []
        self.listener = socket.create_server(("127.0.0.1", port))
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        with contextlib.suppress(OSError):
            while True:
                near, _ = self.listener.accept()
                try:
                    far = socket.create_connection(("127.0.0.1", self.target))
                except OSError:
                    near.close()
                    continue
                self.sockets += [near, far]
                threading.Thread(target=self.pump, args=(near, far, self.said), daemon=True).start()
                threading.Thread(target=self.pump, args=(far, near, None), daemon=True).start()

    def pump(self, source, target, record):
        with contextlib.suppress(OSError):
            while data := source.recv(65536):
                if record is not None:
                    record += data
                target.sendall(data)
        for each in (source, target):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)

    def close(self):
        for each in (self.listener, *self.sockets):
            each.close()


def test_a_promotion_takes_its_token_along():
    """A follower asks the leader in the name of the caller."""
    cluster = Cluster(flags=("--bcrypt-cost", "4"))
    forwarders = []
    for member in cluster.members:
        port = free_ports(1)[0]
        member.flags = ["--listen-peer-urls", f"http://127.0.0.1:{port}"]
        forwarders.append(Forwarder(member.peer_port, port))
    try:
        with cluster:
            enable(cluster)
            cluster.ctl_flags = list(ROOT)
            follower, leader = cluster.followers()[0], cluster.leader()
            learner = cluster.add("apus", "learner", learner=True, endpoints=[leader.endpoint])
            learner.wait_ready()
            number = f"{cluster.listed(cluster.endpoints[:3])['learner']['ID']:x}"
            cluster.ctl_flags = []
            ask = lambda *user: cluster.ctl(*user, "member", "promote", number, endpoints=[follower.endpoint])
            assert "user name is empty" in ask().stderr
            assert "permission denied" in ask("--user", "app:pw").stderr
            said = forwarders[cluster.members.index(leader)].said
            assert b"/members/promote/" not in said
            deadline = time.monotonic() + 15
            while (done := ask(*ROOT)).returncode:
                assert "in sync with leader" in done.stderr and time.monotonic() < deadline, done.stderr
                time.sleep(0.3)
            head = bytes(said).rpartition(b"POST /members/promote/")[2].partition(b"\r\n\r\n")[0]
            assert re.search(rb"\r\nAuthorization: [a-zA-Z]{16}\.\d+(\r\n|$)", head), head
    finally:
        for each in forwarders:
            each.close()
