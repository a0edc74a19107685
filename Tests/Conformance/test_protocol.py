"""Below the services: unknown methods, broken messages, metadata, compression, deadlines, health."""

import grpc
from driver import Step, failure, plain


def test_unknown_methods(same):
    def scenario(s):
        for path in ("/etcdserverpb.KV/Nothing", "/etcdserverpb.Nothing/Range", "/x/y", "/x.Y/",
                     "/etcdserverpb.KV/", "/etcdserverpb.KV/range", "/etcdserverpb.kv/Range",
                     "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo", "/nothing"):
            s.raw(path, b"")
    same(scenario)


def test_broken_messages(same):
    def scenario(s):
        broken = [b"\x0a\x05ab", b"\xff\xff\xff", b"\x0a\xff\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01",
                  b"\x00", b"\x0a", b"\x0f", b"\x18\x80"]
        for body in broken:
            for path in ("KV/Range", "KV/Put", "KV/DeleteRange", "KV/Txn", "KV/Compact",
                         "Lease/LeaseGrant", "Maintenance/Alarm", "Cluster/MemberAdd"):
                s.raw(f"/etcdserverpb.{path}", body)
    same(scenario)


def test_odd_but_valid_messages(same):
    """Unknown fields, repeated scalars, wrong wire types of unknown fields, long varints."""
    def scenario(s):
        s.call("KV.Put", key=b"a", value=b"v")
        rpc = s.api.rpc
        for body in (b"\x0a\x01a\xa2\x06\x03xyz",  # an unknown bytes field
                     b"\x0a\x01b\x0a\x01a",  # the last one counts
                     b"\x0a\x01a\xa0\x06\x07",  # an unknown varint
                     b"\x0a\x01a\x48\x80\x80\x01",  # a bool that is not 0 or 1
                     b"\x0a\x01a\x18\x81\x80\x80\x80\x80\x80\x80\x80\x80\x01",
                     b"\x0a\x01a\xa3\x06\xa4\x06"):  # an unknown group
            call = s.channel.unary_unary("/etcdserverpb.KV/Range",
                                         response_deserializer=rpc.RangeResponse.FromString)
            try:
                outcome = plain(call(body, timeout=10), s.rename)
            except grpc.RpcError as error:
                outcome = failure(error)
            s.steps.append(Step("raw KV.Range", body, outcome))
    same(scenario)


def test_invalid_utf8(same):
    """A string field that is not UTF-8; keys and values are bytes and may be anything."""
    def scenario(s):
        s.raw("/etcdserverpb.Auth/Authenticate", b"\x0a\x02\xff\xfe")
        s.call("KV.Put", key=b"\xff\xfe\x00", value=b"\xc3\x28")
        s.call("KV.Range", key=b"\xff\xfe\x00")
    same(scenario)


def test_metadata(same):
    def scenario(s):
        for metadata in ((("hasleader", "true"),), (("hasleader", "false"),),
                         (("client-api-version", "3.7"),), (("x-any-bin", b"\0\1"),),
                         (("user-agent-extra", "y"), ("hasleader", "true"))):
            s.call("KV.Put", key=b"a", value=b"v", _metadata=metadata)
            s.call("KV.Range", key=b"a", _metadata=metadata)
            s.call("Cluster.MemberList", _metadata=metadata)
    same(scenario)


def test_tokens_while_auth_is_off(same):
    def scenario(s):
        for metadata in ((("token", "whatever"),), (("authorization", "Bearer x"),)):
            s.call("KV.Range", key=b"a", _metadata=metadata)
            s.call("KV.DeleteRange", key=b"a", _metadata=metadata)
            s.call("Cluster.MemberList", _metadata=metadata)
            w = s.watch(metadata=metadata)
            w.create(key=b"a")
    same(scenario)


def test_no_metadata_comes_back(same):
    def scenario(s):
        kv = s.stubs["KV"]
        _, call = kv.Put.with_call(s.api.rpc.PutRequest(key=b"a"), timeout=5)
        s.note("initial metadata", sorted(key for key, _ in call.initial_metadata()))
        s.note("trailing metadata", sorted(key for key, _ in call.trailing_metadata()))
    same(scenario)


def test_compression(same):
    def scenario(s):
        for algorithm in (grpc.Compression.Gzip, grpc.Compression.Deflate):
            s.call("KV.Put", key=b"z", value=b"v" * 5000, _compression=algorithm)
            s.call("KV.Range", key=b"z", _compression=algorithm)
    same(scenario)


def test_deadlines(same):
    def scenario(s):
        for timeout in (0.5, 5, 60, 7200, 10 ** 7):
            s.call("KV.Put", key=b"a", value=b"v", _timeout=timeout)
            s.call("KV.Range", key=b"a", _timeout=timeout)
    same(scenario)


def test_health(same):
    def scenario(s):
        health = s.api.health_grpc.HealthStub(s.channel)
        for name in ("", "etcdserverpb.KV", "nothing"):
            try:
                outcome = plain(health.Check(s.api.health.HealthCheckRequest(service=name), timeout=5), {})
            except grpc.RpcError as error:
                outcome = failure(error)
            s.steps.append(Step("Health.Check", name, outcome))
            call = health.Watch(s.api.health.HealthCheckRequest(service=name), timeout=5)
            try:
                outcome = plain(next(call), {})
            except grpc.RpcError as error:
                outcome = failure(error)
            call.cancel()
            s.steps.append(Step("Health.Watch", name, outcome))
    same(scenario)


def test_range_stream_is_new(same):
    """RangeStream exists since 3.7; its answers must add up to the unary one."""
    def scenario(s):
        for n in range(40):
            s.call("KV.Put", key=b"r%02d" % n, value=b"v" * n)
        rpc = s.api.rpc
        request = rpc.RangeRequest(key=b"r", range_end=b"s", limit=30)
        try:
            merged = rpc.RangeResponse()
            for part in s.stubs["KV"].RangeStream(request, timeout=5):
                merged.MergeFrom(part.range_response)
            outcome = {"merged": plain(merged, s.rename)}
            unary = s.stubs["KV"].Range(request, timeout=5)
            assert plain(unary, s.rename) == outcome["merged"]
        except grpc.RpcError as error:
            outcome = failure(error)
        s.steps.append(Step("KV.RangeStream", request, outcome))
    same(scenario)


def test_auth_while_off(same):
    """Every call of the Auth service on a server without users."""
    def scenario(s):
        rpc = s.api.rpc
        for name in ("AuthStatus", "UserList", "RoleList", "AuthDisable", "AuthEnable"):
            s.call(f"Auth.{name}")
        s.call("Auth.Authenticate", request=rpc.AuthenticateRequest(name="root", password="x"))
        s.call("Auth.Authenticate", request=rpc.AuthenticateRequest())
        for name, fields in (("UserAdd", {}), ("UserGet", {"name": "nobody"}),
                             ("UserDelete", {"name": "nobody"}),
                             ("UserChangePassword", {"name": "nobody", "password": "x"}),
                             ("UserGrantRole", {"user": "nobody", "role": "none"}),
                             ("UserRevokeRole", {"name": "nobody", "role": "none"}),
                             ("RoleAdd", {}), ("RoleGet", {"role": "none"}),
                             ("RoleDelete", {"role": "none"}),
                             ("RoleGrantPermission", {"name": "none"}),
                             ("RoleRevokePermission", {"role": "none", "key": b"a"})):
            s.call(f"Auth.{name}", **fields)
        s.call("KV.Put", key=b"a")
    same(scenario)
