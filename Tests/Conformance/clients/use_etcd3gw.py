"""etcd3gw, which speaks to the JSON gateway: the examples that it ships, and its other calls."""

import sys
import threading

from etcd3gw.client import Etcd3Client
from etcd3gw.exceptions import PreconditionFailedError
from etcd3gw.lock import Lock
from etcd3gw.utils import _encode

client = Etcd3Client(host="127.0.0.1", port=int(sys.argv[1]), timeout=10)

assert client.api_path == "/v3/"
assert int(client.status()["header"]["cluster_id"]) > 0
assert [member["name"] for member in client.members()] == ["m1"]

lease = client.lease(60)
assert 0 < lease.ttl() <= 60 and lease.refresh() == 60
assert client.put("foo2", "bar2", lease) and client.put("foo3", "bar3", lease)
assert sorted(lease.keys()) == [b"foo2", b"foo3"]
assert lease.revoke() and client.get("foo2") == []

assert client.put("foo", "bar") and client.get("foo") == [b"bar"]
assert client.get("foo", metadata=True)[0][1]["key"] == b"foo"
assert client.delete("foo") and not client.delete("foo-unknown")

with Lock("xyz", ttl=100, client=client) as lock:
    assert lock.is_acquired() and lock.refresh() == 100
    assert not Lock("xyz", ttl=100, client=client).acquire()
assert not lock.is_acquired()

assert client.create("once", "1") and not client.create("once", "2")
assert client.replace("once", "1", "2") and not client.replace("once", "1", "3")
for name in ("a", "b", "c"):
    client.put("dir/" + name, name)
assert [value for value, _ in client.get_prefix("dir/", sort_order="descend")] == [b"c", b"b", b"a"]
assert len(client.get_all()) >= 4  # others have been here
answer = client.transaction({
    "compare": [{"key": _encode("once"), "result": "EQUAL", "target": "VALUE", "value": _encode("2")}],
    "success": [{"request_put": {"key": _encode("once"), "value": _encode("3")}}],
    "failure": [{"request_range": {"key": _encode("once")}}]})
assert answer["succeeded"] and "response_put" in answer["responses"][0]
assert client.delete_prefix("dir/") and client.get_prefix("dir/") == []

events, cancel = client.watch("watched")
threading.Timer(0.3, lambda: (client.put("watched", "1"), client.delete("watched"))).start()
first, second = next(events), next(events)
assert first["kv"]["value"] == b"1" and second["type"] == "DELETE"
cancel()
threading.Timer(0.3, lambda: client.put("many/1", "x")).start()
assert client.watch_once("many/1", timeout=5)["kv"]["key"] == b"many/1"

try:
    client.get("")
except PreconditionFailedError:
    pass
except Exception as error:
    assert "key is not provided" in (error.detail_text or ""), error.detail_text
else:
    raise AssertionError("an empty key was accepted")
print("all done")
