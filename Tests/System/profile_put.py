"""Processor time of a put on the leader by stage, from sampled stacks (`perf record`). For docs/performance.md, not for tests.

Another build can be named, as long as its functions have these names.
"""

import argparse
import collections
import pathlib
import re
import signal
import subprocess
import tempfile
import time

import harness
from harness import Cluster
from load import CLOCK_TICKS, bench, fill, settle

# Stages by thread, and on the loop by mangled names anywhere on the stack; the first rule that fits counts.
THREADS = {"apus-log": "log: write and sync", "apus-store": "apply", "apus-backend": "store commits"}
LOOP = [
    ("flush: HTTP/2 frames, write", r"ClientConnectionC5flush|ClientGatewayC8turnEnds"),
    ("replicate: to and from followers", r"6Member\d+Peer|MessageQueue|HTTP1Client"),
    ("encode the answer", r"ClientGatewayC(6answer|6handle|7receive|4tick)"),
    ("decode, check, wrap", r"ClientGatewayC(3put|8dispatch|5serve|7started|8received)"),
    ("propose, quorum, commit", r"9RaftActor"),
    ("receive: read, HTTP/2, gRPC", r"ClientConnectionC7receive|GRPCServer|nghttp2|streamReads|StreamConnection|\bread \("),
    ("loop: wait and wake", r"epoll_wait|uv_run|EventLoop|libuv"),
]
STAGES = [name for name, _ in LOOP[5:6] + LOOP[3:5]] + [THREADS["apus-log"], LOOP[1][0], THREADS["apus-store"], LOOP[2][0], LOOP[0][0],
                                                     THREADS["apus-backend"], LOOP[6][0], "not told apart"]


def stage(sample):
    thread, *frames = sample.splitlines()
    if thread.strip() in THREADS:
        return THREADS[thread.strip()]
    text = "\n".join(frames)
    return next((name for name, rule in LOOP if re.search(rule, text)), "not told apart")


def processor_seconds(process):
    fields = pathlib.Path(f"/proc/{process.pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / CLOCK_TICKS


def profile(seconds):
    """Microseconds of the leader's time per put by stage, at 16 x 64."""
    load = ["put", "--connections=16", "--streams=64", "-d", str(seconds)]
    with Cluster() as cluster, tempfile.NamedTemporaryFile() as output:
        fill(cluster.leader().endpoint, 100_000)
        settle(cluster, cluster.leader().endpoint)
        leader = cluster.leader()
        # Samples cost time too: what a put takes is measured without them.
        before = processor_seconds(leader.process)
        puts = bench(leader.endpoint, *load)["results"]["put"]["count"]
        taken = (processor_seconds(leader.process) - before) / puts * 1e6
        settle(cluster, leader.endpoint)
        perf = subprocess.Popen(["perf", "record", "-q", "-F", "999", "-e", "cpu-clock", "--call-graph", "dwarf,16384",
                                 "-o", output.name, "-p", str(leader.process.pid)], stderr=subprocess.DEVNULL)
        time.sleep(0.5)
        bench(leader.endpoint, *load)
        perf.send_signal(signal.SIGINT)
        perf.wait()
        script = subprocess.run(["perf", "script", "--no-inline", "-F", "comm,ip,sym,dso", "-i", output.name],
                                capture_output=True, text=True, check=True).stdout
    samples = [each for each in script.split("\n\n") if each.strip()]
    counts = collections.Counter(stage(each) for each in samples)
    return {"puts": puts, "taken": taken, "samples": len(samples),
            "stages": {name: counts[name] / len(samples) * taken for name in STAGES}}


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--program", default=str(harness.PROGRAMS["apus"]))
    parser.add_argument("--seconds", type=int, default=5)
    options = parser.parse_args()
    harness.PROGRAMS["apus"] = pathlib.Path(options.program)
    seen = profile(options.seconds)
    print(f"{seen['puts']:,} puts, {seen['taken']:.1f} us each, {seen['samples']:,} samples")
    for name, microseconds in seen["stages"].items():
        print(f"| {name} | {microseconds:.2f} |")


if __name__ == "__main__":
    main()
