"""etcd-client-py (a Rust client underneath): keys, transactions, watches, leases, locks."""

import asyncio
import sys

from etcd_client import Client, Compare, CompareOp, EtcdLockOption, Txn, TxnOp


async def main():
    client = Client([f"http://127.0.0.1:{sys.argv[1]}"])
    async with client.connect() as etcd:
        await etcd.put(b"testkey", b"testvalue")
        assert bytes(await etcd.get(b"testkey")) == b"testvalue"
        assert await etcd.get(b"absent") is None
        await etcd.put(b"testkey/1", b"1")
        assert [bytes(key) for key in await etcd.keys_prefix(b"testkey")] == [b"testkey", b"testkey/1"]
        assert [(bytes(key), bytes(value)) for key, value in await etcd.get_prefix(b"testkey/")] == [
            (b"testkey/1", b"1")]
        await etcd.delete(b"testkey/1")
        assert await etcd.get(b"testkey/1") is None

        for expected in (True, False):
            answer = await etcd.txn(
                Txn().when([Compare.value(b"testkey", CompareOp.EQUAL, b"testvalue")])
                .and_then([TxnOp.put(b"testkey", b"yes")]).or_else([TxnOp.put(b"testkey", b"no")]))
            assert answer.succeeded() == expected
        assert bytes(await etcd.get(b"testkey")) == b"no"

        async def write():
            await asyncio.sleep(0.3)
            await etcd.put(b"watched/1", b"1")
            await etcd.delete(b"watched/1")

        writer = asyncio.create_task(write())
        seen = []
        async for event in etcd.watch_prefix(b"watched/"):
            seen.append(bytes(event.key))
            if len(seen) == 2:
                break
        await writer
        assert seen == [b"watched/1", b"watched/1"]

        await etcd.lease_grant(20)  # this release does not tell the id
        await etcd.delete_prefix(b"testkey")

    option = EtcdLockOption(lock_name=b"the-lock", timeout=5.0, ttl=20)
    async with client.with_lock(option) as etcd:
        await etcd.put(b"guarded", b"1")
    print("all done")


asyncio.run(main())
