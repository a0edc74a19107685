"""The JSON gateway: every path, its mapping of messages, its errors and its streams."""

import json

import pytest
from gateway import Gateway, WatchRequest, b64

KEY = b64("k")
LEASE = 7001


def put(g, key, value="v", **fields):
    return g.request("/v3/kv/put", {"key": b64(key), "value": b64(value), **fields})


def test_kv(same):
    def scenario(s):
        g = Gateway(s)
        put(g, "a", "1")
        put(g, "b", "2", prev_kv=True)
        put(g, "b", "3", prev_kv=True)
        put(g, "c", "", ignore_value=True)
        put(g, "c", "x", lease="123456")
        put(g, "")
        every = {"key": b64("\0"), "range_end": b64("\0")}
        g.request("/v3/kv/range", {"key": b64("a")}, headers_too=True)
        for options in ({}, {"limit": 1}, {"limit": "1"}, {"count_only": True}, {"keys_only": True},
                        {"serializable": True}, {"revision": 99999}, {"sort_order": "DESCEND"},
                        {"sort_order": 2, "sort_target": "VALUE"}, {"sortOrder": "ASCEND"},
                        {"sortTarget": 4, "sort_order": 1}, {"min_mod_revision": "3"},
                        {"maxModRevision": "3"}, {"min_create_revision": 3, "limit": 0}):
            g.request("/v3/kv/range", {**every, **options})
        g.request("/v3/kv/range", {"key": b64("nothing")})
        g.request("/v3/kv/deleterange", {"key": b64("a"), "prev_kv": True})
        g.request("/v3/kv/deleterange", {**every, "prevKv": True})
        g.request("/v3/kv/deleterange", {"key": b64("nothing")})
        g.request("/v3/kv/compaction", {"revision": "3"})
        g.request("/v3/kv/compaction", {"revision": "3"})
        g.request("/v3/kv/compaction", {"revision": "99999", "physical": True})
        g.request("/v3/kv/range", {"key": b64("a"), "revision": "2"})
    same(scenario)


def test_txn(same):
    def scenario(s):
        g = Gateway(s)
        guard = {"key": KEY, "target": "CREATE", "result": "EQUAL", "create_revision": "0"}
        request = {"compare": [guard],
                   "success": [{"request_put": {"key": KEY, "value": b64("1")}}],
                   "failure": [{"request_range": {"key": KEY}}]}
        g.request("/v3/kv/txn", request)
        g.request("/v3/kv/txn", request)
        g.request("/v3/kv/txn", {
            "compare": [{"key": KEY, "target": 3, "result": 0, "value": b64("1")},
                        {"key": KEY, "target": "VERSION", "result": "GREATER", "version": 0},
                        {"key": KEY, "target": "MOD", "result": "NOT_EQUAL", "mod_revision": "1"},
                        {"key": KEY, "target": "LEASE", "lease": "0"}],
            "success": [{"request_delete_range": {"key": KEY, "prev_kv": True}},
                        {"requestTxn": {"success": [{"requestPut": {"key": b64("n")}}]}}]})
        g.request("/v3/kv/txn", {})
        g.request("/v3/kv/txn", {"success": [{}]})
        g.request("/v3/kv/txn", {"success": [{"request_put": {"key": KEY}}] * 2})
        g.request("/v3/kv/txn", {"success": [{"request_range": {"key": KEY}}] * 129})
    same(scenario)


def test_leases(same):
    def scenario(s):
        g = Gateway(s)
        g.request("/v3/lease/grant", {"TTL": "60", "ID": LEASE})
        g.request("/v3/lease/grant", {"TTL": 60, "ID": str(LEASE)})
        g.request("/v3/lease/grant", {"TTL": "9000000001"})
        g.request("/v3/kv/put", {"key": KEY, "lease": str(LEASE)})
        for prefix in ("/v3/lease", "/v3/kv/lease"):
            g.request(f"{prefix}/timetolive", {"ID": LEASE, "keys": True})
            g.request(f"{prefix}/timetolive", {"ID": 1})
            g.request(f"{prefix}/leases", {})
        g.stream("/v3/lease/keepalive", {"ID": LEASE}, 2)
        g.stream("/v3/lease/keepalive", f'{{"ID":{LEASE}}} {{"ID":5}}\n\n{{"ID":{LEASE}}}', 4)
        g.stream("/v3/lease/keepalive", "", 1)
        g.stream("/v3/lease/keepalive", f'{{"ID":{LEASE}}} x', 2)
        g.request("/v3/kv/lease/revoke", {"ID": LEASE})
        g.request("/v3/lease/revoke", {"ID": LEASE})
    same(scenario)


def test_watch(same):
    def scenario(s):
        g = Gateway(s)
        first = s.revision() + 1
        put(g, "w1")
        put(g, "w1", "2")
        g.request("/v3/kv/deleterange", {"key": b64("w1")})
        create = {"key": b64("w1"), "start_revision": first, "prev_kv": True}
        g.stream("/v3/watch", {"create_request": create}, 2)
        g.stream("/v3/watch", {"createRequest": {**create, "filters": ["NODELETE"]}}, 2)
        g.stream("/v3/watch", {"create_request": {**create, "filters": [0], "watch_id": "7"}}, 2)
        g.stream("/v3/watch", "x", 1)
        g.stream("/v3/watch", '{"create_request":{"key":"%s"}}{"cancel_request":{}} x' % KEY, 2)
        g.stream("/v3/watch", {"create_request": {"key": KEY}}, 3, headers={"Grpc-Timeout": "700m"})
        g.stream("/v3/watch", "", 1, timeout=0.5)
    same(scenario)


def test_watch_request_that_goes_on(same):
    """etcd's server of HTTP/1.1 answers only once the request has ended. Apus need not wait."""
    def scenario(s):
        g = Gateway(s)
        watch = WatchRequest(g)
        try:
            watch.send('{"create_request":{"key":"%s"}}' % KEY)
            assert watch.results(1)[0]["result"]["created"]
            watch.send('{"create_request":{"key":"%s","watch_id":' % b64("other"))
            watch.send('"5"}} \n')
            assert watch.results(2)[1]["result"]["watch_id"] == "5"
            put(g, "k")
            assert watch.results(3)[2]["result"]["events"][0]["kv"]["key"] == KEY
            watch.send('{"cancel_request":{"watch_id":5}}{"cancelRequest":{"watchId":"0"}}')
            assert [each["result"].get("watch_id") for each in watch.results(5)[3:]] == ["5", None]
        finally:
            watch.close()
    same(scenario, against=())


def test_cluster_and_maintenance(same):
    def scenario(s):
        g = Gateway(s)
        listed = g.request("/v3/cluster/member/list", {"linearizable": True})
        member = listed["members"][0]["ID"]
        g.request("/v3/cluster/member/add", {"peerURLs": []})
        g.request("/v3/cluster/member/add", {"peerURLs": ["nonsense"]})
        if s.kind == "apus":  # 3.5.1 leaves the one after such a request unanswered, now and then
            for call, number, text in (("remove", "1", "member not found"), ("update", "1", "member not found"),
                                       ("promote", "1", "member not found"),
                                       ("promote", member, "can only promote a learner member")):
                g.request(f"/v3/cluster/member/{call}", {"ID": number, "peerURLs": ["http://localhost:1"]})
                assert s.steps.pop().outcome["error"]["text"] == f"etcdserver: {text}"
        g.request("/v3/maintenance/status", {})
        g.request("/v3/maintenance/alarm", {})
        g.request("/v3/maintenance/alarm", {"action": "ACTIVATE", "memberID": "5", "alarm": "NOSPACE"})
        g.request("/v3/maintenance/alarm", {"alarm": 1})
        g.request("/v3/maintenance/alarm", {"action": 2, "memberID": 5, "alarm": "NOSPACE"})
        g.request("/v3/maintenance/defragment", {})
        g.request("/v3/maintenance/hash", {})
        g.request("/v3/maintenance/hashkv", {})
        g.request("/v3/maintenance/transfer-leadership", {"targetID": "1"})
        answer = g.stream("/v3/maintenance/snapshot", {}, 100)
        s.note("snapshot", answer[-1] == "(end)" and len(answer) > 2)
    same(scenario)


def test_concurrency(same):
    def scenario(s):
        g = Gateway(s)
        lease = g.request("/v3/lease/grant", {"TTL": "60", "ID": 9001})["ID"]
        name = b64("e")
        g.request("/v3/election/leader", {"name": name})
        won = g.request("/v3/election/campaign", {"name": name, "lease": lease, "value": b64("v")})
        g.request("/v3/election/proclaim", {"leader": won["leader"], "value": b64("w")})
        g.request("/v3/election/leader", {"name": name})
        g.stream("/v3/election/observe", {"name": name}, 1)
        g.request("/v3/election/resign", {"leader": won["leader"]})
        g.request("/v3/election/proclaim", {"leader": won["leader"], "value": b64("x")})
        g.request("/v3/election/resign", {})
        locked = g.request("/v3/lock/lock", {"name": b64("l"), "lease": lease})
        g.request("/v3/lock/lock", {"name": b64("l"), "lease": "77"})
        g.request("/v3/lock/unlock", {"key": locked["key"]})
        g.request("/v3/lock/unlock", {})
    same(scenario)


MALFORMED = [
    "", "null", "[]", '"x"', "5", "true", "{", '{"key"', '{"key":', '{"key":}', '{"key":"Zm9v"',
    '{"key":"Zm9v",}', "{,}", "{1:2}", "}", '{"key" "a"}', '{"key":"a" "b"}', "[1,]", "[1 2]", "tru", "trux",
    "nulL", "fa1se", "-", "-a", "01", "1.", "1.x", "1e", "1ex", "1e+", '"\\x"', '"\\u12G4"', '"a\tb"',
    '"a\x01b"', "{'a':1}", "\xe4", "~", '{"key":"Zm9v"} trailing', '{"key":"Zm9v"}{"key":"eA=="}', "{}x",
    ' \r\n\t{"key":"Zm9v"}', "NaN", "+1", ".5", "/* */{}", '{"key":"Zm9v","range_end":nul}',
]


@pytest.mark.parametrize("path", ["/v3/kv/range", "/v3/lease/keepalive"])
def test_malformed_json(same, path):
    def scenario(s):
        g = Gateway(s)
        for body in MALFORMED:
            g.request(path, body.encode("latin-1"))
    same(scenario)


def test_wrong_fields(same):
    """Values that are JSON, but not of their field's kind."""
    def scenario(s):
        g = Gateway(s)
        put(g, "foo")
        fields = ['"key":5', '"key":true', '"key":{}', '"key":["a"]', '"key":"!!!"', '"key":"Zm9"', '"key":"Zm8"',
                  '"key":"-_-_"', '"key":"Zm9v="', '"key":"Zm9v\\n"', '"key":"Z\\u006d9v"', '"key":"\\/w=="', '"key":"Zm\\r\\n9v"', '"key":null', '"Key":"Zm9v"', '"KEY":"Zm9v"',
                  '"limit":"abc"', '"limit":1.5', '"limit":1.0', '"limit":1e2', '"limit":"1e2"', '"limit":""',
                  '"limit":"-1"', '"limit":99999999999999999999', '"limit":9223372036854775807',
                  '"limit":9223372036854775808', '"limit":true', '"limit":null', '"limit":[1]',
                  '"keys_only":"true"', '"keys_only":1', '"keys_only":null', '"sort_order":"NOPE"',
                  '"sort_order":"2"', '"sort_order":null', '"sort_order":true', '"sort_order":1.5', '"nope":2',
                  '"nope":{"a":[1,{"b":null}]}', '"":1', '"range_end":"","rangeEnd":""']
        for field in fields:
            prefix = "" if '"key"' in field else '"key":"Zm9v",'
            g.request("/v3/kv/range", "{%s%s}" % (prefix, field))
        g.request("/v3/kv/range", '{"key":"Zm9v","key":"eA=="}')
        g.request("/v3/kv/txn", '{"success":{}}')
        g.request("/v3/watch", '{"create_request":{"key":5}}')
        g.request("/v3/cluster/member/add", '{"peerURLs":"http://x:1"}')
        g.request("/v3/cluster/member/add", '{"peerURLs":[5]}')
    same(scenario)


def test_paths_and_methods(same):
    def scenario(s):
        g = Gateway(s)
        for method in ("GET", "PUT", "DELETE", "HEAD", "PATCH", "OPTIONS"):
            g.request("/v3/kv/range", method=method, label="HTTP routing")
        for path in ("/v3/nothing", "/v3/", "/v3/kv", "/v3/kv/range/", "/v3/kv/range/x", "/v3/KV/range"):
            g.request(path, {"key": KEY}, label="HTTP routing")
        for path in ("/v3", "/v3//kv/range", "/v3/./kv/range", "/v3/kv/../kv/range", "/v3alpha/kv/range", "/nothing"):
            g.request(path, {"key": KEY}, headers_too=True)
        for path in ("/v3", "/v3//kv/range?a=1&b=<x>", "/nothing/../health", "//metrics"):
            g.request(path, method="GET", headers_too=True)
        for path in ("/v3/kv/range?key=Zm9v", "/v3beta/kv/range", "/v3beta/kv/put"):
            g.request(path, {"key": KEY})
        for kind in ("application/x-www-form-urlencoded", "text/plain", "application/json; charset=x", ""):
            g.request("/v3/kv/range", {"key": KEY}, headers={"Content-Type": kind})
    same(scenario)


def test_metadata(same):
    def scenario(s):
        g = Gateway(s)
        request = ("/v3/kv/range", {"key": KEY})
        for headers in ({"Grpc-Metadata-hasleader": "true"}, {"Grpc-Timeout": "5S"},
                        {"Grpc-Timeout": "1n"}, {"Grpc-Timeout": "zz"}, {"Grpc-Timeout": "1"},
                        {"Grpc-Timeout": ""}, {"Accept": "text/plain"},
                        {"Grpc-Metadata-client-api-version": "3.5"}):
            g.request(*request, headers=headers)
    same(scenario)


def test_limits(same):
    """Messages around the request limit, and beyond what the server receives at all."""
    def scenario(s):
        g = Gateway(s)
        for size in (1_500_000, 1_572_864, 2_097_152 - 10, 2_097_153, 3_000_000):
            g.request("/v3/kv/put", json.dumps({"key": KEY, "value": b64("x" * size)}),
                      label=f"HTTP put of {size}")
    same(scenario)


def test_pages(same):
    def scenario(s):
        g = Gateway(s)
        for path in ("/health", "/version", "/debug/vars", "/", "/v2/keys", "/health/", "/nothing", "/members"):
            for method in ("GET", "POST", "HEAD", "DELETE"):
                if method == "GET" and path in ("/version", "/debug/vars"):
                    continue  # what they say is a server's own
                g.request(path, method=method, headers_too=True)
        for method in ("GET", "POST", "HEAD"):
            g.request("/health?exclude=NOSPACE&exclude=x&serializable=true", method=method)
        variables = g.request("/debug/vars", method="GET", label="variables")
        s.steps.pop()
        s.note("names of /debug/vars", [list(variables), list(variables["raft.status"])])
    same(scenario)


def test_websocket_handshake(same):
    def scenario(s):
        g = Gateway(s)
        full = {"Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
                "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}
        for missing in ("Sec-WebSocket-Version", "Sec-WebSocket-Key"):
            headers = {name: value for name, value in full.items() if name != missing}
            g.request("/v3/watch", method="GET", headers=headers, headers_too=True)
        g.request("/v3/watch", method="POST", headers=full, headers_too=True)
        g.request("/health", method="GET", headers=full)
    same(scenario)


def test_users_and_roles(same):
    """Every path of the Auth service; at the end nothing of it is left."""
    def scenario(s):
        g = Gateway(s)
        auth = lambda path, body=None, **options: g.request(f"/v3/auth/{path}", body or {}, **options)
        auth("authenticate", {"name": "root", "password": "x"})
        auth("enable")
        auth("user/add", {"name": ""})
        auth("user/add", {"name": "root", "password": "r"})
        auth("user/add", {"name": "root", "password": "r"})
        auth("user/add", {"name": "reader", "options": {"no_password": False}, "password": "p"})
        auth("user/changepw", {"name": "reader", "password": "q"})
        auth("user/changepw", {"name": "nobody", "password": "q"})
        auth("role/add", {"name": "root"})
        auth("role/add", {"name": "readers"})
        auth("role/add", {"name": ""})
        auth("role/grant", {"name": "readers", "perm": {"permType": "READ", "key": b64("a"), "range_end": b64("b")}})
        auth("role/grant", {"name": "readers", "perm": {"permType": 2, "key": b64("c")}})
        auth("role/get", {"role": "readers"})
        auth("role/get", {"role": "nothing"})
        auth("role/list")
        auth("role/revoke", {"role": "readers", "key": b64("c")})
        auth("role/revoke", {"role": "readers", "key": b64("c")})
        auth("user/grant", {"user": "root", "role": "root"})
        auth("user/grant", {"user": "reader", "role": "readers"})
        auth("user/grant", {"user": "reader", "role": "nothing"})
        auth("user/get", {"name": "reader"})
        auth("user/list")
        put(g, "a", "1")
        auth("enable")
        auth("status")
        put(g, "a", "2")
        auth("authenticate", {"name": "root", "password": "wrong"})
        token = lambda name, password: g.request(
            "/v3/auth/authenticate", {"name": name, "password": password}, label="token")["token"]
        root, reader = token("root", "r"), token("reader", "q")
        del s.steps[-2:]  # tokens are a server's own
        for headers in ({"Authorization": reader}, {"Grpc-Metadata-Token": reader}, {"Authorization": "nonsense"}, {}):
            g.request("/v3/kv/range", {"key": b64("a")}, headers=headers)
            g.request("/v3/kv/put", {"key": b64("a")}, headers=headers)
        g.stream("/v3/watch", {"create_request": {"key": b64("z")}}, 1, headers={"Authorization": reader})
        as_root = {"headers": {"Authorization": root}}
        auth("user/revoke", {"name": "reader", "role": "readers"}, **as_root)
        auth("user/delete", {"name": "root"}, **as_root)
        auth("user/delete", {"name": "reader"}, **as_root)
        auth("role/delete", {"role": "readers"}, **as_root)
        auth("disable")
        auth("disable", **as_root)
        for path, body in (("user/delete", {"name": "root"}), ("role/delete", {"role": "root"}), ("user/list", {}),
                           ("role/list", {})):
            auth(path, body)
    same(scenario)
