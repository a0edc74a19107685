"""aetcd (asyncio): keys, transactions, watches, leases, locks."""

import asyncio
import sys

import aetcd


async def main():
    async with aetcd.Client(host="127.0.0.1", port=int(sys.argv[1]), timeout=10) as client:
        await client.put(b"foo", b"bar")
        assert (await client.get(b"foo")).value == b"bar"
        assert await client.get(b"absent") is None
        await client.put(b"foo2", b"bar2")
        assert [pair.key for pair in await client.get_prefix(b"foo")] == [b"foo", b"foo2"]
        await client.delete(b"foo2")
        assert await client.get(b"foo2") is None
        assert await client.replace(b"foo", b"bar", b"baz")
        assert not await client.replace(b"foo", b"bar", b"baz")

        done, _ = await client.transaction(
            compare=[client.transactions.value(b"foo") == b"baz",
                     client.transactions.version(b"foo") > 0],
            success=[client.transactions.put(b"foo", b"yes")],
            failure=[client.transactions.put(b"foo", b"no")])
        assert done and (await client.get(b"foo")).value == b"yes"

        watch = await client.watch(b"watched")
        await client.put(b"watched", b"1")
        await client.delete(b"watched")
        kinds = []
        async for event in watch:
            kinds.append((event.kind, event.kv.key))
            if len(kinds) == 2:
                break
        assert kinds == [("PUT", b"watched"), ("DELETE", b"watched")], kinds
        await watch.cancel()

        lease = await client.lease(20)
        await client.put(b"leased", b"v", lease=lease)
        assert await lease.remaining_ttl() <= 20
        assert await lease.granted_ttl() == 20
        assert list(await lease.keys()) == [b"leased"]
        await lease.refresh()
        await lease.revoke()
        assert await client.get(b"leased") is None

        async with client.lock(b"the-lock", ttl=20) as lock:
            assert await lock.is_acquired()
        assert not await lock.is_acquired()
        status = await client.status()
        assert status.version.startswith("3."), status.version
    print("all done")


asyncio.run(main())
