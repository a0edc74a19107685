"""Line plots as SVG, without libraries."""

import math

WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 720, 360, 80, 100, 40, 50
COLOURS = ["#d9480f", "#1c7ed6", "#2b8a3e", "#862e9c"]


def nice_steps(most, count=5):
    raw = most / count or 1
    magnitude = 10 ** math.floor(math.log10(raw))
    step = next(factor * magnitude for factor in (1, 2, 2.5, 5, 10) if factor * magnitude >= raw)
    return [step * each for each in range(math.ceil(most / step) + 1)]


def lines(title, series):
    """Series by name, each a list of (x, y); x is drawn on a logarithmic scale."""
    xs = sorted({x for points in series.values() for x, _ in points})
    steps = nice_steps(max(y for points in series.values() for _, y in points))
    span = math.log10(max(xs)) - math.log10(min(xs)) or 1

    def place(x, y):
        across = (math.log10(x) - math.log10(min(xs))) / span
        return (LEFT + across * (WIDTH - LEFT - RIGHT), HEIGHT - BOTTOM - y / steps[-1] * (HEIGHT - TOP - BOTTOM))

    out = [f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" font-family="sans-serif" font-size="12">',
           f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
           f'<text x="{LEFT}" y="22" font-size="15">{title}</text>']
    for step in steps:
        _, y = place(xs[0], step)
        out.append(f'<line x1="{LEFT}" y1="{y:.1f}" x2="{WIDTH - RIGHT}" y2="{y:.1f}" stroke="#ddd"/>')
        out.append(f'<text x="{LEFT - 8}" y="{y + 4:.1f}" text-anchor="end">{step:,g}</text>')
    for x in xs:
        across, _ = place(x, 0)
        out.append(f'<text x="{across:.1f}" y="{HEIGHT - BOTTOM + 20}" text-anchor="middle">{x:,}</text>')
    for colour, (name, points) in zip(COLOURS, series.items()):
        path = " ".join(f"{a:.1f},{b:.1f}" for a, b in (place(x, y) for x, y in points))
        out.append(f'<polyline points="{path}" fill="none" stroke="{colour}" stroke-width="2"/>')
        for x, y in points:
            a, b = place(x, y)
            out.append(f'<circle cx="{a:.1f}" cy="{b:.1f}" r="3" fill="{colour}"/>')
        a, b = place(*points[-1])
        out.append(f'<text x="{a + 8:.1f}" y="{b + 4:.1f}" fill="{colour}">{name}</text>')
    return "\n".join(out) + "\n</svg>\n"
