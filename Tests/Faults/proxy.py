"""A TCP proxy in front of every member's peer port, in a process of its own. It obeys commands on its input.

Who dials is read from the X-Server-From header of the first request; so each direction between two members
can be held back, delayed or cut by itself. Bytes are never dropped from the middle of a stream, which TCP
would not do either: a silent partition holds them, and its end delivers them late or resets the connection.
"""

import asyncio
import json
import random
import re
import subprocess
import sys

FROM = re.compile(rb"x-server-from:\s*([0-9a-f]+)", re.IGNORECASE)


class Link:
    """One connection: two directions, each under the rule of its pair of members."""

    def __init__(self, proxy, name):
        self.proxy, self.target, self.source = proxy, name, None
        self.held = False
        self.snapshot_left = None  # bytes until the fault of a snapshot on this connection

    async def run(self, reader, writer):
        try:
            head = await reader.read(65536)
            found = FROM.search(head)
            if b"/raft/snapshot " in head[:200]:
                self.snapshot_left = random.choice([random.randrange(2000, 40_000), random.randrange(200_000)])
            if found:
                self.source = self.proxy.names.get(int(found[1], 16))
            while self.rule(self.source, self.target).get("hold"):
                self.held = True
                await asyncio.sleep(0.02)
            if self.held and self.proxy.reset_on_heal:
                return
            port = self.proxy.ports[self.target][1]
            upstream_reader, upstream_writer = await asyncio.open_connection("127.0.0.1", port)
        except OSError:
            return
        finally:
            if "upstream_writer" not in locals():
                writer.transport.abort()
        self.writers = (writer, upstream_writer)
        self.proxy.links.add(self)
        there = self.pump(reader, upstream_writer, self.source, self.target, head)
        back = self.pump(upstream_reader, writer, self.target, self.source, b"")
        try:
            await asyncio.gather(there, back)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.abort()
            self.proxy.links.discard(self)

    def abort(self):
        for each in self.writers:
            each.transport.abort()

    def rule(self, source, target):
        return self.proxy.rules.get((source, target), {})

    async def pump(self, reader, writer, source, target, data):
        queue = asyncio.Queue(maxsize=256)
        loop = asyncio.get_running_loop()

        async def read():
            chunk = data
            while True:
                if chunk:
                    delay = self.rule(source, target).get("delay", [0, 0])
                    wait = max(0, random.gauss(*delay)) if delay[0] else 0
                    await queue.put((loop.time() + wait, chunk))
                chunk = await reader.read(65536)
                if not chunk:
                    await queue.put((loop.time(), b""))
                    return

        async def write():
            while True:
                due, chunk = await queue.get()
                if due > loop.time():
                    self.proxy.count("delayed")
                    await asyncio.sleep(due - loop.time())
                waited = False
                while self.rule(source, target).get("hold"):
                    if not waited:
                        self.proxy.count("held")
                    waited = self.held = True
                    await asyncio.sleep(0.02)
                if waited and self.proxy.reset_on_heal:
                    raise OSError("reset after a partition")
                if not chunk:
                    if writer.can_write_eof():
                        writer.write_eof()
                    return
                if random.random() < self.rule(source, target).get("reset", 0):
                    self.proxy.count("reset")
                    writer.write(chunk[:random.randrange(len(chunk))])
                    await asyncio.sleep(0)
                    raise OSError("reset in the middle of a frame")
                writer.write(self.spoil(chunk, source, target))
                await writer.drain()

        await asyncio.gather(read(), write())

    def spoil(self, chunk, source, target):
        """Cuts off or changes the snapshot that this connection carries, if its links are to."""
        kind = self.rule(source, target).get("snapshot")
        if kind is None or self.snapshot_left is None or source != self.source:
            return chunk
        at, self.snapshot_left = self.snapshot_left, self.snapshot_left - len(chunk)
        if not 0 <= at < len(chunk):
            return chunk
        self.proxy.count(kind)
        if kind == "cut":
            raise OSError("cut off")
        return chunk[:at] + bytes([chunk[at] ^ 1 << random.randrange(8)]) + chunk[at + 1:]


class Proxy:
    def __init__(self, ports):
        self.ports, self.names, self.rules, self.links = ports, {}, {}, set()
        self.reset_on_heal, self.counts = False, {}

    def count(self, name):
        self.counts[name] = self.counts.get(name, 0) + 1

    async def serve(self):
        for name, (listen, _) in self.ports.items():
            await asyncio.start_server(
                lambda reader, writer, name=name: Link(self, name).run(reader, writer), "127.0.0.1", listen)
        print("ready", flush=True)
        loop = asyncio.get_running_loop()
        while line := await loop.run_in_executor(None, sys.stdin.readline):
            command = json.loads(line)
            if "names" in command:
                self.names = {int(key): value for key, value in command["names"].items()}
                for link in list(self.links):  # dialled again, they are recognised
                    if link.source is None:
                        link.abort()
            if "rules" in command:
                self.reset_on_heal = command.get("reset_on_heal", False)
                self.rules = {(source, target): rule for source, target, rule in command["rules"]}
            print(json.dumps(self.counts), flush=True)


class ProxyProcess:
    """The proxy as its owner sees it."""

    def __init__(self, ports):
        self.process = subprocess.Popen([sys.executable, __file__, json.dumps(ports)], text=True,
                                        stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        if self.process.stdout.readline() != "ready\n":
            raise RuntimeError("the proxy did not start")

    def command(self, **command):
        """Sends one command; returns how often each fault has hit so far."""
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def close(self):
        self.process.kill()
        self.process.wait()


if __name__ == "__main__":
    asyncio.run(Proxy(json.loads(sys.argv[1])).serve())
