"""A million keys: they load without error, all members agree, and a restart takes seconds."""

import time

import grpc
from harness import Cluster


def test_a_million_keys(api):
    count, batch = 1_000_000, 128
    with Cluster() as cluster:
        leader = cluster.leader()
        txn = api.grpc.KVStub(grpc.insecure_channel(leader.endpoint)).Txn
        value = b"v" * 256
        pending = []
        for first in range(0, count, batch):
            request = api.rpc.TxnRequest(success=[
                api.rpc.RequestOp(request_put=api.rpc.PutRequest(key=b"million/%07d" % number, value=value))
                for number in range(first, min(first + batch, count))])
            pending.append(txn.future(request, timeout=60))
            if len(pending) >= 64:
                for each in pending:
                    each.result()
                pending = []
        for each in pending:
            each.result()
        for member in cluster.members:
            kv = api.grpc.KVStub(grpc.insecure_channel(member.endpoint))
            answer = kv.Range(api.rpc.RangeRequest(key=b"million/", range_end=b"million0", count_only=True), timeout=20)
            assert answer.count == count
        for member in cluster.members:
            assert member.stop() is not None
        started = time.monotonic()
        for member in cluster.members:
            member.start()
        for member in cluster.members:
            member.wait_ready(30)
        took = time.monotonic() - started
        assert took < 15, f"restart took {took:.1f} s"
        kv = api.grpc.KVStub(grpc.insecure_channel(leader.endpoint))
        answer = kv.Range(api.rpc.RangeRequest(key=b"million/", range_end=b"million0", count_only=True), timeout=20)
        assert answer.count == count
        print(f"restart with a million keys: {took:.1f} s")
