"""Instructions per operation of the hot paths, held against the budget in budget.json.

Instructions, unlike time, come out the same on a busy machine. valgrind counts them in two runs of different
length, so that start-up does not matter.   budget.py PROGRAM [--write]
"""

import concurrent.futures
import json
import os
import pathlib
import re
import subprocess
import sys

BUDGET = pathlib.Path(__file__).parent / "budget.json"
# Operations in the two runs.
COUNTS = {"put": (800, 2400), "follower": (800, 2400), "txn": (800, 2400), "range": (100, 300), "watch": (4000, 20000)}
TOLERANCE = 1.05


def instructions(program, path, count):
    done = subprocess.run(
        ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", str(program), path, str(count)],
        capture_output=True, text=True, timeout=300, env=os.environ | {"SWIFT_DETERMINISTIC_HASHING": "1"})
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode != 0 or not found:
        raise SystemExit(f"{path} {count}: {done.returncode}\n{done.stdout}{done.stderr}")
    return int(found.group(1))


def measure(program):
    with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as pool:
        runs = {(path, count): pool.submit(instructions, program, path, count)
                for path, counts in COUNTS.items() for count in counts}
        taken = {run: future.result() for run, future in runs.items()}
    return {path: round((taken[path, more] - taken[path, few]) / (more - few)) for path, (few, more) in COUNTS.items()}


def main():
    program = pathlib.Path(sys.argv[1])
    seen = measure(program)
    if "--write" in sys.argv:
        BUDGET.write_text(json.dumps(seen, indent=2) + "\n")
    budget = json.loads(BUDGET.read_text())
    failed = False
    for path, count in seen.items():
        over = count > budget[path] * TOLERANCE
        failed |= over
        note = "  OVER BUDGET" if over else "  well below: lower the budget" if count < budget[path] * 0.9 else ""
        print(f"{path:9s} {count:8,d} instructions per operation, budget {budget[path]:8,d}{note}")
    sys.exit(failed)


if __name__ == "__main__":
    main()
