"""Figures of the store on real processes, beside etcd where it can follow: `measure_store.py NAME...`.

Slow, and only as steady as the machine: for docs/benchmarks.md, not for tests. Without a name it lists them.
"""

import argparse
import json
import multiprocessing
import os
import subprocess
import threading
import time
from concurrent.futures import ProcessPoolExecutor

import grpc
from harness import Cluster
from load import BENCH, LARGE_QUOTA, bench, cpu_seconds, drive, field, fill, memory_mib, settle, varint

OPTIONS = [("grpc.max_receive_message_length", -1), ("grpc.max_send_message_length", -1)]


def number(tag, value):
    return varint(tag << 3) + varint(value)


def method(channel, service, name):
    return channel.unary_unary(f"/etcdserverpb.{service}/{name}")


def load(endpoint, keys, value=256, name=b"load/%08d", batch=100, inflight=64, start=0):
    """Puts so many keys, in transactions."""
    with grpc.insecure_channel(endpoint, options=OPTIONS) as channel:
        txn = method(channel, "KV", "Txn")
        pending = []
        for first in range(start, start + keys, batch):
            operations = b"".join(
                field(2, field(2, field(1, name % each) + field(2, os.urandom(value // 2).hex().encode())))
                for each in range(first, min(first + batch, start + keys)))
            pending.append(txn.future(operations, timeout=120))
            if len(pending) == inflight:
                for each in pending:
                    each.result()
                pending = []
        for each in pending:
            each.result()


def count(endpoint, key=b"\0", end=b"\0", timeout=30):
    with grpc.insecure_channel(endpoint, options=OPTIONS) as channel:
        return method(channel, "KV", "Range")(field(1, key) + field(2, end) + number(9, 1), timeout=timeout)


class Pace(threading.Thread):
    """Puts and gets at a steady rate; notes when each began and how long it took."""

    def __init__(self, endpoint, interval=0.01, value=256):
        super().__init__(daemon=True)
        self.endpoint, self.interval, self.value = endpoint, interval, value
        self.ended = threading.Event()
        self.puts, self.gets = [], []

    def run(self):
        with grpc.insecure_channel(self.endpoint) as channel:
            put, get = method(channel, "KV", "Put"), method(channel, "KV", "Range")
            body = field(1, b"pace") + field(2, b"p" * self.value)
            due = time.monotonic()
            while not self.ended.is_set():
                # Counted from when it was due: a stall is seen by all that should have begun in it.
                put(body, timeout=60)
                self.puts.append((due, time.monotonic() - due))
                get(field(1, b"pace"), timeout=60)
                self.gets.append((due, time.monotonic() - due))
                due += self.interval
                wait = due - time.monotonic()
                if wait > 0:
                    time.sleep(wait)
                elif wait < -0.2:
                    due = time.monotonic()

    def stop(self):
        self.ended.set()
        self.join(60)

    @staticmethod
    def worst(times, since=0.0, until=1e18):
        took = sorted(t for at, t in times if since <= at <= until)
        if not took:
            return {}
        return {"count": len(took), "p50": ms(took[len(took) // 2]), "p99": ms(took[len(took) * 99 // 100]),
                "max": ms(took[-1])}


def ms(seconds):
    return round(seconds * 1000, 1)


def restart(kind, keys=1_000_000, value=256):
    """A member stopped in good order and started again: seconds until it answers a linearizable read."""
    with Cluster((kind,), flags=LARGE_QUOTA) as cluster:
        member = cluster.members[0]
        load(member.endpoint, keys, value)
        result = {"rss-loaded-mib": round(memory_mib(cluster))}
        time.sleep(1)
        for name in ("stop", "kill"):
            getattr(member, name)()
            started = time.monotonic()
            member.start()
            while True:
                try:
                    with grpc.insecure_channel(member.endpoint) as channel:
                        method(channel, "KV", "Range")(field(1, b"load/00000001"), timeout=0.5)
                    break
                except grpc.RpcError:
                    assert member.process.poll() is None, member.log_text()[-2000:]
                    time.sleep(0.01)
            result[f"restart-after-{name}-s"] = round(time.monotonic() - started, 2)
            time.sleep(1)
            result[f"rss-after-{name}-mib"] = round(memory_mib(cluster))
    return result


def ranges(kind, seconds=6, keys=1_000_000):
    """p99 of puts alone, and while others page over a million keys and ask for all of them at once."""
    def p99():
        return round(bench(endpoint, "put", "-d", str(seconds))["results"]["put"]["p99"] / 1000, 2)

    with Cluster((kind,), flags=LARGE_QUOTA) as cluster:
        endpoint = cluster.endpoints[0]
        fill(endpoint, keys, size=64)
        settle(cluster, endpoint)
        alone = p99()
        readers = [subprocess.Popen(
            [str(BENCH), "range", "-e", endpoint, "--quiet", "--key-space", str(keys), "--span", str(span),
             "-d", str(seconds + 2)], stdout=subprocess.DEVNULL) for span in (keys, 10_000)]
        time.sleep(1)
        beside = p99()
        for each in readers:
            each.wait()
    return {"alone": alone, "beside": beside}


def cost(kind, most=7, seconds=4):
    """Processor time of a put and of a get, alone on one member, among 10^4 to 10^7 keys with values of 64 bytes."""
    many = ["--connections=16", "--streams=16", "--value-size", "64"]
    result = {}
    with Cluster((kind,), flags=LARGE_QUOTA) as cluster:
        endpoint = cluster.endpoints[0]
        for power in range(4, most + 1):
            space = ["--key-space", str(10 ** power)]
            fill(endpoint, 10 ** power, size=64)
            row = {"rss-mib": round(memory_mib(cluster)), "anonymous-mib": round(memory_mib(cluster, "RssAnon"))}
            for name, arguments in (("get", ["range"]), ("serializable-get", ["range", "--serializable"]),
                                    ("range-of-10", ["range", "--span", "10"]), ("put", ["put"])):
                settle(cluster, endpoint)
                seen = drive(cluster, endpoint, [*arguments, *many, *space], seconds)
                row[name] = {"cpu-us": round(seen["cpu_us"], 2), "per-s": round(seen["rate"]), "p99-ms": ms(seen["p99"] / 1e6)}
            result[f"{10 ** power:,} keys"] = row
            print(f"  {10 ** power:,} keys: {json.dumps(row)}", flush=True)
    return result


def crowd(kind, each=100_000, rate=1000, seconds=10):
    """As many watchers of a key each as leases with a key each, on one member; puts at a steady rate before and beside them."""
    def puts(arguments):
        report = bench(endpoint, *arguments, "--prefix", "watched/", "--key-space", str(each), "--rate", str(rate), "-d", str(seconds))
        return {name: {what: ms(row[what] / 1e6) for what in ("p50", "p99", "max")} for name, row in report["results"].items()}

    with Cluster((kind,), flags=LARGE_QUOTA) as cluster:
        endpoint = cluster.endpoints[0]
        result = {"alone": puts(["put", "--streams=64"]), "rss-mib": {"empty": round(memory_mib(cluster))}}
        bench(endpoint, "lease-grant", "--total", str(each), "--first", "1", "--connections=4", "--streams=64")
        attach_keys(endpoint, each)
        settle(cluster, endpoint)
        result["rss-mib"]["leases"] = round(memory_mib(cluster))
        most = [0]

        def watch_memory():
            while not ended.wait(0.2):
                most[0] = max(most[0], memory_mib(cluster))

        ended, before = threading.Event(), cpu_seconds(cluster)
        watcher = threading.Thread(target=watch_memory)
        watcher.start()
        result["beside"] = puts(["watch", "--watchers", str(each), "--one-key-each", "--connections=20", "--streams=5",
                                 "--puts-in-flight=64"])
        ended.set()
        watcher.join()
        result["rss-mib"]["leases and watchers, at most"] = round(most[0])
        result["cpu-seconds"] = round(cpu_seconds(cluster) - before, 1)
    return result


def attach_keys(endpoint, total):
    """Puts a key with each of the leases from 1 on."""
    with grpc.insecure_channel(endpoint) as channel:
        put = method(channel, "KV", "Put")
        drain(put.future(field(1, b"leased/%06d" % one) + field(2, b"v") + number(3, one), timeout=60)
              for one in range(1, total + 1))


def defrag(kind, gib=1):
    """A store of which half is garbage, defragmented beside a steady load."""
    value = 64 << 10
    keys = (gib << 30) // value // 2
    with Cluster((kind,), flags=LARGE_QUOTA) as cluster:
        member = cluster.members[0]
        for _ in range(2):
            load(member.endpoint, keys, value, batch=4, inflight=16)
        pace = Pace(member.endpoint)
        pace.start()
        time.sleep(3)
        status = member.status()
        cluster.ctl("compact", "--physical", str(status["header"]["revision"]), check=True, timeout=120)
        time.sleep(2)
        before = member.status()
        started = time.monotonic()
        cluster.ctl("--command-timeout=300s", "defrag", check=True, timeout=310)
        ended = time.monotonic()
        time.sleep(3)
        pace.stop()
        after = member.status()
    quiet = {"puts": Pace.worst(pace.puts, until=started - 4), "gets": Pace.worst(pace.gets, until=started - 4)}
    # What the old file leaves to be cleared up belongs to it.
    during = {"puts": Pace.worst(pace.puts, started, ended + 1), "gets": Pace.worst(pace.gets, started, ended + 1)}
    slow = [(round(at - started, 2), ms(took)) for at, took in pace.puts if took > 0.03 and at > started - 0.5]
    return {"mib-before": before["dbSize"] >> 20, "mib-after": after["dbSize"] >> 20,
            "took-s": round(ended - started, 2), "quiet": quiet, "during": during, "slow-puts": slow[:20]}


def leases(kind, total=100_000, ttl=20):
    """So many leases with a key each expire together beside a steady load, on three members."""
    with Cluster((kind,) * 3, flags=LARGE_QUOTA) as cluster:
        member = cluster.leader()
        with grpc.insecure_channel(member.endpoint) as channel:
            grant = method(channel, "Lease", "LeaseGrant")
            drain(grant.future(number(1, ttl) + number(2, each), timeout=60) for each in range(1, total + 1))
        attach_keys(member.endpoint, total)
        loaded = time.monotonic()
        pace = Pace(member.endpoint)
        pace.start()
        while left(member.endpoint, b"leased/", b"leased0") == total:
            time.sleep(0.2)
        began = time.monotonic()
        while left(member.endpoint, b"leased/", b"leased0") > 0:
            time.sleep(0.2)
            assert time.monotonic() < began + 600
        ended = time.monotonic()
        pace.stop()
    return {"began-after-s": round(began - loaded, 1), "took-s": round(ended - began, 1),
            "puts-before": Pace.worst(pace.puts, until=began - 1), "puts-during": Pace.worst(pace.puts, began, ended)}


def drain(calls, inflight=1000):
    pending = []
    for each in calls:
        pending.append(each)
        if len(pending) == inflight:
            for one in pending:
                one.result()
            pending = []
    for one in pending:
        one.result()


def left(endpoint, key, end):
    """The count of a range."""
    answer = count(endpoint, key, end)
    # The header, then field 4 if it is not zero.
    rest, value = answer[2 + answer[1]:], 0
    for shift, byte in enumerate(rest[1:]):
        value |= (byte & 0x7F) << (7 * shift)
    return value


def timed_puts(endpoint, key, count):
    """Seconds that puts take, one after the other."""
    took = []
    with grpc.insecure_channel(endpoint) as channel:
        put = method(channel, "KV", "Put")
        put(field(1, b"first") + field(2, b"v"))  # the connection is made
        for number_ in range(count):
            at = time.monotonic()
            put(field(1, key % number_) + field(2, b"v"))
            took.append(time.monotonic() - at)
    return took


def watchers(kind, streams=1, each=50_000, puts=200):
    """Watchers of a key each and one prefix watched by all streams; how long puts and their events take."""
    with Cluster((kind,), flags=LARGE_QUOTA) as cluster:
        member = cluster.members[0]
        before = memory_mib(cluster)
        channels = [grpc.insecure_channel(member.endpoint, options=OPTIONS + [("grpc.use_local_subchannel_pool", 1)])
                    for _ in range(min(streams, 20))]
        arrived, created, lock = [], [0], threading.Lock()

        def follow(index):
            def requests():
                for watcher in range(each):
                    key = b"w/%06d/%06d" % (index, watcher)
                    yield field(1, field(1, key))
                yield field(1, field(1, b"all/") + field(2, b"all0"))
                time.sleep(3600)
            stream = channels[index % len(channels)].stream_stream("/etcdserverpb.Watch/Watch")(requests())
            try:
                for answer in stream:
                    if b"all/" in answer:
                        with lock:
                            # An answer may hold several events.
                            arrived.extend([time.monotonic()] * answer.count(b"all/"))
                    else:
                        with lock:
                            created[0] += 1
            except grpc.RpcError:
                pass

        started = time.monotonic()
        for index in range(streams):
            threading.Thread(target=follow, args=(index,), daemon=True).start()
        while created[0] < streams * (each + 1):
            time.sleep(0.05)
            assert time.monotonic() < started + 300, created
        setup = time.monotonic() - started
        after = memory_mib(cluster)
        first = time.monotonic()
        # By a process of its own: in this one, tens of thousands of answers are objects to be collected.
        with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as other:
            took = other.submit(timed_puts, member.endpoint, b"all/%d", puts).result()
        while len(arrived) < streams * puts:
            time.sleep(0.01)
            assert time.monotonic() < first + 120, len(arrived)
        ended = max(arrived)
    took.sort()
    return {"watchers": streams * (each + 1), "setup-s": round(setup, 1), "rss-mib": round(after),
            "bytes-per-watcher": round((after - before) * 1048576 / (streams * each)),
            "put-p50": ms(took[len(took) // 2]), "put-p99": ms(took[len(took) * 99 // 100]),
            "events-per-s": round(streams * puts / (ended - first))}


def watchers_on_many(kind):
    """100 streams with 200 watchers each."""
    return watchers(kind, streams=100, each=200)


def small_keys(kind, keys=10_000_000):
    """10 million keys with values of 16 bytes: loading, memory, starting again."""
    with Cluster((kind,), flags=LARGE_QUOTA) as cluster:
        member = cluster.members[0]
        started = time.monotonic()
        load(member.endpoint, keys, 16)
        loaded = time.monotonic() - started
        result = {"load-s": round(loaded), "rss-mib": round(memory_mib(cluster)), "db-mib": member.status()["dbSize"] >> 20,
                  "anonymous-mib": round(memory_mib(cluster, "RssAnon"))}
        member.stop()
        started = time.monotonic()
        member.start()
        member.wait_ready(120)
        result["restart-s"] = round(time.monotonic() - started, 2)
        result["count"] = left(member.endpoint, b"\0", b"\0")
        result["rss-after-mib"] = round(memory_mib(cluster))
        result["anonymous-after-mib"] = round(memory_mib(cluster, "RssAnon"))
    return result


def anonymous_mib(member):
    status = pathlib.Path(f"/proc/{member.process.pid}/status").read_text()
    return int(re.search(r"RssAnon:\s+(\d+)", status).group(1)) >> 10


def large_store(kind, gib=20):
    """20 GiB in values of 1 MiB: writing, reading, starting again."""
    with Cluster((kind,), flags=LARGE_QUOTA) as cluster:
        member = cluster.members[0]
        value = os.urandom(1 << 20)
        started = time.monotonic()
        with grpc.insecure_channel(member.endpoint, options=OPTIONS) as channel:
            put = method(channel, "KV", "Put")
            drain((put.future(field(1, b"large/%06d" % each) + field(2, value), timeout=120)
                   for each in range(gib << 10)), inflight=8)
        result = {"load-s": round(time.monotonic() - started), "db-mib": member.status()["dbSize"] >> 20,
                  "anonymous-mib": round(memory_mib(cluster, "RssAnon"))}
        member.stop()
        started = time.monotonic()
        member.start()
        member.wait_ready(120)
        result["restart-s"] = round(time.monotonic() - started, 2)
        with grpc.insecure_channel(member.endpoint, options=OPTIONS) as channel:
            answer = method(channel, "KV", "Range")(field(1, b"large/%06d" % ((gib << 10) - 1)))
            assert value in answer
        result["count"] = left(member.endpoint, b"\0", b"\0")
    return result


MEASURES = {"restart": restart, "ranges": ranges, "cost": cost, "crowd": crowd, "defrag": defrag, "leases": leases,
            "watchers": watchers, "watchers-on-many": watchers_on_many, "small-keys": small_keys, "large-store": large_store}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--kinds", default="apus,etcd34")
    options = parser.parse_args()
    if not options.names:
        print("\n".join(f"{name}: {(each.__doc__ or '').strip()}" for name, each in MEASURES.items()))
    for name in options.names:
        for kind in options.kinds.split(","):
            print(name, kind, json.dumps(MEASURES[name](kind)), flush=True)


if __name__ == "__main__":
    main()
