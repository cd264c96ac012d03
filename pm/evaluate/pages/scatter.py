"""Where each row stands on two metrics: the geometry of a small scatter plot, in pixels of its own."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from pm.evaluate.statistics import Interval
from pm.evaluate.tables import Column

WIDTH, HEIGHT = 460, 380
LEFT, RIGHT, TOP, BOTTOM = 56, 14, 14, 48  # margins of the frame
_AWAY = 15  # px from a point to the middle of its number
_PLACES = [(round(r * _AWAY * math.cos(a)), round(r * _AWAY * math.sin(a))) for r in (1, 1.7, 2.5) for a in (
    -math.pi / 4, math.pi / 4, -3 * math.pi / 4, 3 * math.pi / 4, 0, math.pi, -math.pi / 2, math.pi / 2
)]  # fmt: skip


@dataclass(frozen=True)
class Mark:
    """A row: its point, the ends of its whiskers, and where its number stands."""

    number: int  # from 1, as in the legend
    name: str
    text: str  # both values with their intervals
    x: float
    y: float
    x_low: float
    x_high: float
    y_low: float
    y_high: float
    label: tuple[float, float] = (0, 0)


@dataclass(frozen=True)
class Plot:
    """A scatter plot; `x_ticks` and `y_ticks` are (place, text)."""

    name: str  # unique in the page
    x_title: str
    y_title: str
    marks: Sequence[Mark]
    x_ticks: Sequence[tuple[float, str]]
    y_ticks: Sequence[tuple[float, str]]
    size: tuple[int, int] = (WIDTH, HEIGHT)
    frame: tuple[int, int, int, int] = field(default=(LEFT, TOP, WIDTH - RIGHT, HEIGHT - BOTTOM))


def scatter(
    name: str, x: Column, y: Column, points: Sequence[tuple[int, str, Interval | None, Interval | None]]
) -> Plot | None:
    """The plot of the rows that have both values; None where there is none.

    Args:
        name: of the plot, unique in the page.
        x: how the metric of the horizontal axis is shown.
        y: how that of the vertical axis is.
        points: number and name of a row, its value of each.
    """
    known = [(number, row, a, b) for number, row, a, b in points if a is not None and b is not None]
    if not known:
        return None
    x_ticks, x_at = _axis(x, [v for _, _, a, _ in known for v in (a.low, a.high, a.mean)], LEFT, WIDTH - RIGHT)
    y_ticks, y_at = _axis(y, [v for _, _, _, b in known for v in (b.low, b.high, b.mean)], HEIGHT - BOTTOM, TOP)
    marks = [
        Mark(
            number, row, f"{row}: {x.head} {x.cell(a)}, {y.head} {y.cell(b)}",
            x_at(a.mean), y_at(b.mean), x_at(a.low), x_at(a.high), y_at(b.low), y_at(b.high),
        )
        for number, row, a, b in known
    ]  # fmt: skip
    return Plot(name, x.arrowed, y.arrowed, _labelled(marks), x_ticks, y_ticks)


def _axis(
    column: Column, values: Sequence[float], start: float, end: float
) -> tuple[list[tuple[float, str]], Callable[[float], float]]:
    """Ticks, and the function from a value to its place between `start` and `end`."""
    numbers = [column.scaled(v) for v in values]
    marks = ticks(min(numbers), max(numbers))
    low, high = min(marks[0], *numbers), max(marks[-1], *numbers)

    def place(number: float) -> float:
        return round(start + (number - low) / (high - low) * (end - start), 1)

    digits = max(0, -math.floor(math.log10(marks[1] - marks[0]) + 1e-9))
    return [(place(m), f"{m:.{digits}f}") for m in marks], lambda value: place(column.scaled(value))


def ticks(low: float, high: float) -> list[float]:
    """Round numbers, 3 to 8 of them, the first not above `low` and the last not below `high`."""
    if high - low < 1e-9:
        low, high = low - 0.5, high + 0.5
    rough = (high - low) / 4
    power = 10 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * (1 - 1e-9))
    first, last = math.floor(low / step + 1e-9), math.ceil(high / step - 1e-9)
    return [i * step for i in range(first, last + 1)]


def _labelled(marks: Sequence[Mark]) -> list[Mark]:
    """Each number where it is farthest from other points and numbers, inside the frame and near its point."""
    done: list[Mark] = []
    taken = [(m.x, m.y) for m in marks]
    for mark in marks:
        places = [(mark.x + dx, mark.y + dy) for dx, dy in _PLACES]
        inside = [
            (px, py) for px, py in places if LEFT + 8 < px < WIDTH - RIGHT - 8 and TOP + 8 < py < HEIGHT - BOTTOM - 8
        ]
        best = next((p for p in inside if all(math.dist(p, other) >= _AWAY - 1 for other in taken)), None)
        best = best or max(inside or places, key=lambda p: min(math.dist(p, other) for other in taken))
        taken.append(best)
        done.append(Mark(**{**vars(mark), "label": (round(best[0], 1), round(best[1], 1))}))
    return done
