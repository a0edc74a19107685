"""The command behind scripts/faults."""

import argparse
import sys
import time
import traceback

from . import matrix, measure, scenarios
from .run import Result, run, table


def main():
    listing = "\n".join(f"  {each.name:<18} {each.rows:<12} {each.about}" for each in scenarios.ALL.values())
    parser = argparse.ArgumentParser(
        prog="scripts/faults", formatter_class=argparse.RawDescriptionHelpFormatter,
        description="Breaks processes, links and disks of a cluster under load, records what its clients saw, "
                    "and checks that nothing acknowledged was lost, nothing stale read and no event missed.",
        epilog=f"scenarios:\n{listing}\n\nThe program under test is .build/release/apus, or the one in the "
               "folder that APUS_BUILD names. Exit code 1: a violation or a problem.")
    parser.add_argument("scenario", nargs="*", help="which ones to run; all if none is named")
    parser.add_argument("--seconds", type=float, default=20, help="of faults per scenario (20)")
    parser.add_argument("--steps", type=int, default=None, help="so many steps of each scenario, however long they take")
    parser.add_argument("--matrix", action="store_true",
                        help="all of them, also with five members and in mixed clusters; the table goes into docs/testing.md")
    parser.add_argument("--measure", action="store_true",
                        help="instead: time of failover, and what a slow or paused follower costs")
    parser.add_argument("--members", type=int, default=3, help="members of each cluster (3)")
    parser.add_argument("--seed", type=int, default=None, help="of the choices made; from the clock if not given")
    parser.add_argument("--rounds", type=int, default=1, help="how often to run them all (1)")
    parser.add_argument("--clients", type=int, default=6, help="clients that read and write (6)")
    parser.add_argument("--pace", type=float, default=0.012, help="mean pause between two calls of a client, s")
    parser.add_argument("--keep", default="/tmp/apus-faults", help="where histories and logs of failed runs go")
    parser.add_argument("--kinds", default="apus",
                        help="kinds of the members, repeated as needed: apus, etcd34, etcd35, with commas between")
    arguments = parser.parse_args()
    unknown = set(arguments.scenario) - set(scenarios.ALL)
    if unknown:
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    seed = arguments.seed if arguments.seed is not None else int(time.time()) % 1_000_000
    if arguments.measure:
        return measure.main()
    kinds = tuple(arguments.kinds.split(","))
    runs = matrix.plan(arguments.seconds) if arguments.matrix else [
        (name, arguments.members, kinds, arguments.seconds) for name in arguments.scenario or list(scenarios.ALL)]
    results = []
    try:
        for round_number in range(arguments.rounds):
            for name, members, kinds, seconds in runs:
                try:
                    result = run(scenarios.ALL[name], members, seconds, seed + round_number, arguments.clients,
                                 pace=arguments.pace, keep=arguments.keep, kinds=kinds, steps=arguments.steps)
                except Exception:  # a cluster that does not even start must not end the other runs
                    result = Result(name, members, seed + round_number, problems=[traceback.format_exc()])
                results.append(result)
                print(result.report() if result.verdict != "pass" or result.gap > 2 or result.counts
                      else table([result]).split("\n")[1], flush=True)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    if arguments.matrix:
        matrix.write(results)
        print("\n" + matrix.summary(results))
    print("\n" + table(results))
    return any(each.verdict in ("VIOLATION", "PROBLEM") for each in results)


if __name__ == "__main__":
    sys.exit(main())
