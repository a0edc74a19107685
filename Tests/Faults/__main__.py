"""The command behind scripts/faults."""

import argparse
import sys
import time

from . import scenarios
from .run import run, table


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
    parser.add_argument("--members", type=int, default=3, help="members of each cluster (3)")
    parser.add_argument("--seed", type=int, default=None, help="of the choices made; from the clock if not given")
    parser.add_argument("--rounds", type=int, default=1, help="how often to run them all (1)")
    parser.add_argument("--clients", type=int, default=6, help="clients that read and write (6)")
    parser.add_argument("--pace", type=float, default=0.012, help="mean pause between two calls of a client, s")
    parser.add_argument("--keep", default="/tmp/apus-faults", help="where histories and logs of failed runs go")
    parser.add_argument("--kind", default="apus", choices=["apus", "etcd34", "etcd35"],
                        help="which server: the checker itself is tested best on another one")
    arguments = parser.parse_args()
    unknown = set(arguments.scenario) - set(scenarios.ALL)
    if unknown:
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    seed = arguments.seed if arguments.seed is not None else int(time.time()) % 1_000_000
    results = []
    try:
        for round_number in range(arguments.rounds):
            for name in arguments.scenario or list(scenarios.ALL):
                result = run(scenarios.ALL[name], arguments.members, arguments.seconds, seed + round_number,
                             arguments.clients, pace=arguments.pace, keep=arguments.keep, kind=arguments.kind)
                results.append(result)
                print(result.report() if result.verdict != "pass" or result.gap > 2
                      else table([result]).split("\n")[1], flush=True)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
    print("\n" + table(results))
    return any(each.verdict in ("VIOLATION", "PROBLEM") for each in results)


if __name__ == "__main__":
    sys.exit(main())
