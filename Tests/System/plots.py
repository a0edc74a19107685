"""Line plots as SVG, without libraries; readable on light and dark pages."""

import math

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 760, 400, 80, 110, 46, 60
# For light pages, and for dark ones.
COLOURS = [("#d9480f", "#ff922b"), ("#1971c2", "#4dabf7"), ("#2b8a3e", "#69db7c"), ("#862e9c", "#da77f2")]
LABEL_GAP = 15


def style():
    def rules(ink, grid, colours):
        return (f"text{{fill:{ink}}}.grid{{stroke:{grid}}}" + "".join(
            f".s{place} polyline{{stroke:{colour}}}.s{place} circle,.s{place} text{{fill:{colour}}}"
            for place, colour in enumerate(colours)))

    light, dark = zip(*COLOURS)
    return (f"<style>{rules('#24292f', '#d0d7de', light)}"
            f"@media(prefers-color-scheme:dark){{{rules('#e6edf3', '#3d444d', dark)}}}</style>")


def linear_ticks(most, count=5):
    """From 0, in steps that people like, to just above the greatest value."""
    raw = most / count or 1
    magnitude = 10 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= raw)
    return [step * each for each in range(math.ceil(most / step) + 1)]


def log_ticks(least, most):
    """1, 2 and 5 times the powers of ten, from just below the least value to just above the greatest."""
    powers = range(math.floor(math.log10(least)), math.ceil(math.log10(most)) + 1)
    ticks = [factor * 10.0 ** power for power in powers for factor in (1, 2, 5)]
    first = max(place for place, tick in enumerate(ticks) if tick <= least)
    last = min(place for place, tick in enumerate(ticks) if tick >= most)
    return ticks[first:last + 1]


def spread(wanted):
    """Heights for labels, in the order given, moved apart where they would overlap."""
    order = sorted(range(len(wanted)), key=lambda place: wanted[place])
    heights = list(wanted)
    for before, after in zip(order, order[1:]):
        heights[after] = max(heights[after], heights[before] + LABEL_GAP)
    return heights


def lines(title, x_title, y_title, series, log_y=False):
    """Series by name, each a list of (x, y); x is drawn on a logarithmic scale."""
    xs = sorted({x for points in series.values() for x, _ in points})
    ys = [y for points in series.values() for _, y in points]
    ticks = log_ticks(min(ys), max(ys)) if log_y else linear_ticks(max(ys))
    scale = math.log10 if log_y else float
    low, high = scale(ticks[0]), scale(ticks[-1])
    span = math.log10(xs[-1] / xs[0]) or 1

    def place(x, y):
        across = math.log10(x / xs[0]) / span
        up = (scale(y) - low) / ((high - low) or 1)
        return LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - up * (HEIGHT - TOP - BOTTOM)

    bottom = HEIGHT - BOTTOM
    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12" '
           f'role="img" aria-label="{title}">', style(), f'<text x="{LEFT}" y="24" font-size="15">{title}</text>',
           f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 14}" text-anchor="middle">{x_title}</text>',
           f'<text transform="translate(18 {(TOP + bottom) / 2}) rotate(-90)" text-anchor="middle">{y_title}</text>']
    for tick in ticks:
        _, y = place(xs[0], tick)
        out.append(f'<line class="grid" x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}"/>')
        out.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{tick:,.10g}</text>')
    for x in xs:
        across, _ = place(x, ticks[-1])
        out.append(f'<line class="grid" x1="{across:.1f}" y1="{bottom}" x2="{across:.1f}" y2="{bottom + 5}"/>')
        out.append(f'<text x="{across:.1f}" y="{bottom + 20}" text-anchor="middle">{x:,}</text>')
    ends = spread([place(*points[-1])[1] for points in series.values()])
    for number, (name, points) in enumerate(series.items()):
        at = [place(x, y) for x, y in points]
        out.append(f'<g class="s{number % len(COLOURS)}"><polyline fill="none" stroke-width="2" points="'
                   + " ".join(f"{a:.1f},{b:.1f}" for a, b in at) + '"/>')
        for (a, b), (x, y) in zip(at, points):
            out.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3.5"><title>{name}: {y:,.4g} at {x:,}</title></circle>')
        out.append(f'<text font-weight="600" x="{at[-1][0] + 9:.1f}" y="{ends[number] + 4:.1f}">{name}</text></g>')
    return "\n".join(out) + "\n</svg>\n"
