"""A bench as a picture: where the milliseconds of a call go, and how steady calls are.

A chart is a list of shapes in a box of 720 x 400 units, that an SVG and a PNG writer both know how
to draw; so no plotting package is needed, and the two look the same.
"""

from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import NamedTuple

from ..core import UsageError, require
from ..core.whole_file import whole_file, write_text
from .bench import STAGES, Bench
from .bench_engines import Benches

__all__ = ["check_chart_name", "write_chart"]

_WIDTH, _HEIGHT = 720, 400
_LEFT, _RIGHT = 110, 620
_INK, _PALE, _ENGINE, _OTHER, _MARK = "#222222", "#cccccc", "#2f6fb0", "#8d9aa5", "#c0392b"
_FONT = 11
_PNG_SCALE = 2


class _Rectangle(NamedTuple):
    x: float
    y: float
    width: float
    height: float
    colour: str


class _Text(NamedTuple):
    x: float
    y: float  # of the baseline
    text: str
    anchor: str = "start"  # SVG's text-anchor


_Shape = _Rectangle | _Text
_ANCHORS = {"start": "ls", "middle": "ms", "end": "rs"}  # Pillow's names: left, middle, right


def check_chart_name(file: Path | str) -> None:
    """Raise `UsageError` for an ending that `write_chart` does not know."""
    if Path(file).suffix.lower() not in (".svg", ".png"):
        raise UsageError(f"{file} is no name for a chart: end it in .svg or .png.")


def write_chart(found: Bench | Benches, file: Path | str) -> None:
    """Draw a bench, of one engine or of several, into an `.svg` or `.png` file.

    Raises:
        UsageError: another ending.
    """
    check_chart_name(file)
    path = Path(file)
    write = _svg if path.suffix.lower() == ".svg" else _png
    write(_shapes(found) if isinstance(found, Bench) else _side_by_side(found), path)


def _side_by_side(found: Benches) -> list[_Shape]:
    """Return a bar of each stage's median behind the other, a row an engine, and the total."""
    first = found.engines[0]
    title = f"{len(found.engines)} engines in turn, batch {first.batch}, {first.runs} calls of each"
    longest = max(one.stages_ms["total"]["p50"] for one in found.engines) or 1.0
    scale = (_RIGHT - _LEFT) / longest
    step = min(40.0, 300 / len(found.engines))
    shapes: list[_Shape] = [_Text(12, 20, title)]
    for number, (name, one) in enumerate(zip(found.names, found.engines, strict=True)):
        y, total = 44 + step * number, one.stages_ms["total"]["p50"]
        engine = one.stages_ms["engine"]["p50"]
        shapes += [
            _Text(_LEFT - 8, y + step / 2, name, "end"),
            _Rectangle(_LEFT, y, max(total * scale, 1), step * 0.7, _OTHER),
            _Rectangle(_LEFT, y, max(min(engine, total) * scale, 1), step * 0.7, _ENGINE),
            _Text(_LEFT + total * scale + 8, y + step / 2, f"{total:.2f} ms"),
        ]
    below = 44 + step * len(found.engines) + 16
    return [*shapes, _Text(_LEFT, below, "medians: the engine, and what is before and after it")]


def _shapes(found: Bench) -> list[_Shape]:
    title = f"{found.target} {found.precision}, batch {found.batch}, {found.runs} calls"
    rate = f"{found.pictures_per_second:.1f} pictures/s, {found.instances:.0f} instances in each"
    heading = [_Text(12, 20, title), _Text(_WIDTH - 12, 20, rate, "end")]
    return [*heading, *_bars(found, 38), *_calls(found, 248, 120)]


def _bars(found: Bench, top: float) -> list[_Shape]:
    """Return a bar a stage, as long as its median, with a mark at its 90th percentile."""
    rows = {stage: found.stages_ms[stage] for stage in STAGES}
    if found.pytorch is not None:
        rows["PyTorch total"] = found.pytorch["total_ms"]
    longest = max(row.get("p90", row["p50"]) for row in rows.values()) or 1.0
    shapes: list[_Shape] = []
    for number, (name, row) in enumerate(rows.items()):
        y = top + 25 * number
        p50, end = (row.get(key, row["p50"]) / longest * (_RIGHT - _LEFT) for key in ("p50", "p90"))
        colour = _ENGINE if name == "engine" else _OTHER
        shapes += [
            _Text(_LEFT - 8, y + 14, name, "end"),
            _Rectangle(_LEFT, y + 2, max(p50, 1), 16, colour),
            _Text(_LEFT + end + 8, y + 14, f"{row['p50']:.2f} ms"),
        ]
        if "p90" in row:
            shapes.append(_Rectangle(_LEFT + end, y, 1.5, 20, _MARK))
    marked = "; marks: p90" if any("p90" in row for row in rows.values()) else ""
    return [*shapes, _Text(_LEFT, top + 25 * len(rows) + 12, f"bars: median{marked}")]


def _calls(found: Bench, top: float, height: float) -> list[_Shape]:
    """Return a column a call, as high as its total, and lines at the median and p99 (or p90)."""
    total = found.stages_ms["total"]
    highest = max(found.samples_ms) or 1.0
    step = (_RIGHT - _LEFT) / len(found.samples_ms)
    shapes: list[_Shape] = []
    for number, value in enumerate(found.samples_ms):
        tall = value / highest * height
        x = _LEFT + number * step
        shapes.append(_Rectangle(x, top + height - tall, max(step - 1, 0.5), tall, _PALE))
    previous = float("inf")
    for key in [key for key in ("p99", "p90", "p50") if key in total][:2][::-1]:
        y = top + height * (1 - min(total[key] / highest, 1.0))
        shapes.append(_Rectangle(_LEFT, y, _RIGHT - _LEFT, 1, _MARK))
        written = min(y + 4, previous - _FONT - 1)  # the two never lie on each other
        shapes.append(_Text(_RIGHT + 6, written, f"{key} {total[key]:.1f} ms"))
        previous = written
    middle = (_LEFT + _RIGHT) / 2
    return [*shapes, _Text(middle, top + height + 18, "total of each call, in order", "middle")]


def _svg(shapes: Sequence[_Shape], file: Path) -> None:
    parts = []
    for shape in shapes:
        if isinstance(shape, _Rectangle):
            parts.append(
                f'<rect x="{shape.x:.1f}" y="{shape.y:.1f}" width="{shape.width:.1f}" '
                f'height="{shape.height:.1f}" fill="{shape.colour}"/>'
            )
        else:
            parts.append(
                f'<text x="{shape.x:.1f}" y="{shape.y:.1f}" text-anchor="{shape.anchor}" '
                f'fill="{_INK}">{escape(shape.text)}</text>'
            )
    body = "\n".join(parts)
    write_text(
        file,
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {_HEIGHT}" width="{_WIDTH}"'
        f' height="{_HEIGHT}" font-family="sans-serif" font-size="{_FONT}">\n'
        f'<rect width="{_WIDTH}" height="{_HEIGHT}" fill="white"/>\n{body}\n</svg>\n',
    )


def _png(shapes: Sequence[_Shape], file: Path) -> None:
    image = require("PIL.Image", "draw charts")
    draw = require("PIL.ImageDraw", "draw charts")
    font = require("PIL.ImageFont", "draw charts").load_default(size=_FONT * _PNG_SCALE)
    canvas = image.new("RGB", (_WIDTH * _PNG_SCALE, _HEIGHT * _PNG_SCALE), "white")
    pen = draw.Draw(canvas)
    for shape in shapes:
        x, y = shape.x * _PNG_SCALE, shape.y * _PNG_SCALE
        if isinstance(shape, _Rectangle):
            right, bottom = x + shape.width * _PNG_SCALE, y + shape.height * _PNG_SCALE
            pen.rectangle((x, y, right, bottom), fill=shape.colour)
        else:
            pen.text((x, y), shape.text, fill=_INK, font=font, anchor=_ANCHORS[shape.anchor])
    with whole_file(file) as written:
        canvas.save(written)
