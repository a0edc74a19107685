"""Users and roles: every call of the Auth service, and what it means for all the others."""

import grpc
import pytest

R, W, RW = 0, 1, 2
USERS = ("app", "reader", "bare")


def permission(s, kind, key, end=b""):
    return s.api.auth.Permission(permType=kind, key=key, range_end=end)


def roles(s):
    """Users with roles and permissions of every kind; authentication stays off."""
    s.call("Auth.UserAdd", name="root", password="rootpw")
    for name in USERS:
        s.call("Auth.UserAdd", name=name, password=f"{name}-pw")
    for name in ("app", "reader", "empty"):
        s.call("Auth.RoleAdd", name=name)
    s.call("Auth.UserGrantRole", user="root", role="root")
    s.call("Auth.UserGrantRole", user="app", role="app")
    s.call("Auth.UserGrantRole", user="reader", role="reader")
    for name, perm in (("app", (RW, b"a/", b"a0")), ("app", (W, b"w")), ("app", (R, b"r1", b"r5")),
                       ("app", (R, b"r5", b"r9")), ("reader", (R, b"a/", b"a0")),
                       ("reader", (R, b"x", b"\0"))):
        s.call("Auth.RoleGrantPermission", name=name, perm=permission(s, *perm))


def login(s, name, password):
    answer = s.stubs["Auth"].Authenticate(
        s.api.rpc.AuthenticateRequest(name=name, password=password), timeout=10)
    return (("token", answer.token),)


def cleanup(s, token=()):
    """Takes everything back; answers are not compared."""
    try:
        s.stubs["Auth"].AuthDisable(s.api.rpc.AuthDisableRequest(), metadata=token)
    except grpc.RpcError:  # It is off, and etcd does not know the token any more.
        pass
    for name in ("root", *USERS, "new", "late", "cn"):
        try:
            s.stubs["Auth"].UserDelete(s.api.rpc.AuthUserDeleteRequest(name=name))
        except grpc.RpcError:
            pass
    for name in ("app", "reader", "empty", "root", "r"):
        try:
            s.stubs["Auth"].RoleDelete(s.api.rpc.AuthRoleDeleteRequest(role=name))
        except grpc.RpcError:
            pass


def test_management_while_off(same):
    def scenario(s):
        rpc = s.api.rpc
        roles(s)
        for name in ("AuthStatus", "UserList", "RoleList"):
            s.call(f"Auth.{name}")
        for name in ("root", "app", "bare", "nobody", ""):
            s.call("Auth.UserGet", name=name)
        for name in ("app", "reader", "empty", "root", "none", ""):
            s.call("Auth.RoleGet", role=name)
        s.call("Auth.UserAdd", name="app", password="x")
        s.call("Auth.UserAdd", name="", password="x")
        s.call("Auth.RoleAdd", name="app")
        s.call("Auth.UserAdd", name="cn", options=s.api.auth.UserAddOptions(no_password=True))
        s.call("Auth.UserGrantRole", user="app", role="app")
        s.call("Auth.UserGrantRole", user="app", role="none")
        s.call("Auth.UserRevokeRole", name="app", role="reader")
        s.call("Auth.UserGrantRole", user="bare", role="root")
        s.call("Auth.UserGet", name="bare")
        s.call("Auth.UserRevokeRole", name="bare", role="root")
        s.call("Auth.RoleGrantPermission", name="app", perm=permission(s, R, b"a/", b"a0"))
        s.call("Auth.RoleGrantPermission", name="none", perm=permission(s, R, b"a"))
        s.call("Auth.RoleRevokePermission", role="app", key=b"a/")
        s.call("Auth.RoleRevokePermission", role="app", key=b"a/", range_end=b"a0")
        s.call("Auth.RoleGet", role="app")
        s.call("Auth.RoleDelete", role="reader")
        s.call("Auth.UserGet", name="reader")
        s.call("Auth.UserDelete", name="reader")
        s.call("Auth.UserDelete", name="reader")
        s.call("Auth.UserChangePassword", name="reader", password="x")
        s.call("Auth.UserChangePassword", name="app", password="y")
        s.call("Auth.AuthStatus")
        s.call("Auth.RoleAdd", name="root")
        s.call("Auth.RoleGet", role="root")
        s.call("Auth.Authenticate", request=rpc.AuthenticateRequest(name="root", password="rootpw"))
        s.call("Auth.UserDelete", name="root")
        s.call("Auth.AuthEnable")
        s.call("Auth.UserAdd", name="root", password="rootpw")
        s.call("Auth.AuthEnable")
        cleanup(s)
    same(scenario)


def test_logins(same):
    def scenario(s):
        rpc = s.api.rpc
        roles(s)
        s.call("Auth.UserAdd", name="cn", options=s.api.auth.UserAddOptions(no_password=True))
        s.call("Auth.AuthEnable")
        s.call("Auth.AuthEnable")
        for name, password in (("root", "wrong"), ("root", ""), ("nobody", "x"), ("", ""),
                               ("cn", ""), ("cn", "x"), ("app", "app-pw ")):
            s.call("Auth.Authenticate",
                   request=rpc.AuthenticateRequest(name=name, password=password))
        root = login(s, "root", "rootpw")
        token = root[0][1]
        letters, number = token.split(".")
        s.note("token", (len(letters), letters.isalpha(), number.isdigit()))
        for name in ("token", "authorization"):
            s.call("Auth.UserList", _metadata=((name, token),))
        for bad in ("", "x", "x.1", "a.b.c", letters + ".1", letters):
            s.call("KV.Range", key=b"k", _metadata=(("token", bad),))
        s.call("KV.Put", key=b"k", _metadata=(("token", "x.1"),))
        # The one kind of metadata counts before the other.
        s.call("KV.Put", key=b"k", _metadata=(("token", token), ("authorization", "x")))
        s.call("KV.Put", key=b"k", _metadata=(("authorization", token), ("token", "x")))
        app = login(s, "app", "app-pw")
        s.call("KV.Put", key=b"a/1", _metadata=app)
        s.call("Auth.UserChangePassword", name="app", password="new", _metadata=app)
        s.call("Auth.UserChangePassword", name="app", password="new", _metadata=root)
        s.call("KV.Put", key=b"a/1", _metadata=app)
        s.call("Auth.Authenticate", request=rpc.AuthenticateRequest(name="app", password="app-pw"))
        app = login(s, "app", "new")
        s.call("KV.Put", key=b"a/1", _metadata=app)
        s.call("Auth.UserDelete", name="app", _metadata=root)
        s.call("KV.Put", key=b"a/1", _metadata=app)
        s.call("Auth.UserDelete", name="root", _metadata=root)
        s.call("Auth.UserRevokeRole", name="root", role="root", _metadata=root)
        s.call("Auth.RoleDelete", role="root", _metadata=root)
        s.call("Auth.AuthDisable")
        s.call("Auth.AuthDisable", _metadata=login(s, "reader", "reader-pw"))
        s.call("Auth.AuthDisable", _metadata=root)
        cleanup(s, root)
        s.call("Auth.AuthDisable")
        s.call("Auth.AuthStatus")
    same(scenario)


def test_long_passwords(same):
    def scenario(s):
        s.call("Auth.UserAdd", name="late", password="x" * 72)
        s.call("Auth.UserAdd", name="new", password="")
        s.call("Auth.UserDelete", name="late")
        s.call("Auth.UserDelete", name="new")
    same(scenario)


def test_rights_to_keys(same):
    def scenario(s):
        rpc = s.api.rpc
        roles(s)
        for key in (b"a/1", b"a/2", b"w", b"r3", b"x1", b"other"):
            s.call("KV.Put", key=key, value=b"v")
        s.call("Auth.AuthEnable")
        root = login(s, "root", "rootpw")
        callers = {"root": root, "app": login(s, "app", "app-pw"),
                   "reader": login(s, "reader", "reader-pw"), "bare": login(s, "bare", "bare-pw"),
                   "nobody": ()}
        put, rng = rpc.PutRequest, rpc.RangeRequest
        for name, token in callers.items():
            for key in (b"a/1", b"a", b"w", b"r3", b"x1", b"other", b""):
                s.call("KV.Range", key=key, _metadata=token)
                s.call("KV.Range", key=key, serializable=True, _metadata=token)
                s.call("KV.Put", key=key, value=b"n", _metadata=token)
                s.call("KV.Put", key=key, value=b"n", prev_kv=True, _metadata=token)
            for key, end in ((b"a/", b"a0"), (b"a/1", b"a/2"), (b"a", b"b"), (b"r1", b"r9"),
                             (b"r1", b"r5"), (b"r1", b"rz"), (b"x", b"\0"), (b"x1", b"x5"),
                             (b"\0", b"\0"), (b"a/5", b"a/2"), (b"w", b"w\0")):
                s.call("KV.Range", key=key, range_end=end, _metadata=token)
                s.call("KV.DeleteRange", key=key + b"zz", range_end=end, _metadata=token)
            s.call("KV.DeleteRange", key=b"w", prev_kv=True, _metadata=token)
            s.call("KV.DeleteRange", key=b"w", _metadata=token)
            compare = rpc.Compare(key=b"a/1", target=1, result=1, create_revision=0)
            for txn in (dict(compare=[compare]),
                        dict(compare=[compare], success=[rpc.RequestOp(request_range=rng(key=b"a/1"))]),
                        dict(compare=[compare], success=[rpc.RequestOp(request_put=put(key=b"a/1"))],
                             failure=[rpc.RequestOp(request_put=put(key=b"w"))]),
                        dict(success=[rpc.RequestOp(request_put=put(key=b"a/1"))],
                             failure=[rpc.RequestOp(request_put=put(key=b"x1"))]),
                        dict(compare=[rpc.Compare(key=b"a/", range_end=b"a0", target=0, result=1)],
                             success=[rpc.RequestOp(request_put=put(key=b"w"))]),
                        dict(compare=[rpc.Compare(key=b"w")],
                             success=[rpc.RequestOp(request_put=put(key=b"w"))])):
                s.call("KV.Txn", _metadata=token, **txn)
        cleanup(s, root)
    same(scenario)


def test_nested_transactions_and_previous_values(same):
    """What CVE-2026-33343 and later releases are about: older ones do not look into these."""
    def scenario(s):
        rpc = s.api.rpc
        roles(s)
        s.call("Auth.AuthEnable")
        root = login(s, "root", "rootpw")
        app = login(s, "app", "app-pw")
        for number in (77, 78):
            s.stubs["Lease"].LeaseGrant(rpc.LeaseGrantRequest(TTL=600, ID=number), metadata=root)
            s.call("KV.Put", key=b"other%d" % number, lease=number, _metadata=root)
        nested = rpc.TxnRequest(success=[rpc.RequestOp(request_put=rpc.PutRequest(key=b"nested"))])
        own = rpc.TxnRequest(success=[rpc.RequestOp(request_put=rpc.PutRequest(key=b"a/1"))])
        s.call("KV.Txn", success=[rpc.RequestOp(request_txn=own)], _metadata=app)
        s.call("KV.Txn", success=[rpc.RequestOp(request_txn=nested)], _metadata=app)
        s.call("KV.Txn", success=[rpc.RequestOp(
            request_put=rpc.PutRequest(key=b"w", prev_kv=True))], _metadata=app)
        s.call("KV.Txn", success=[rpc.RequestOp(
            request_put=rpc.PutRequest(key=b"a/1", lease=78))], _metadata=app)
        for name, fields in (("KV.Put", dict(key=b"a/1", lease=77)), ("Lease.LeaseRevoke", dict(ID=77)),
                             ("Lease.LeaseRevoke", dict(ID=78))):
            s.call(name, _metadata=app, **fields)
        cleanup(s, root)
        for number in (77, 78):
            s.stubs["Lease"].LeaseRevoke(rpc.LeaseRevokeRequest(ID=number))
    same(scenario, level=False)


def test_leases(same):
    def scenario(s):
        rpc = s.api.rpc
        roles(s)
        s.call("Auth.AuthEnable")
        root = login(s, "root", "rootpw")
        app, bare = login(s, "app", "app-pw"), login(s, "bare", "bare-pw")
        for token in (root, app, bare, ()):
            s.call("Lease.LeaseGrant", TTL=600, ID=len(s.steps), _metadata=token)
        for number, key in ((501, b"a/1"), (502, b"other"), (503, b"")):
            s.call("Lease.LeaseGrant", TTL=600, ID=number, _metadata=root)
            if key:
                s.call("KV.Put", key=key, lease=number, _metadata=root)
        for token in (app, bare, root):
            for number in (501, 502, 503, 999):
                s.call("Lease.LeaseTimeToLive", ID=number, _metadata=token)
                s.call("Lease.LeaseTimeToLive", ID=number, keys=True, _metadata=token)
        for token in (bare, app, root):
            for number in (502, 501, 999):
                s.call("Lease.LeaseRevoke", ID=number, _metadata=token)
        cleanup(s, root)
        for lease in s.stubs["Lease"].LeaseLeases(rpc.LeaseLeasesRequest()).leases:
            s.stubs["Lease"].LeaseRevoke(rpc.LeaseRevokeRequest(ID=lease.ID))
    same(scenario)


def test_watches(same):
    def scenario(s):
        roles(s)
        s.call("Auth.AuthEnable")
        root = login(s, "root", "rootpw")
        for token in (root, login(s, "app", "app-pw"), login(s, "bare", "bare-pw"), (),
                      (("token", "x.1"),)):
            w = s.watch(metadata=token)
            for key, end in ((b"a/1", b""), (b"a/", b"a0"), (b"a", b"b"), (b"other", b""),
                             (b"r1", b"r9")):
                w.create(key=key, range_end=end)
        # Rights are looked at when a watch begins, not later.
        w = s.watch(metadata=login(s, "app", "app-pw"))
        watch_id = w.create(key=b"a/", range_end=b"a0")
        s.call("Auth.UserRevokeRole", name="app", role="app", _metadata=root)
        s.call("KV.Put", key=b"a/9", value=b"v", _metadata=root)
        w.take(watch_id, 1)
        w.create(key=b"a/", range_end=b"a0")
        cleanup(s, root)
    same(scenario)


def test_what_only_root_may(same):
    """Calls that older releases leave open are in the table of differences."""
    def scenario(s):
        roles(s)
        s.call("KV.Put", key=b"k")
        s.call("Auth.AuthEnable")
        root = login(s, "root", "rootpw")
        app = login(s, "app", "app-pw")
        for token in (app, (), (("token", "x.1"),)):
            for name in ("UserList", "RoleList", "AuthDisable", "AuthEnable"):
                s.call(f"Auth.{name}", _metadata=token)
            s.call("Auth.UserAdd", name="new", password="x", _metadata=token)
            s.call("Auth.UserDelete", name="app", _metadata=token)
            s.call("Auth.UserGrantRole", user="app", role="reader", _metadata=token)
            s.call("Auth.UserRevokeRole", name="app", role="app", _metadata=token)
            s.call("Auth.RoleAdd", name="r", _metadata=token)
            s.call("Auth.RoleDelete", role="app", _metadata=token)
            s.call("Auth.RoleGrantPermission", name="app", perm=permission(s, R, b"z"),
                   _metadata=token)
            s.call("Auth.RoleRevokePermission", role="app", key=b"w", _metadata=token)
            s.call("Auth.UserGet", name="app", _metadata=token)
            s.call("Auth.UserGet", name="root", _metadata=token)
            s.call("Auth.RoleGet", role="app", _metadata=token)
            s.call("Auth.RoleGet", role="reader", _metadata=token)
            s.call("Maintenance.Defragment", _metadata=token)
            s.call("Maintenance.Hash", _metadata=token)
            s.call("Maintenance.HashKV", _metadata=token)
            s.call("Maintenance.Alarm", action=1, alarm=1, memberID=1, _metadata=token)
            s.call("Maintenance.Alarm", action=2, alarm=1, memberID=1, _metadata=token)
            s.call("Maintenance.Alarm", _metadata=token)
            s.call("Maintenance.Status", _metadata=token)
            s.call("Maintenance.MoveLeader", targetID=1, _metadata=token)
            s.call("Cluster.MemberList", _metadata=token)
            s.call("Cluster.MemberRemove", ID=1, _metadata=token)
            s.call("Cluster.MemberUpdate", ID=1, peerURLs=["http://127.0.0.1:1"], _metadata=token)
            s.call("Cluster.MemberPromote", ID=1, _metadata=token)
            s.call("KV.Compact", revision=0, _metadata=token)
            s.call("Lease.LeaseLeases", _metadata=token)
            s.call("Auth.AuthStatus", _metadata=token)
        s.call("Auth.AuthStatus", _metadata=root)
        s.call("Auth.UserList", _metadata=root)
        s.call("Auth.RoleList", _metadata=root)
        cleanup(s, root)
    same(scenario, level=False)


def test_what_permissions_may_name(same):
    def scenario(s):
        s.call("Auth.RoleAdd", name="r")
        for key, end in ((b"k", b""), (b"k", b"\0"), (b"\0", b"\0"), (b"k", b"l"), (b"k", b"")):
            s.call("Auth.RoleGrantPermission", name="r", perm=permission(s, W, key, end))
        s.call("Auth.RoleGet", role="r")
        for key, end in ((b"b", b"a"), (b"b", b"b"), (b"", b""), (b"", b"\0"), (b"", b"a")):
            s.call("Auth.RoleGrantPermission", name="r", perm=permission(s, R, key, end))
        s.call("Auth.RoleGrantPermission", name="none", perm=permission(s, R, b"b", b"a"))
        s.call("Auth.RoleDelete", role="r")
    same(scenario, level=False)


def test_locks_and_elections_use_the_callers_rights(api):
    """Both services are clients of the store, under the name of whoever calls them."""
    import driver
    with driver.Servers(api, kinds=("apus",)) as servers:
        session = driver.Session(api, servers.clusters["apus"].members[0], "apus")
        try:
            roles(session)
            session.call("Auth.AuthEnable")
            app = login(session, "app", "app-pw")
            lock = session.channel.unary_unary("/v3lockpb.Lock/Lock")
            assert lock(b"\x0a\x03a/l", metadata=app, timeout=5)
            for name, token, text in (
                    (b"zzz", app, "etcdserver: permission denied"),
                    (b"a/l", (("token", "x.1"),), "etcdserver: invalid auth token"),
                    (b"a/l", (), "etcdserver: user name is empty")):
                with pytest.raises(grpc.RpcError) as failure:
                    lock(b"\x0a" + bytes([len(name)]) + name, metadata=token, timeout=5)
                assert failure.value.details() == text
        finally:
            session.close()
