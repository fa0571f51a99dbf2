"""Charts for the report: HTML bars, and SVG plots with lines, columns or dots, all inline.

Bars are boxes of the page, so their text stays as large as the page's on a phone. A plot is drawn
360 units wide, a phone's width, for the same reason; small multiples are 240. What is drawn is said
in words too: each plot has a label that a screen reader reads.
"""

from collections.abc import Callable, Sequence
from html import escape
from typing import Any, NamedTuple

__all__ = ["Bar", "Line", "bars", "columns", "divergence_plot", "lines"]

_WIDTH, _HEIGHT = 360, 190
_LEFT, _RIGHT, _TOP, _BOTTOM = 30, 8, 10, 28
_SMALL = 240, 170


class Bar(NamedTuple):
    """One row.

    Attributes:
        name: on the left.
        value: drawn and written.
        kind: CSS class: `engine`, `reference`, `loss`, `gain`.
        group: rows of one group stand together.
        said: written behind the value, such as `lost 0.20`.
    """

    name: str
    value: float | None
    kind: str = "engine"
    group: str = ""
    said: str = ""


class Line(NamedTuple):
    """A line of a plot: its y at evenly spaced x from 0 to 1, and its CSS class."""

    values: Sequence[float]
    kind: str


def bars(rows: Sequence[Bar], *, most: float = 100.0, unit: str = "") -> str:
    """Return horizontal bars; `most` is as long as the space allows."""
    lines_, group = [], rows[0].group if rows else ""
    for row in rows:
        if row.group != group:
            lines_.append('<div class="gap"></div>')
            group = row.group
        lines_.append(f'<div class="name">{escape(row.name)}</div>{_track(row, most, unit)}')
    return f'<div class="bars">{"".join(lines_)}</div>\n'


def lines(
    drawn: Sequence[Line], x_name: str, y_name: str, label: str, mark: float | None = None
) -> str:
    """Return an SVG of lines over 0 to 1, both ways; `mark` is a place on the x axis."""
    width, height = _SMALL
    top = _TOP + 12  # below the name of the y axis

    def x(value: float) -> float:
        return _LEFT + value * (width - _LEFT - _RIGHT)

    def y(value: float) -> float:
        return height - _BOTTOM - value * (height - top - _BOTTOM)

    parts = []
    for tick in (0.0, 0.5, 1.0):
        parts.append(_level(f"{tick:g}", y(tick), width))
        anchor = "start" if tick == 0 else "end" if tick == 1 else "middle"
        parts.append(
            f'<text x="{x(tick):.0f}" y="{height - 16}" text-anchor="{anchor}">{tick:g}</text>'
        )
    parts.append(f'<text x="{x(0.5):.0f}" y="{height - 4}" text-anchor="middle">{x_name}</text>')
    parts.append(f'<text x="2" y="10">{y_name}</text>')
    if mark is not None:
        parts.append(f'<path class="mark" d="M{x(mark):.1f} {y(0):.1f}V{y(1):.1f}"/>')
    for line in drawn:
        parts.append(f'<polyline class="{line.kind}" points="{_points(line.values, x, y)}"/>')
    return _svg(width, height, label, parts)


def columns(
    counts: Sequence[int],
    low: float,
    high: float,
    x_name: str,
    label: str,
    middle: float | None = None,
) -> str:
    """Return an SVG histogram on a scale of square roots, which shows the rare beside the many."""
    most = max([1, *counts])
    step = (_WIDTH - _LEFT - _RIGHT) / max(len(counts), 1)

    def y(count: float) -> float:
        return _HEIGHT - _BOTTOM - (count / most) ** 0.5 * (_HEIGHT - _TOP - _BOTTOM)

    parts = [_level(f"{value}", y(value), _WIDTH) for value in sorted({0, most // 4, most})]
    width_of = (high - low) / max(len(counts), 1)
    for index, count in enumerate(counts):
        if count:
            start = low + index * width_of
            parts.append(
                f'<rect class="column" x="{_LEFT + index * step + 0.5:.1f}" y="{y(count):.1f}" '
                f'width="{step - 1:.1f}" height="{y(0) - y(count):.1f}"><title>{count} from '
                f"{start:.3g} to {start + width_of:.3g}</title></rect>"
            )
    for share, value in ((0.0, low), (0.5, (low + high) / 2), (1.0, high)):
        at = _LEFT + share * (_WIDTH - _LEFT - _RIGHT)
        anchor = ("start", "middle", "end")[round(share * 2)]
        parts.append(
            f'<text x="{at:.0f}" y="{_HEIGHT - 16}" text-anchor="{anchor}">{value:.3g}</text>'
        )
    if middle is not None and high > low:
        at = _LEFT + (middle - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT)
        parts.append(f'<path class="mark" d="M{at:.1f} {y(0):.1f}V{_TOP}"/>')
    parts.append(
        f'<text x="{_WIDTH / 2:.0f}" y="{_HEIGHT - 3}" text-anchor="middle">{x_name}</text>'
    )
    return _svg(_WIDTH, _HEIGHT, label, parts)


def divergence_plot(layers: Sequence[dict[str, Any]], tolerance_db: float) -> str:
    """Return an SVG: a dot a layer at its own SNR, a line at what adds up, and the limit."""
    own = [layer["own_snr_db"] for layer in layers]
    free = [layer["snr_db"] for layer in layers]
    known = [value for value in (*own, *free) if value is not None]
    low = min([0.0, *(max(v, -10.0) for v in known)])
    high = max([50.0, *(min(v, 60.0) for v in known)])
    step = (_WIDTH - _LEFT - _RIGHT) / max(len(layers), 1)

    def x(index: int) -> float:
        return _LEFT + (index + 0.5) * step

    def y(value: float) -> float:
        share = (min(max(value, low), high) - low) / (high - low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    parts = [_level(str(v), y(v), _WIDTH) for v in range(-10, int(high) + 1, 10) if v >= low]
    points = " ".join(f"{x(i):.1f},{y(v):.1f}" for i, v in enumerate(free) if v is not None)
    parts.append(f'<polyline class="reference" points="{points}"/>')
    parts.append(f'<path class="limit" d="M{_LEFT} {y(tolerance_db):.1f}H{_WIDTH}"/>')
    for index, (layer, value) in enumerate(zip(layers, own, strict=True)):
        if value is not None:
            kind = "beyond" if value < tolerance_db else "own"
            parts.append(_dot(kind, x(index), y(value), f"{layer['name']}: {value:.1f} dB"))
    parts.append(f'<text x="{_LEFT}" y="{_HEIGHT - 8}">first layer</text>')
    parts.append(f'<text x="{_WIDTH - 2}" y="{_HEIGHT - 8}" text-anchor="end">last layer</text>')
    return _svg(_WIDTH, _HEIGHT, "Signal-to-noise ratio of each layer in decibels", parts)


def _dot(kind: str, x: float, y: float, title: str) -> str:
    """Return a circle, or, beyond the limit, a diamond: told apart without colours, too."""
    shown = f"<title>{escape(title)}</title>"
    if kind == "beyond":
        path = f"M{x:.1f} {y - 4:.1f}l4 4l-4 4l-4 -4z"
        return f'<path class="beyond" d="{path}">{shown}</path>'
    return f'<circle class="own" cx="{x:.1f}" cy="{y:.1f}" r="2.6">{shown}</circle>'


def _points(
    values: Sequence[float], x: Callable[[float], float], y: Callable[[float], float]
) -> str:
    """Return the corners of a line; those that lie on a level stretch are left out."""
    last = len(values) - 1
    kept = [
        (index / last, value)
        for index, value in enumerate(values)
        if index in (0, last) or not values[index - 1] == value == values[index + 1]
    ]
    return " ".join(f"{x(a):.1f},{y(b):.1f}" for a, b in kept)


def _track(row: Bar, most: float, unit: str) -> str:
    if row.value is None:
        return '<div class="track"><span class="value">none annotated</span></div>'
    share = min(abs(row.value) / most, 1.0) if most else 0.0
    said = f' <span class="said">{escape(row.said)}</span>' if row.said else ""
    return (
        f'<div class="track"><div class="bar {row.kind}" style="width: {share * 62:.1f}%"></div>'
        f'<span class="value">{row.value:.2f}{unit}{said}</span></div>'
    )


def _level(name: str, y: float, width: int) -> str:
    return (
        f'<path class="axis" d="M{_LEFT} {y:.1f}H{width - _RIGHT}"/>'
        f'<text x="{_LEFT - 4}" y="{y + 3:.1f}" text-anchor="end">{name}</text>'
    )


def _svg(width: int, height: int, label: str, parts: Sequence[str]) -> str:
    return (
        f'<svg class="plot" viewBox="0 0 {width} {height}" role="img" '
        f'aria-label="{escape(label, quote=True)}">{"".join(parts)}</svg>\n'
    )
