"""python-etcd3: keys, transactions, watches, leases, locks, members, as its documentation does."""

import os
import sys
import threading

os.environ["PROTOCOL_BUFFERS_PYTHON_IMPLEMENTATION"] = "python"

import etcd3  # noqa: E402

client = etcd3.client(host="127.0.0.1", port=int(sys.argv[1]), timeout=10)

client.put("bar", "doot")
assert client.get("bar")[0] == b"doot"
assert client.get("absent") == (None, None)
client.put("bar2", "x")
assert sorted(value for value, _ in client.get_prefix("bar")) == [b"doot", b"x"]
assert [meta.key for _, meta in client.get_all(sort_order="descend", sort_target="key")][-1] == b"bar"
assert len(list(client.get_range("bar", "bar2"))) == 1
assert client.replace("bar", "doot", "dot") and not client.replace("bar", "doot", "dot")
assert client.put_if_not_exists("once", "1") and not client.put_if_not_exists("once", "2")
assert client.delete("bar2") and not client.delete("bar2")
assert client.delete_prefix("once").deleted == 1

success, answers = client.transaction(
    compare=[client.transactions.value("doot") == "testing", client.transactions.version("doot") > 0],
    success=[client.transactions.put("doot", "success")],
    failure=[client.transactions.put("doot", "failure"), client.transactions.get("doot")])
assert not success and answers[1][0][0] == b"failure"
assert client.transaction(compare=[client.transactions.create("none") == 0],
                          success=[client.transactions.delete("doot")], failure=[])[0]

events, cancel = client.watch("watched")
threading.Timer(0.2, lambda: (client.put("watched", "1"), client.delete("watched"))).start()
first, second = next(events), next(events)
assert isinstance(first, etcd3.events.PutEvent) and first.value == b"1"
assert isinstance(second, etcd3.events.DeleteEvent) and second.key == b"watched"
cancel()
seen = threading.Event()
watch_id = client.add_watch_prefix_callback("many/", lambda answer: seen.set())
client.put("many/1", "1")
assert seen.wait(5)
client.cancel_watch(watch_id)

lease = client.lease(20)
client.put("leased", "v", lease=lease)
assert lease.keys == [b"leased"] and lease.granted_ttl == 20 and 0 < lease.remaining_ttl <= 20
assert list(lease.refresh())[0].TTL == 20
lease.revoke()
assert client.get("leased")[0] is None

with client.lock("the-lock", ttl=20) as lock:
    assert lock.is_acquired()
    assert not client.lock("the-lock", ttl=20).acquire(timeout=1)
assert not lock.is_acquired()

assert client.status().version.startswith("3.")
assert [member.name for member in client.members] == ["m1"]
assert list(client.list_alarms()) == []
revision = client.get("bar")[1].response_header.revision
client.compact(revision)
client.defragment()
assert client.hash() is not None
with open(os.devnull, "wb") as sink:
    client.snapshot(sink)
client.close()
print("all done")
