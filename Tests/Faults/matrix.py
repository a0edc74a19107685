"""The whole fault matrix: what is run for it, and its table in docs/testing.md."""

import datetime
import os

from harness import ROOT

from . import scenarios
from .history import OK, UNKNOWN

PAGE = ROOT / "docs" / "testing.md"
BEGIN, END = "<!-- fault matrix: written by scripts/faults --matrix -->", "<!-- end of the fault matrix -->"
APUS = ("apus",)
# Scenarios of which a matrix run needs more than its usual seconds.
LONG = {"crash-points": 180, "snapshot-transfer": 30, "lease-storm": 60, "storm": 20, "replace-member": 20}
# The same again with five members, and in clusters of both kinds.
FIVE = ["kill-leader", "kill-all", "partition", "one-way", "bridge", "power-cut", "power-cut-all", "replace-member",
        "mixed"]
BOTH = ["kill-leader", "pause-leader", "partition", "lagging"]
MIXES = [("apus", "etcd35", "etcd35"), ("etcd35", "apus", "apus"), ("apus", "etcd34", "etcd34")]


def plan(seconds):
    """(scenario, members, kinds, seconds) of every run."""
    runs = [(name, 3, APUS, LONG.get(name, seconds)) for name in scenarios.ALL if name != "everything"]
    runs += [(name, 5, APUS, LONG.get(name, seconds)) for name in FIVE]
    runs += [(name, 3, kinds, seconds) for kinds in MIXES for name in BOTH]
    runs += [("snapshot-transfer", 3, kinds, 2 * seconds) for kinds in MIXES]
    runs += [("everything", 3, APUS, 4 * seconds), ("everything", 5, APUS, 4 * seconds)]
    return runs


def row(result):
    scenario = scenarios.ALL[result.name]
    about = f"{scenario.about} ({result.kinds})" if result.kinds else scenario.about
    verdict = result.verdict if result.verdict != "pass" else f"pass{'; ' + result.notes if result.notes else ''}"
    return (scenario.rows, f"`{result.name}`", about, result.size, sum(result.outcomes.values()),
            result.outcomes[OK], result.outcomes[UNKNOWN], result.faults, f"{result.gap:.2f}", verdict)


def table(results):
    head = ("rows", "scenario", "what happens", "members", "operations", "ok", "unknown", "faults", "longest gap, s",
            "verdict")
    lines = [head, ("---",) * len(head), *map(row, results)]
    return "\n".join("| " + " | ".join(str(cell).replace("|", "\\|") for cell in each) + " |" for each in lines)


def summary(results):
    total = sum(sum(each.outcomes.values()) for each in results)
    unknown = sum(each.outcomes[UNKNOWN] for each in results)
    bad = [each.name for each in results if each.verdict in ("VIOLATION", "PROBLEM")]
    return (f"{datetime.date.today()}, {os.cpu_count()} cores: {len(results)} runs, {total:,} operations, "
            f"{sum(each.faults for each in results):,} faults, {unknown:,} unknown outcomes, longest write gap "
            f"{max((each.gap for each in results), default=0):.2f} s, "
            f"{sum(len(each.violations) for each in results)} violations, "
            f"{'problems in ' + ', '.join(bad) if bad else 'no problems'}.")


def write(results, page=PAGE):
    """Puts the table into the page, in place of the one that is there."""
    text = page.read_text()
    before, after = text.split(BEGIN)[0], text.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n{summary(results)}\n\n{table(results)}\n{END}{after}")
