"""Charts for the report: HTML bars and one SVG plot, inline, without scripts.

Bars are boxes of the page, so their text stays as large as the page's on a phone. The plot is drawn
360 units wide, a phone's width, for the same reason.
"""

from collections.abc import Sequence
from html import escape
from typing import Any, NamedTuple

__all__ = ["STYLE", "Bar", "bars", "divergence_plot"]

STYLE = """
.bars { display: grid; grid-template-columns: minmax(5rem, 11rem) 1fr; gap: .15rem .7rem;
  align-items: center; }
.bars .name { text-align: right; overflow-wrap: anywhere; font-size: .9rem; }
.bars .track { display: flex; align-items: center; gap: .4rem; height: 1.1rem; }
.bars .bar { height: .7rem; border-radius: 2px; background: var(--engine); min-width: 1px; }
.bars .reference { background: var(--reference); }
.bars .loss { background: var(--bad); } .bars .gain { background: var(--good); }
.bars .value { font-size: .8rem; font-variant-numeric: tabular-nums; white-space: nowrap; }
.bars .gap { grid-column: 1 / -1; height: .3rem; }
.key span { margin-right: 1rem; } .key i { display: inline-block; width: .8rem; height: .8rem;
  border-radius: 2px; margin-right: .35rem; vertical-align: -1px; }
svg { width: 100%; max-width: 44rem; height: auto; display: block; }
svg text { fill: currentColor; font-size: 9px; } svg .axis { stroke: var(--line); }
svg .own { fill: var(--engine); } svg .free { fill: none; stroke: var(--reference); }
svg .limit { stroke: var(--bad); stroke-dasharray: 4 3; } svg .beyond { fill: var(--bad); }
"""

_WIDTH, _HEIGHT = 360, 190
_LEFT, _TOP, _BOTTOM = 28, 10, 26


class Bar(NamedTuple):
    """One row.

    Attributes:
        name: on the left.
        value: drawn and written.
        kind: CSS class: `engine`, `reference`, `loss`, `gain`.
        group: rows of one group stand together.
    """

    name: str
    value: float | None
    kind: str = "engine"
    group: str = ""


def bars(rows: Sequence[Bar], *, most: float = 100.0) -> str:
    """Return horizontal bars; `most` is as long as the space allows."""
    lines, group = [], rows[0].group if rows else ""
    for row in rows:
        if row.group != group:
            lines.append('<div class="gap"></div>')
            group = row.group
        lines.append(f'<div class="name">{escape(row.name)}</div>{_track(row, most)}')
    return f'<div class="bars">{"".join(lines)}</div>\n'


def divergence_plot(layers: Sequence[dict[str, Any]], tolerance_db: float) -> str:
    """Return an SVG: a dot a layer at its own SNR, a line at what adds up, and the limit."""
    own = [layer["own_snr_db"] for layer in layers]
    free = [layer["snr_db"] for layer in layers]
    known = [value for value in (*own, *free) if value is not None]
    low = min([0.0, *(max(v, -10.0) for v in known)])
    high = max([50.0, *(min(v, 60.0) for v in known)])
    step = (_WIDTH - _LEFT - 6) / max(len(layers), 1)

    def x(index: int) -> float:
        return _LEFT + (index + 0.5) * step

    def y(value: float) -> float:
        share = (min(max(value, low), high) - low) / (high - low)
        return _HEIGHT - _BOTTOM - share * (_HEIGHT - _TOP - _BOTTOM)

    parts = [_grid(low, high, y)]
    points = " ".join(f"{x(i):.1f},{y(v):.1f}" for i, v in enumerate(free) if v is not None)
    parts.append(f'<polyline class="free" points="{points}"/>')
    parts.append(
        f'<line class="limit" x1="{_LEFT}" x2="{_WIDTH}" y1="{y(tolerance_db):.1f}" '
        f'y2="{y(tolerance_db):.1f}"/>'
    )
    for index, (layer, value) in enumerate(zip(layers, own, strict=True)):
        if value is not None:
            kind = "beyond" if value < tolerance_db else "own"
            parts.append(
                f'<circle class="{kind}" cx="{x(index):.1f}" cy="{y(value):.1f}" r="2.6">'
                f"<title>{escape(layer['name'])}: {value:.1f} dB</title></circle>"
            )
    parts.append(f'<text x="{_LEFT}" y="{_HEIGHT - 8}">first layer</text>')
    parts.append(f'<text x="{_WIDTH}" y="{_HEIGHT - 8}" text-anchor="end">last layer</text>')
    label = "Signal-to-noise ratio of each layer in decibels"
    return (
        f'<svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" aria-label="{label}">'
        f"{''.join(parts)}</svg>\n"
    )


def _track(row: Bar, most: float) -> str:
    if row.value is None:
        return '<div class="track"><span class="value">none annotated</span></div>'
    share = min(abs(row.value) / most, 1.0) if most else 0.0
    return (
        f'<div class="track"><div class="bar {row.kind}" style="width: {share * 82:.1f}%"></div>'
        f'<span class="value">{row.value:.2f}</span></div>'
    )


def _grid(low: float, high: float, y: Any) -> str:
    lines = []
    for value in range(int(low // 10) * 10, int(high) + 1, 10):
        if value < low:
            continue
        lines.append(
            f'<line class="axis" x1="{_LEFT}" x2="{_WIDTH}" y1="{y(value):.1f}" '
            f'y2="{y(value):.1f}"/><text x="{_LEFT - 4}" y="{y(value) + 3:.1f}" '
            f'text-anchor="end">{value}</text>'
        )
    return "".join(lines)
