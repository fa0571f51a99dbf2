"""Small parts of the page: sections, tables, numbers, swatches, files that lie beside this one."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

from ....core.marks import colour_of

__all__ = [
    "DASH",
    "beside",
    "css_colour",
    "details",
    "ink_on",
    "number",
    "section",
    "swatch",
    "table",
]

DASH = "\N{EN DASH}"
_EQUAL_CONTRAST = 0.179
_WIDE = 8  # columns beyond which a table is set smaller


def beside(name: str) -> str:
    """Return the text of a file of this folder."""
    return (Path(__file__).parent / name).read_text(encoding="utf-8")


def section(key: str, heading: str, body: str, note: str = "") -> str:
    """Return a section of the page, or nothing without a body."""
    if not body:
        return ""
    said = f'<p class="note">{escape(note)}</p>\n' if note else ""
    return (
        f'<section id="{key}" aria-labelledby="{key}-h"><h2 id="{key}-h">{escape(heading)}</h2>\n'
        f"{said}{body}</section>\n"
    )


def details(summary: str, body: str) -> str:
    """Return something that is opened by a click, or by Enter."""
    return f"<details><summary>{escape(summary)}</summary>{body}</details>\n" if body else ""


def table(heads: Sequence[str], rows: Sequence[Sequence[str]], caption: str = "") -> str:
    """Return a table whose first column names its rows; all text is escaped."""
    style = ' class="wide"' if len(heads) > _WIDE else ""
    head = "".join(f'<th scope="col">{escape(name)}</th>' for name in heads)
    body = "\n".join(
        "<tr>" + f'<th scope="row">{escape(row[0])}</th>'
        + "".join(f"<td>{escape(cell)}</td>" for cell in row[1:]) + "</tr>"
        for row in rows
    )  # fmt: skip
    title = f"<caption>{escape(caption)}</caption>" if caption else ""
    return (
        f'<div class="scroll" tabindex="0"><table{style}>{title}<thead><tr>{head}</tr></thead>'
        f"<tbody>\n{body}\n</tbody></table></div>\n"
    )


def number(value: float | None) -> str:
    """Return two decimals, or a dash."""
    return DASH if value is None else f"{value:.2f}"


def css_colour(label: int) -> str:
    """Return a class's colour, that of `maskrt run`'s drawings, such as `#56b4e9`."""
    return "#{:02x}{:02x}{:02x}".format(*colour_of(label))


def ink_on(label: int) -> str:
    """Return black or white, whichever reads better on a class's colour.

    It is black from the relative luminance on at which WCAG's contrast with both is equal.
    """
    weighted = zip((0.2126, 0.7152, 0.0722), colour_of(label), strict=True)
    luminance = sum(weight * _linear(value / 255) for weight, value in weighted)
    return "#000" if luminance > _EQUAL_CONTRAST else "#fff"


def _linear(value: float) -> float:
    return value / 12.92 if value <= 0.04045 else ((value + 0.055) / 1.055) ** 2.4


def swatch(label: int | None) -> str:
    """Return a small square of a class's colour; nothing for a class that no label is known of."""
    if label is None:
        return ""
    return f'<i class="swatch" style="background: {css_colour(label)}" aria-hidden="true"></i>'
