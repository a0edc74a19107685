"""What only a store without history shows."""


def test_empty_store(same):
    def scenario(s):
        everything = {"key": b"\0", "range_end": b"\0"}
        s.call("KV.Range", **everything)
        s.call("KV.Range", **everything, revision=1)
        s.call("KV.Range", **everything, revision=2)
        s.call("KV.DeleteRange", **everything)
        s.txn()
        s.txn(success=[s.api.rpc.RequestOp(
            request_range=s.api.rpc.RangeRequest(key=b"k", revision=-1))])
        s.txn(success=[s.api.rpc.RequestOp(
            request_range=s.api.rpc.RangeRequest(key=b"k", revision=-2))])
        s.call("Maintenance.HashKV")
        s.call("Maintenance.HashKV", revision=1)
        s.call("Maintenance.HashKV", revision=2)
        s.call("KV.Compact", revision=0)
        s.call("Maintenance.HashKV")
        s.call("KV.Compact", revision=0)
        s.call("KV.Compact", revision=1)
        s.call("KV.Compact", revision=1)
        s.call("KV.Range", **everything, revision=1)
        s.call("KV.Compact", revision=2)
        s.call("Lease.LeaseLeases")
        s.call("Maintenance.Alarm")
        s.call("KV.Put", key=b"a", value=b"1")
        s.call("KV.Range", **everything, revision=1)
        s.call("Maintenance.HashKV")
    same(scenario, level=False)
