"""docs/benchmarks.md and its plots, from the figures that benchmark.py has kept."""

import statistics

import plots
from harness import ROOT

PAGE = ROOT / "docs" / "benchmarks.md"
BEGIN, END = "<!-- written by scripts/bench: begin -->", "<!-- written by scripts/bench: end -->"


def table(*rows):
    """Markdown; the first row is the head."""
    lines = ["| " + " | ".join(row) + " |" for row in rows]
    return "\n".join([lines[0], "| " + " | ".join("---" for _ in rows[0]) + " |", *lines[1:]])


def short(kind):
    """`Apus`, or `etcd 3.4` of `etcd 3.4.23`."""
    return "Apus" if kind == "apus" else ".".join(kind.split(".")[:2])


def ratio(ours, theirs, digits=1):
    return f"**{ours / theirs:.{digits}f}x**"


class Page:
    def __init__(self, figures):
        self.figures = figures
        self.kinds = figures["kinds"]
        self.ours, *self.peers = self.kinds
        self.names = {kind: short(kind) for kind in self.kinds}

    def median(self, workload, kind, what):
        return statistics.median(each[what] for each in self.figures["workloads"][workload][kind])

    def introduction(self):
        peers = " and ".join(self.peers)
        times = sorted(self.figures["measured"].values())
        when = times[0] if times[0] == times[-1] else f"{times[0]} to {times[-1]}"
        text = f"""Written by `scripts/bench` ({when}): three members of each on one machine with {self.figures['cores']} cores ({self.figures['machine']}),
`apus-bench` on the leader, fsync on, values of 256 B, keys at random among {self.figures['keys']:,} that were put before. Peers: {peers}.
CPU is that of all three members; the generator shares their cores. "16 x 64" is 16 connections with 64 calls in flight each."""
        if "workloads" in self.figures:
            text += f"""
Workloads: medians of alternating rounds ({self.figures['rounds']} of {self.figures['seconds']} s) on new clusters. Before each load both sides are left alone until puts and
reads are answered fast again and the members are at rest. Absolute figures belong to the machine; the ratios are what to look at."""
        return text

    def workloads(self):
        kept = self.figures["workloads"]
        names = [name for name in kept if name != "memory"]
        head = ["workload", "Apus"]
        for kind in self.peers:
            head += [self.names[kind], "ratio"]
        rates = [head + ["goal"]]
        head = ["workload"] + [f"{what} {self.names[kind]}" for what in ("p50, p99", "CPU per call") for kind in self.kinds]
        costs = [head]
        for name in names:
            rate = {kind: self.median(name, kind, "rate") for kind in self.kinds}
            row = [name, f"{rate[self.ours]:,.0f}/s"]
            for kind in self.peers:
                row += [f"{rate[kind]:,.0f}/s", ratio(rate[self.ours], rate[kind])]
            rates.append(row + [self.figures["goals"].get(name, "")])
            costs.append([name]
                         + [f"{self.median(name, kind, 'p50') / 1000:.2f}, {self.median(name, kind, 'p99') / 1000:.1f} ms"
                            for kind in self.kinds]
                         + [f"{self.median(name, kind, 'cpu_us'):.1f} us" for kind in self.kinds])
        return table(*rates) + "\n\n" + table(*costs) + self.doubts(names)

    def doubts(self, names):
        """What a reader should know about single rounds."""
        notes = []
        for name in names:
            for kind in self.kinds:
                rounds = self.figures["workloads"][name][kind]
                noisy = sum(not each["settled"] for each in rounds)
                failed = sum(each["failed"] + each["unanswered"] for each in rounds)
                if kind == self.ours and len(rounds) != self.figures["rounds"]:
                    notes.append(f"{name}: measured again alone, rounds: {len(rounds)}.")
                if noisy:
                    notes.append(f"{name}, {self.names[kind]}: {noisy} of {len(rounds)} rounds began before it was at rest.")
                if failed:
                    notes.append(f"{name}, {self.names[kind]}: {failed:,} calls failed or had no answer.")
        return "\n\n" + "\n".join(notes) if notes else ""

    def more(self):
        """Everything else that is a figure of each side, beside its goal."""
        head = ["what", "Apus"]
        for kind in self.peers:
            head += [self.names[kind], "ratio"]
        rows = [head + ["goal"]]

        def add(name, values, form, goal):
            row = [name, form.format(values[self.ours])]
            for kind in self.peers:
                row += [form.format(values[kind]), ratio(values[self.ours], values[kind], 2)]
            rows.append(row + [goal])

        workloads = self.figures.get("workloads", {})
        if "put, 1 connection" in workloads:
            add("put latency, 1 connection, median", {kind: self.median("put, 1 connection", kind, "p50") for kind in self.kinds},
                "{:,.0f} us", "<= 0.5x")
        if "memory" in workloads:
            add("resident memory after the workloads, three members",
                {kind: statistics.median(workloads["memory"][kind]) for kind in self.kinds}, "{:,.0f} MiB", "")
        if "idle" in self.figures:
            for what, name, form, goal in (("memory", "resident memory, idle, three members", "{:,.0f} MiB", "<= 0.3x"),
                                           ("processor", "processor time, idle, three members", "{:.2f} %", "<= 1 % of a core")):
                add(name, {kind: self.figures["idle"][kind][what] for kind in self.kinds}, form, goal)
        if "million" in self.figures:
            for what, name, form, goal in (("memory", "resident memory, a million keys, one member", "{:,.0f} MiB", "<= 0.5x"),
                                           ("restart", "restart to serving a million keys", "{:.2f} s", "<= 0.3x")):
                add(name, {kind: self.figures["million"][kind][what] for kind in self.kinds}, form, goal)
        return table(*rows) if len(rows) > 1 else ""

    def rates(self):
        kinds = list(self.figures["rates"])
        ours, theirs = (self.figures["rates"][kind] for kind in kinds)
        peer = self.names[kinds[1]]
        rows = [["puts offered", f"done, Apus / {peer}", f"p50, Apus / {peer}", f"p99, Apus / {peer}", "ratio of p99", "goal"]]
        for left, right in zip(ours, theirs):
            rows.append([f"{left['offered']:,.0f}/s", f"{left['rate']:,.0f} / {right['rate']:,.0f}"]
                        + [f"{left[what] / 1000:.2f} / {right[what] / 1000:.2f} ms" for what in ("p50", "p99")]
                        + [ratio(left["p99"], right["p99"], 3), "<= 0.5x"])
        return (f"90 % and 100 % of what {kinds[1]} made at 16 x 64, sent by the clock whether or not earlier "
                "puts were answered; times\ncount from when each put was due.\n\n" + table(*rows))

    def curves(self):
        curves = self.figures["curves"]
        connections = [point["connections"] for point in curves[self.ours]]
        rows = [["connections"] + [f"{each:,}" for each in connections]]
        ends = []
        for kind, points in curves.items():
            rows.append([f"{self.names[kind]}, puts/s"] + [f"{point['rate']:,.0f}" for point in points])
            rows.append([f"{self.names[kind]}, p99 ms"] + [f"{point['p99'] / 1000:,.1f}" for point in points])
            peak = max(points, key=lambda point: point["rate"])
            ends.append(f"{self.names[kind]} {points[-1]['rate'] / peak['rate'] - 1:+.0%}")
        return (f"One put in flight on each connection. At {connections[-1]:,} connections, against the best of the curve: "
                f"{', '.join(ends)} (goal: no fall of more than 20 %).\n\n"
                "![Puts per second over connections](benchmark-throughput.svg)\n\n![p99 over connections](benchmark-p99.svg)\n\n"
                + table(*rows))

    def plots(self):
        """File names and SVG."""
        if "curves" not in self.figures:
            return {}
        made = {}
        for name, what, unit, title, y_title, log_y in (
                ("throughput", "rate", 1, "Puts per second over connections", "puts per second", False),
                ("p99", "p99", 1000, "p99 of puts over connections", "milliseconds", True)):
            series = {self.names[kind]: [(point["connections"], point[what] / unit) for point in points]
                      for kind, points in self.figures["curves"].items()}
            made[f"benchmark-{name}.svg"] = plots.lines(
                title + ", three members", "connections, one put in flight on each", y_title, series, log_y)
        return made

    def text(self):
        parts = [self.introduction()]
        if "workloads" in self.figures:
            parts.append(self.workloads())
        parts += [part for part in [self.more()] if part]
        if "rates" in self.figures:
            parts += ["### Puts at a fixed rate", self.rates()]
        if "curves" in self.figures:
            parts += ["### Connections", self.curves()]
        return "\n\n".join(parts)


def text(figures):
    return Page(figures).text()


def write(figures):
    """Replaces the written part of the page, and the plots; what stands before and behind it is kept."""
    page = PAGE.read_text() if PAGE.exists() else ""
    if BEGIN in page and END in page:
        before, after = page.split(BEGIN, 1)[0], page.split(END, 1)[1]
    else:
        before, after = "# Benchmarks\n\n", "\n"
    made = Page(figures)
    PAGE.write_text(f"{before}{BEGIN}\n{made.text()}\n{END}{after}")
    for name, plot in made.plots().items():
        (PAGE.parent / name).write_text(plot)
