"""TLS together with users: names in certificates, roles, tokens and their end, JSON and metrics over https."""

import base64
import json
import subprocess
import time

import grpc
import pytest

from certificates import Authority
from harness import Cluster, free_ports

EMPTY = "etcdserver: user name is empty"
DENIED = "etcdserver: permission denied"
IGNORED = "CommonName of client sending a request against gateway will be ignored and not used as expected"
INVALID = "etcdserver: invalid auth token"


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    authority = Authority(tmp_path_factory.mktemp("pki"))
    # etcd's own gateway is a client of the member under the server's certificate.
    authority.sign("server", common_name="localhost")
    for name in ("alice", "root", "nobody"):
        authority.sign(name)
    authority.sign("unnamed", common_name="")
    authority.sign("elsewhere", names="IP:127.0.0.9")
    return authority


@pytest.fixture(scope="module", params=["apus", "etcd35"])
def secured(request, authority):
    """Three members that take the name in a client's certificate for that of a user."""
    # Metrics ports cannot be told apart by flags that all members share.
    flags = [*authority.server_flags("server"), "--trusted-ca-file", authority.root, "--client-cert-auth",
             "--bcrypt-cost", "4"]
    cluster = Cluster([request.param] * 3, client_scheme="https", flags=flags, ctl_flags=authority.ctl_flags("root"))
    for member, port in zip(cluster.members, free_ports(3)):
        member.metrics_port = port
        member.flags = ["--listen-metrics-urls", f"https://127.0.0.1:{port}"]
    with cluster:
        for words in (["user", "add", "root:rootpw"], ["user", "grant-role", "root", "root"], ["user", "add", "alice:pw"],
                      ["role", "add", "app"], ["role", "grant-permission", "app", "readwrite", "app/", "--prefix"],
                      ["user", "grant-role", "alice", "app"], ["auth", "enable"]):
            cluster.ctl(*words, check=True)
        yield cluster


def call(cluster, authority, member, name, *words):
    """stdout, or the reason of the failure."""
    flags, cluster.ctl_flags = cluster.ctl_flags, authority.ctl_flags(name)
    try:
        done = cluster.ctl("--command-timeout=5s", *words, endpoints=[member.endpoint])
    finally:
        cluster.ctl_flags = flags
    return done.stdout if done.returncode == 0 else done.stderr.splitlines()[-1].removeprefix("Error: ")


def test_names_in_certificates_through_every_member(secured, authority):
    for member in secured.members:
        ask = lambda name, *words: call(secured, authority, member, name, *words)
        assert ask("alice", "put", "app/k", member.name) == "OK\n"
        assert ask("alice", "get", "app/k") == f"app/k\n{member.name}\n"
        assert ask("alice", "get", "other") == DENIED
        assert ask("alice", "put", "other", "x") == DENIED
        assert ask("alice", "get", "", "--prefix") == DENIED
        assert ask("alice", "user", "list") == DENIED
        assert ask("root", "put", "other", "x") == "OK\n"
        # A name that is no user's, and the right of a token over that of the certificate.
        assert ask("nobody", "get", "app/k") == DENIED
        assert ask("nobody", "--user", "alice:pw", "get", "app/k") == f"app/k\n{member.name}\n"
        assert ask("root", "--user", "alice:pw", "put", "other", "x") == DENIED
        assert ask("alice", "--user", "root:rootpw", "put", "other", "y") == "OK\n"


def curl(authority, name, url, body=None, *more):
    """The status and the body; (None, curl's words) if there was no answer."""
    data = ["-d", json.dumps(body)] if body is not None else []
    done = subprocess.run(
        ["curl", "-sS", "--max-time", "5", "-w", "\n%{http_code}", *authority.curl_flags(name), *data, *more, url],
        capture_output=True, text=True)
    text, _, code = done.stdout.rpartition("\n")
    return (int(code), text) if done.returncode == 0 else (None, done.stderr)


def b64(text):
    return base64.b64encode(text.encode()).decode()


@pytest.mark.parametrize("protocol", ["--http1.1", "--http2"])
def test_json_over_https(secured, authority, protocol):
    for member in secured.members:
        url = f"https://{member.endpoint}/v3"
        post = lambda name, path, body, *more: curl(authority, name, f"{url}/{path}", body, protocol, *more)
        key = {"key": b64("app/json"), "value": b64(member.name)}
        login = {"name": "alice", "password": "pw"}
        # The name in the certificate is not that of the caller here, and who counts on it is told so.
        for name, path, body in (("alice", "kv/put", key), ("root", "kv/put", key), ("alice", "auth/authenticate", login)):
            status, text = post(name, path, body)
            assert (status, text) == (400, IGNORED + "\n")
        status, text = post("unnamed", "kv/put", key)
        assert (status, json.loads(text)["message"]) == (400, EMPTY)
        status, text = post("unnamed", "auth/authenticate", login)
        assert status == 200, text
        token = ["-H", f"Authorization: {json.loads(text)['token']}"]
        assert post("unnamed", "kv/put", key, *token)[0] == 200
        status, text = post("unnamed", "kv/range", {"key": key["key"]}, *token)
        assert status == 200 and json.loads(text)["kvs"][0]["value"] == key["value"]
        status, text = post("unnamed", "kv/range", {"key": b64("other")}, *token)
        assert (status, json.loads(text)["message"]) == (403, DENIED)
        assert post("root", "kv/put", key, *token) == (400, IGNORED + "\n")
        status, text = post("unnamed", "kv/range", {"key": b64("app/k")}, "-H", "Authorization: made.up")
        assert (status, json.loads(text)["message"]) == (401, INVALID)
        assert post(None, "kv/range", {"key": b64("app/k")})[0] is None


def test_metrics_over_https(secured, authority):
    for member in secured.members:
        url = f"https://127.0.0.1:{member.metrics_port}"
        # Nobody has to be a user here; the certificate has to be a good one, and that of the address it comes from.
        status, text = curl(authority, "nobody", f"{url}/metrics")
        assert status == 200 and "etcd_server_has_leader 1" in text
        status, text = curl(authority, "nobody", f"{url}/health")
        assert status == 200 and json.loads(text)["health"] == "true"
        assert curl(authority, "nobody", f"{url}/version")[0] == 404
        assert curl(authority, None, f"{url}/metrics")[0] is None
        assert curl(authority, "elsewhere", f"{url}/metrics")[0] is None
        assert curl(authority, "nobody", f"http://127.0.0.1:{member.metrics_port}/metrics")[0] in (None, 400)


@pytest.mark.parametrize("kind", ["apus", "etcd35"])
def test_a_token_ends_at_every_member(api, authority, kind):
    rpc = api.rpc
    root, (certificate, key) = authority.root, authority.pair("nobody")
    read = lambda path: open(path, "rb").read()
    credentials = grpc.ssl_channel_credentials(read(root), read(key), read(certificate))
    flags = [*authority.server_flags("server"), "--trusted-ca-file", root, "--auth-token-ttl", "3", "--bcrypt-cost", "4"]
    with Cluster([kind] * 3, client_scheme="https", flags=flags, ctl_flags=authority.ctl_flags("nobody")) as cluster:
        for words in (["user", "add", "root:rootpw"], ["user", "grant-role", "root", "root"], ["auth", "enable"]):
            cluster.ctl(*words, check=True)
        channels = [grpc.secure_channel(member.endpoint, credentials) for member in cluster.members]
        token = api.grpc.AuthStub(channels[0]).Authenticate(rpc.AuthenticateRequest(name="root", password="rootpw")).token
        used = lambda channel: api.grpc.KVStub(channel).Range(
            rpc.RangeRequest(key=b"k"), metadata=[("token", token)], timeout=5)
        # Whoever uses it keeps it alive, at the member where it is used.
        until = time.monotonic() + 5
        while time.monotonic() < until:
            for channel in channels:
                used(channel)
            time.sleep(0.2)
        time.sleep(5)
        for channel in channels:
            with pytest.raises(grpc.RpcError) as refused:
                used(channel)
            assert (refused.value.code(), refused.value.details()) == (grpc.StatusCode.UNAUTHENTICATED, INVALID)
            channel.close()
