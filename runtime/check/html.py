"""A report as one HTML page: tables and a few pictures, everything inside the one file."""

import base64
import io
from collections.abc import Sequence
from html import escape

import numpy as np

from ...core import require
from .average_precision import METRICS, Metrics
from .evaluate import budget_sentence
from .report import Report

__all__ = ["render_html"]

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --good: #1a8f4c; --bad: #d33a2f; }
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 3rem auto;
  padding: 0 1.5rem; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .6rem; }
.sub { opacity: .7; margin: .2rem 0 1.4rem; }
.verdict { border-left: 4px solid; padding: .5rem 1rem; background: var(--soft); }
.good { border-color: var(--good); } .bad { border-color: var(--bad); }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .6rem; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; } thead th { opacity: .7; font-weight: 600; }
.pictures { display: grid; gap: 1rem;
  grid-template-columns: repeat(auto-fill, minmax(17rem, 1fr)); }
figure { margin: 0; } img { width: 100%; border-radius: 6px; display: block; }
figcaption { opacity: .7; font-size: .85rem; overflow-wrap: anywhere; }
"""


def render_html(report: Report, pictures: Sequence[tuple[str, np.ndarray, np.ndarray]] = ()) -> str:
    """Return the page.

    Args:
        report: what to show.
        pictures: `(caption, reference's, engine's)`, uint8 `[H, W, 3]` RGB, already drawn on.
    """
    title = f"{report.precision} on {report.target}"
    kinds = "".join(_accuracy(report, kind) for kind in report.metrics)
    note = f"<p>{escape(report.note)}</p>" if report.note else ""
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head><body>\n"
        f"<h1>{escape(title)}</h1>\n"
        f'<p class="sub">Checked on {report.images} annotated pictures.</p>\n'
        f"{_verdict(report)}{note}{kinds}{_latency(report)}{_gallery(pictures)}"
        "</body></html>\n"
    )


def _verdict(report: Report) -> str:
    if report.budget is None:
        return ""
    if not report.passed:
        return f'<p class="verdict bad">{escape(budget_sentence(report))}</p>\n'
    sentence = (
        f"Within the budget: no AP is more than {report.budget:g} below that of "
        f"{report.reference_name}."
    )
    return f'<p class="verdict good">{escape(sentence)}</p>\n'


def _accuracy(report: Report, kind: str) -> str:
    """Return one table: this engine, the reference, and what was lost."""
    rows = [(f"{report.precision} on {report.target}", report.metrics[kind])]
    if report.reference is not None and report.drop is not None and kind in report.drop:
        rows.append((report.reference_name or "reference", report.reference[kind]))
        rows.append(("drop", report.drop[kind]))
    head = "".join(f"<th>{name}</th>" for name in METRICS)
    body = "\n".join(_row(label, values) for label, values in rows)
    return (
        f"<h2>{kind.capitalize()} accuracy (COCO, 0 to 100)</h2>\n"
        f"<table><thead><tr><th></th>{head}</tr></thead><tbody>\n{body}\n</tbody></table>\n"
    )


def _row(label: str, values: Metrics) -> str:
    numbers = (values.get(name) for name in METRICS)
    cells = "".join(f"<td>{'–' if n is None else f'{n:.2f}'}</td>" for n in numbers)  # noqa: RUF001
    return f"<tr><td>{escape(label)}</td>{cells}</tr>"


def _latency(report: Report) -> str:
    if not report.latency_ms:
        return ""
    head = "".join(f"<th>{escape(name)}</th>" for name in report.latency_ms)
    cells = "".join(f"<td>{value:.1f}</td>" for value in report.latency_ms.values())
    return (
        "<h2>Latency (milliseconds a picture, masks pasted)</h2>\n"
        f"<table><thead><tr><th></th>{head}</tr></thead>"
        f"<tbody><tr><td></td>{cells}</tr></tbody></table>\n"
    )


def _gallery(pictures: Sequence[tuple[str, np.ndarray, np.ndarray]]) -> str:
    if not pictures:
        return ""
    figures = "\n".join(
        f'<figure><img alt="" src="{_data_uri(image)}">'
        f"<figcaption>{escape(caption)} ({side})</figcaption></figure>"
        for caption, *both in pictures
        for side, image in zip(("reference", "engine"), both, strict=True)
    )
    return f'<h2>Pictures</h2>\n<div class="pictures">{figures}</div>\n'


def _data_uri(image: np.ndarray) -> str:
    pillow = require("PIL.Image", "put pictures into the report")
    buffer = io.BytesIO()
    pillow.fromarray(image).save(buffer, format="JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
