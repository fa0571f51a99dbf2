"""Several engines on one page: a table, and bars of AP, latency and size."""

from collections.abc import Mapping, Sequence
from typing import Any

from ..losses import in_words
from .charts import Bar, bars
from .parts import DASH, number, section, table

__all__ = ["COLUMNS", "cells", "comparison_page"]

COLUMNS = (
    "engine", "box AP", "change", "mask AP", "change", "latency", "size", "kernels",
    "layers really in",
)  # fmt: skip
"""Headings of the table, on the page and on a terminal."""

_MEGA = 1e6


def cells(row: Mapping[str, Any]) -> list[str]:
    """Return one row of the table; `row` is a `ComparedEngine` as JSON data."""
    found = [f"{row['bundle']} {row['engine']}"]
    for kind in ("box", "mask"):
        lost = row["lost"].get(kind)
        found += [number(row["ap"].get(kind)), DASH if lost is None else in_words(lost)]
    latency = row["latency_ms"]
    found.append(DASH if latency is None else f"{latency:.1f} ms ({row['latency_from']})")
    found.append(DASH if row["bytes"] is None else f"{row['bytes'] / _MEGA:.1f} MB")
    found.append(DASH if row["kernels"] is None else str(row["kernels"]))
    layers = row["layers"] or {}
    found.append(", ".join(f"{count} {name}" for name, count in layers.items()) or DASH)
    return found


def comparison_page(found: Mapping[str, Any]) -> str:
    """Return the page of `Comparison.to_json()`."""
    from . import page_of  # which imports the sections, as this file does

    rows: Sequence[Mapping[str, Any]] = found["engines"]
    body = section("accuracy", "Side by side", table(COLUMNS, [cells(row) for row in rows]))
    for kind in ("mask", "box"):
        drawn = [_bar(row, row["ap"].get(kind)) for row in rows if kind in row["ap"]]
        if drawn:
            body += section(f"{kind}-ap", f"{kind.capitalize()} AP", bars(drawn))
    body += _amounts(rows, "latency_ms", "Latency, median of a picture", 1.0, " ms")
    body += _amounts(rows, "bytes", "Size of the engine", _MEGA, " MB")
    names = ["engine", "reference", "pictures", "machine", "date", "SHA-256 of the data"]
    facts = [
        [f"{row['bundle']} {row['engine']}", row["reference"], str(row["pictures"]),
         row["machine"], row["date"], row["data"] or DASH]
        for row in rows if row["ap"]
    ]  # fmt: skip
    if facts:
        body += section("origin", "Where these numbers come from", table(names, facts))
    notes = " ".join(found["notes"])
    count = len(rows)
    said = f"{count} engine{'' if count == 1 else 's'}. {notes}".strip()
    return page_of("Engines side by side", said, body)


def _amounts(
    rows: Sequence[Mapping[str, Any]], key: str, heading: str, unit: float, name: str
) -> str:
    known = [row for row in rows if row[key] is not None]
    if not known:
        return ""
    drawn = [_bar(row, row[key] / unit) for row in known]
    most = max(row[key] / unit for row in known) or 1.0
    return section(key.partition("_")[0], heading, bars(drawn, most=most, unit=name))


def _bar(row: Mapping[str, Any], value: float | None) -> Bar:
    name = f"{row['bundle']} {row['engine']}"
    return Bar(name, value, "engine", name)
