"""Requests that end an etcd process, 3.4 and 3.5 alike: here Apus must only stay alive and exact."""

import grpc
import pytest
from driver import Servers, Session
from test_txn import Ops


@pytest.fixture(scope="module")
def apus(api):
    with Servers(api, kinds=("apus",)) as group:
        session = Session(api, group.clusters["apus"].members[0], "apus")
        yield session
        session.close()


def code_and_text(call, *arguments):
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments)
    return caught.value.code(), caught.value.details()


def test_unknown_sort_target(apus):
    rpc, kv = apus.api.rpc, apus.stubs["KV"]
    for target in (5, 99, -1):
        request = rpc.RangeRequest(key=b"\0", range_end=b"\0", sort_target=target)
        assert code_and_text(kv.Range, request) == (
            grpc.StatusCode.INVALID_ARGUMENT, "etcdserver: invalid sort option")


@pytest.mark.parametrize("flag", ["ignore_value", "ignore_lease"])
def test_kept_value_of_a_key_deleted_in_the_same_txn(apus, flag):
    """Checked against the state before the transaction, gone when its turn comes: a new, empty key."""
    o, kv, rpc = Ops(apus), apus.stubs["KV"], apus.api.rpc
    kv.Put(rpc.PutRequest(key=b"k", value=b"v"))
    before = apus.revision()
    ops = [o.put(b"other"), o.delete(b"\0", b"\0"), o.put(b"k", b"", **{flag: True})]
    answer = kv.Txn(rpc.TxnRequest(success=ops))
    assert answer.succeeded and answer.header.revision == before + 1
    rows = kv.Range(rpc.RangeRequest(key=b"\0", range_end=b"\0")).kvs
    assert [(row.key, row.value, row.version, row.lease) for row in rows] == [(b"k", b"", 1, 0)]
