"""Finds the order of functions for the linker: three members run under callgrind, idle, then under load.

An idle member needs half a megabyte of code. Where the linker would put it, it lies in a hundred places, and the
kernel maps 64 KiB around each.

  function_order.py BUILD_FOLDER FILE            writes the order
  function_order.py --check BUILD_FOLDER FILE    fails if too many of its names are gone from the program
"""

import collections
import pathlib
import re
import shutil
import subprocess
import sys
import tempfile
import time

sys.path.append(str(pathlib.Path(__file__).parents[1] / "System"))
from ports import free_ports

MEMBERS = 3
# A start takes long under valgrind; then members settle, and check on each other every few seconds.
START_SECONDS, IDLE_SECONDS = 25, 20
LOAD_SECONDS = "3"
# Functions that make up this much of the instructions under load are worth a place.
LOAD_SHARE = 0.999
# Names change with the code. Beyond this the order is worth making again.
GONE_SHARE_MAX = 0.15
SECTION = ".text."
LOADS = [
    ["put", "-c", "8", "-s", "16"], ["put", "-c", "64", "-s", "1"], ["txn", "-c", "8", "-s", "16"],
    ["range", "-c", "8", "-s", "16"], ["range", "-c", "4", "-s", "4", "--span", "100"], ["mixed", "-c", "8", "-s", "8"],
    ["watch", "--watchers", "50"],
]


def start_members(program, folder):
    ports = free_ports(2 * MEMBERS)
    clients = [f"http://127.0.0.1:{port}" for port in ports[:MEMBERS]]
    peers = [f"http://127.0.0.1:{port}" for port in ports[MEMBERS:]]
    cluster = ",".join(f"m{place}={url}" for place, url in enumerate(peers))
    processes = []
    for place in range(MEMBERS):
        processes.append(subprocess.Popen(
            ["valgrind", "--tool=callgrind", "--instr-atstart=no", "--demangle=no",
             f"--callgrind-out-file={folder}/m{place}.out", program, "--name", f"m{place}", "--data-dir", f"{folder}/m{place}",
             "--listen-client-urls", clients[place], "--advertise-client-urls", clients[place],
             "--listen-peer-urls", peers[place], "--initial-advertise-peer-urls", peers[place],
             "--initial-cluster", cluster],
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    return processes, ",".join(clients)


def control(processes, *words):
    for process in processes:
        subprocess.run(["callgrind_control", *words, str(process.pid)], check=True, stdout=subprocess.DEVNULL)


def own_instructions(path, program):
    """Instructions by function of the program itself, from one dump of callgrind."""
    names, objects, cost = {}, {}, collections.Counter()
    current, is_own, follows_call = None, False, False

    def resolve(text, table):
        number, name = re.match(r"\((\d+)\)(?: (.*))?$", text).groups()
        if name is not None:
            table[number] = name
        return table[number]

    for line in path.read_text(errors="replace").splitlines():
        key, _, value = line.partition("=")
        if key == "ob":
            is_own = resolve(value, objects).endswith("/" + program)
        elif key == "cob":
            resolve(value, objects)
        elif key == "fn":
            current = re.sub(r"'\d+$", "", resolve(value, names))
        elif key == "cfn":
            resolve(value, names)
        elif key == "calls":
            follows_call = True
        elif line and line[0] in "0123456789+-*":
            if is_own and not follows_call:
                cost[current] += int(line.split()[1])
            follows_call = False
    # Code without a symbol is named by its address.
    return collections.Counter({name: count for name, count in cost.items() if not name.startswith(("0x", "("))})


def dumps(folder, program, part):
    total = collections.Counter()
    for path in folder.glob(f"m?.out.{part}"):
        total.update(own_instructions(path, program))
    return total


def order(idle, load):
    """What idles but is rare under load first, then by growing load; then the rest by falling load: the busiest of both lie together."""
    placed = sorted(idle, key=lambda name: (load[name], name))
    rest, covered, everything = [], 0, sum(load.values())
    for name, count in load.most_common():
        if covered > LOAD_SHARE * everything:
            break
        covered += count
        if name not in idle:
            rest.append(name)
    return placed + rest


def check(program, listed):
    there = {line.split()[-1] for line in subprocess.run(
        ["nm", program], check=True, capture_output=True, text=True).stdout.splitlines()}
    names = [line.removeprefix(SECTION) for line in listed.read_text().splitlines()]
    gone = sum(name not in there for name in names)
    print(f"function order: {gone} of {len(names)} names are gone")
    if gone > GONE_SHARE_MAX * len(names):
        raise SystemExit("an idle member takes more memory than it needs to: run scripts/function-order and commit what it writes")


def write(build, output):
    folder = pathlib.Path(tempfile.mkdtemp(prefix="apus-order"))
    processes, endpoints = start_members(build / "apus", folder)
    try:
        print("starting", flush=True)
        time.sleep(START_SECONDS)
        control(processes, "--instr=on")
        print("idle", flush=True)
        time.sleep(IDLE_SECONDS)
        control(processes, "--dump=idle")
        for load in LOADS:
            print(" ".join(load), flush=True)
            subprocess.run([build / "apus-bench", *load, "-e", endpoints, "-d", LOAD_SECONDS, "--quiet"],
                           check=True, stdout=subprocess.DEVNULL)
        control(processes, "--dump=load")
    finally:
        for process in processes:
            process.terminate()
        for process in processes:
            process.wait(timeout=60)
    names = order(dumps(folder, "apus", 1), dumps(folder, "apus", 2))
    shutil.rmtree(folder)
    output.write_text("".join(f"{SECTION}{name}\n" for name in names))
    print(f"{len(names)} functions in {output}")


def main():
    *options, build, listed = sys.argv[1:]
    build, listed = pathlib.Path(build).resolve(), pathlib.Path(listed)
    if options == ["--check"]:
        check(build / "apus", listed)
    else:
        write(build, listed)


if __name__ == "__main__":
    main()
