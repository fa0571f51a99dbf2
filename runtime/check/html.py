"""A report as one HTML page, with everything inside the one file: no script, no network.

Verdict, accuracy by metric, class and size, what became of the reference's instances, where the
loss came from, how far each layer is from FP32, latency and size, and the worst pictures.
"""

import base64
import io
from collections.abc import Iterator, Sequence
from html import escape
from typing import Any

import numpy as np

from ...core import require
from .average_precision import METRICS, Metrics
from .charts import STYLE, Bar, bars, divergence_plot
from .evaluate import budget_sentence
from .fidelity import few_instances
from .report import Report

__all__ = ["render_html"]

_STYLE = """
:root { color-scheme: light dark; --line: #8884; --soft: #8881; --good: #1a8f4c; --bad: #d33a2f;
  --engine: #2f6fde; --reference: #98a3b3; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto;
  padding: 0 1rem; }
h1 { font-size: 1.6rem; margin: 0; } h2 { font-size: 1.15rem; margin: 2.2rem 0 .6rem; }
.sub { opacity: .75; margin: .2rem 0 1.4rem; }
.verdict { border-left: 4px solid; padding: .5rem 1rem; background: var(--soft); }
.good { border-color: var(--good); } .bad { border-color: var(--bad); }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { padding: .35rem .6rem; text-align: right; border-bottom: 1px solid var(--line); }
th:first-child, td:first-child { text-align: left; overflow-wrap: anywhere;
  min-width: 7rem; }
.wide { font-size: .8rem; }
.wide th, .wide td { padding: .3rem .3rem; }
.wide th:first-child, .wide td:first-child { min-width: 5rem; }
thead th { opacity: .75; font-weight: 600; }
.pair { display: grid; gap: .6rem; grid-template-columns: 1fr 1fr; margin: 0 0 1.2rem; }
.pair figcaption { grid-column: 1 / -1; opacity: .75; font-size: .9rem; overflow-wrap: anywhere; }
img { width: 100%; border-radius: 6px; display: block; }
"""
_SIZES = {"APS": "small", "APM": "medium", "APL": "large"}
_WORST_LAYERS = 8
_DASH = "\N{EN DASH}"
_WIDE = 8  # columns beyond which a table is set smaller


def render_html(report: Report, pictures: Sequence[tuple[str, np.ndarray, np.ndarray]] = ()) -> str:
    """Return the page.

    Args:
        report: what to show.
        pictures: `(caption, reference's, engine's)`, uint8 `[H, W, 3]` RGB, already drawn on.
    """
    title = f"{report.precision} on {report.target}"
    body = "".join(
        (
            _verdict(report),
            *(_accuracy(report, kind) for kind in report.metrics),
            _by_class_and_size(report),
            _agreement(report.agreement),
            _attribution(report.attribution),
            _divergence(report.divergence),
            _latency(report),
            _engine(report.engine),
            _gallery(pictures),
        )
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}{STYLE}</style></head><body>\n"
        f"<h1>{escape(title)}</h1>\n"
        f'<p class="sub">Checked on {report.images} annotated pictures.</p>\n'
        f"{body}</body></html>\n"
    )


def _verdict(report: Report) -> str:
    notes = [*report.noise_sentences(), *([report.note] if report.note else [])]
    said = "".join(f"<p>{escape(sentence)}</p>\n" for sentence in notes)
    if report.budget is None:
        return said
    if not report.passed:
        return f'<p class="verdict bad">{escape(budget_sentence(report))}</p>\n{said}'
    sentence = (
        f"Within the budget: no AP is more than {report.budget:g} below that of "
        f"{report.reference_name}."
    )
    return f'<p class="verdict good">{escape(sentence)}</p>\n{said}'


def _accuracy(report: Report, kind: str) -> str:
    """Return one table: this engine, the reference, and what was lost."""
    rows = [(f"{report.precision} on {report.target}", report.metrics[kind])]
    if report.reference is not None and report.drop is not None and kind in report.drop:
        rows.append((report.reference_name or "reference", report.reference[kind]))
        rows.append(("drop", report.drop[kind]))
    names = [*METRICS, *(name for name in report.metrics[kind] if name not in METRICS)]
    body = [[label, *(_number(values.get(name)) for name in names)] for label, values in rows]
    heading = f"{kind.capitalize()} accuracy (COCO, 0 to 100)"
    return f"<h2>{heading}</h2>\n{_table(['', *names], body)}"


def _by_class_and_size(report: Report) -> str:
    """Return bars of AP by size and by class, the masks' if there are any."""
    kind = "mask" if "mask" in report.metrics else "box"
    reference = (report.reference or {}).get(kind)
    rows: list[Bar] = []
    for name, size in _SIZES.items():
        rows += _two_bars(size, report.metrics[kind], reference, name)
    found = f"<h2>{kind.capitalize()} AP by size</h2>\n{_key(report)}{bars(rows)}"
    classes = report.classes.get(kind, {})
    rows = []
    for name, values in classes.items():
        expected = report.reference_classes.get(kind, {}).get(name)
        rows += _two_bars(name, values, expected, "AP")
    if rows:
        found += f"<h2>{kind.capitalize()} AP by class</h2>\n{_key(report)}{bars(rows)}"
    return found


def _two_bars(label: str, values: Metrics, reference: Metrics | None, metric: str) -> Iterator[Bar]:
    yield Bar(label, values.get(metric), "engine", label)
    if reference is not None:
        yield Bar("", reference.get(metric), "reference", label)


def _key(report: Report) -> str:
    if report.reference is None:
        return ""
    names = {"engine": f"{report.precision} on {report.target}", "reference": report.reference_name}
    spans = "".join(
        f'<span><i style="background: var(--{kind})"></i>{escape(str(name))}</span>'
        for kind, name in names.items()
    )
    return f'<p class="key">{spans}</p>\n'


def _agreement(agreement: dict[str, Any] | None) -> str:
    if agreement is None:
        return ""
    counts = ("matched", "missed", "invented", "label_changed")
    table = _table(
        [name.replace("_", " ") for name in counts], [[str(agreement[name]) for name in counts]]
    )
    rows = []
    for name in ("box_iou", "mask_iou", "score_difference"):
        values = agreement[name]
        if values is not None:
            shown = [f"{values[p]:.4f}" for p in ("min", "p1", "p10", "p50", "mean", "max")]
            rows.append([name.replace("_", " ").replace("iou", "IoU"), *shown])
    spread = _table(["matched pairs", "least", "1 %", "10 %", "median", "mean", "most"], rows)
    swaps = "".join(
        f'<p class="verdict bad">The labels {escape(a)} and {escape(b)} are swapped.</p>\n'
        for a, b in agreement["swapped_labels"]
    )
    few = few_instances(agreement["matched"] + agreement["label_changed"])
    warning = "" if few is None else f'<p class="verdict bad">{escape(few)}</p>\n'
    return f"<h2>Instances against the reference</h2>\n{warning}{swaps}{table}{spread}"


def _attribution(attribution: dict[str, Any] | None) -> str:
    if attribution is None:
        return ""
    kind = "mask" if "mask" in attribution["whole"] else "box"
    lost = [part["lost"][kind] for part in attribution["parts"]]
    most = max((abs(value) for value in lost), default=0.0)
    rows = [
        Bar(part["what"], value, "loss" if value > 0 else "gain", part["stage"])
        for part, value in zip(attribution["parts"], lost, strict=True)
    ]
    findings = "".join(
        f'<p class="verdict bad">{escape(f["stage"].capitalize())}: {escape(f["sentence"])}</p>\n'
        for f in attribution["findings"]
    )
    whole = f"{kind.capitalize()} AP lost in all: {attribution['whole'][kind]:.2f}"
    return (
        f"<h2>Where the AP was lost</h2>\n<p>{whole}, from {escape(attribution['start'])} on; "
        f"each bar is one step, green is a gain.</p>\n{findings}{bars(rows, most=most)}"
    )


def _divergence(divergence: dict[str, Any] | None) -> str:
    if divergence is None:
        return ""
    layers = divergence["layers"]
    known = [layer for layer in layers if layer["own_snr_db"] is not None]
    worst = sorted(known, key=lambda layer: layer["own_snr_db"])[:_WORST_LAYERS]
    rows = [
        [
            layer["name"],
            layer["precision"],
            _number(layer["own_snr_db"]),
            _number(layer["snr_db"]),
            _number(layer["range_used"]),
            ", ".join(map(str, layer["worst_channels"])),
        ]
        for layer in worst
    ]
    heads = ["worst layers", "precision", "own SNR", "SNR", "range used", "worst channels"]
    limit = f"{divergence['tolerance_db']:g} dB"
    first = divergence["first"]
    said = (
        f"Each layer has {limit} of its own or more."
        if first is None
        else f"The first layer with less than {limit} of its own is {first}."
    )
    return (
        f"<h2>Layers against FP32 (SNR, decibels)</h2>\n<p>{escape(said)} Dots are each layer's "
        "own noise; the line is what adds up, which behind NMS compares different boxes.</p>\n"
        f"{divergence_plot(layers, divergence['tolerance_db'])}{_table(heads, rows)}"
    )


def _latency(report: Report) -> str:
    if not report.latency_ms:
        return ""
    cells = [f"{value:.1f}" for value in report.latency_ms.values()]
    return (
        "<h2>Latency (milliseconds a picture, masks pasted)</h2>\n"
        f"{_table(['', *report.latency_ms], [['', *cells]])}"
    )


def _engine(engine: dict[str, Any]) -> str:
    if not engine:
        return ""
    layers = ", ".join(
        f"{count} {name}" for name, count in (engine.get("layers") or {}).items() if count
    )
    megabytes = f"{engine['bytes'] / 1e6:.1f} MB" if "bytes" in engine else ""
    about = f"{engine.get('backend', '')} {engine.get('version', '')}".strip()
    row = [about, megabytes, layers]
    return f"<h2>Engine</h2>\n{_table(['backend', 'size', 'layers'], [row])}"


def _gallery(pictures: Sequence[tuple[str, np.ndarray, np.ndarray]]) -> str:
    if not pictures:
        return ""
    figures = "\n".join(
        f'<figure class="pair"><figcaption>{escape(caption)}: reference on the left, engine on '
        f'the right</figcaption><img alt="reference" src="{_data_uri(reference)}">'
        f'<img alt="engine" src="{_data_uri(engine)}"></figure>'
        for caption, reference, engine in pictures
    )
    return f"<h2>Where the two differ most</h2>\n{figures}\n"


def _table(heads: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    style = ' class="wide"' if len(heads) > _WIDE else ""
    head = "".join(f"<th>{escape(name)}</th>" for name in heads)
    body = "\n".join(
        "<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in row) + "</tr>" for row in rows
    )
    return (
        f'<div class="scroll"><table{style}><thead><tr>{head}</tr></thead><tbody>\n{body}\n'
        "</tbody></table></div>\n"
    )


def _number(value: float | None) -> str:
    return _DASH if value is None else f"{value:.2f}"


def _data_uri(image: np.ndarray) -> str:
    pillow = require("PIL.Image", "put pictures into the report")
    buffer = io.BytesIO()
    pillow.fromarray(image).save(buffer, format="JPEG", quality=88)
    return "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
