"""Whose traits a mixed portrait shows, as a curve over the second person's share: a picture of a report of
`photomaker evaluate comparison=mixing`.

    python benchmarks/mixing_curve.py runs/applications/mixing docs/images/mixing.svg

A panel for mixing by count and one for mixing by weight; bars are 95 % intervals over people.
"""

import argparse
import json
from pathlib import Path

WIDTH, HEIGHT, LEFT, TOP, GAP = 320, 220, 52, 34, 60
COLORS = {"first person": "#3f6fb5", "second person": "#c4602c"}


def panels(report: dict) -> dict[str, list[tuple[float, dict]]]:
    """By how people are mixed: shares of the second person, and the intervals of both by column."""
    found: dict[str, list[tuple[float, dict]]] = {}
    for row in report["rows"]:
        about = row["about"]
        if about.get("method") == "mixing":
            values = {name: row["metrics"][name]["interval"] for name in COLORS}
            found.setdefault(about["by"], []).append((float(about["share"]), values))
    return {by: sorted(points, key=lambda point: point[0]) for by, points in found.items()}


def drawn(found: dict[str, list[tuple[float, dict]]]) -> str:
    """The panels side by side, as SVG."""
    parts = []
    for number, (by, points) in enumerate(sorted(found.items())):
        left = LEFT + number * (WIDTH + GAP)
        parts += _axes(left, by)
        for name, color in COLORS.items():
            known = [(share, values[name]) for share, values in points if values[name] is not None]
            places = [(left + share * WIDTH, v) for share, v in known]
            line = " ".join(f"{x:.1f},{_down(v['mean']):.1f}" for x, v in places)
            parts.append(f'<polyline points="{line}" fill="none" stroke="{color}" stroke-width="2"/>')
            for x, v in places:
                low, high = _down(v["low"]), _down(v["high"])
                parts.append(f'<path d="M{x:.1f} {low:.1f}V{high:.1f}" stroke="{color}"/>')
                parts.append(f'<circle cx="{x:.1f}" cy="{_down(v["mean"]):.1f}" r="3" fill="{color}"/>')
    for number, (name, color) in enumerate(COLORS.items()):
        x = LEFT + number * 130
        parts.append(f'<text x="{x}" y="{TOP + HEIGHT + 52}" fill="{color}">traits of the {name.split()[0]}</text>')
    size = LEFT + len(found) * (WIDTH + GAP), TOP + HEIGHT + 64
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {size[0]} {size[1]}" font-family="sans-serif"'
    ground = f'<rect width="{size[0]}" height="{size[1]}" fill="#ffffff"/>'
    return f'{head} font-size="12" width="{size[0]}" height="{size[1]}">{ground}{"".join(parts)}</svg>\n'


def _axes(left: int, by: str) -> list[str]:
    parts = [f'<text x="{left}" y="{TOP - 14}" font-weight="bold">mixed by {by}</text>']
    for tick in range(0, 101, 25):
        y, x = _down(tick / 100), left + tick / 100 * WIDTH
        parts.append(f'<path d="M{left} {y}h{WIDTH}" stroke="#dddddd"/>')
        parts.append(f'<text x="{left - 8}" y="{y + 4}" text-anchor="end">{tick} %</text>')
        parts.append(f'<text x="{x}" y="{TOP + HEIGHT + 16}" text-anchor="middle">{tick} %</text>')
    middle = left + WIDTH / 2
    return [*parts, f'<text x="{middle}" y="{TOP + HEIGHT + 32}" text-anchor="middle">share of the second</text>']


def _down(value: float) -> float:
    return TOP + HEIGHT * (1 - value)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("report", type=Path, help="a report's folder")
    parser.add_argument("picture", type=Path, nargs="?", help="the SVG file; default: mixing.svg in the folder")
    options = parser.parse_args()
    found = panels(json.loads((options.report / "report.json").read_text()))
    if not found:
        parser.error(f"{options.report} has no rows of method=mixing")
    target = options.picture or options.report / "mixing.svg"
    target.write_text(drawn(found))
    print(f"{sum(map(len, found.values()))} points in {target}")


if __name__ == "__main__":
    main()
