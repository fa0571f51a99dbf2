"""What the page says of classes: AP with what changed, curves, and the confusion matrix."""

from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from ..losses import in_words
from ..report import Report
from .charts import Bar, Line, bars, lines
from .parts import details, section, swatch

__all__ = ["by_class_and_size", "confusion", "curves"]

_SIZES = {"APS": "small", "APM": "medium", "APL": "large"}
_SHOWN = 12  # classes whose curves are open at once
_MOST_LABELS = 24  # rows of a confusion matrix that a page can show


def by_class_and_size(report: Report) -> str:
    """Return bars of AP by size and by class, the masks' if there are any, most lost first."""
    kind = "mask" if "mask" in report.metrics else "box"
    reference = (report.reference or {}).get(kind, {})
    rows: list[Bar] = []
    for name, size in _SIZES.items():
        rows += _two_bars(size, report.metrics[kind].get(name), reference.get(name), report)
    body = f"<h3>By size</h3>\n{_key(report)}{bars(rows)}"
    expected = report.reference_classes.get(kind, {})
    pairs = [
        (name, values.get("AP"), expected.get(name, {}).get("AP"))
        for name, values in report.classes.get(kind, {}).items()
    ]
    pairs.sort(key=lambda pair: -_lost(pair[1], pair[2]))
    drawn = [bar for name, ap, wanted in pairs for bar in _two_bars(name, ap, wanted, report)]
    if drawn:
        body += f"<h3>By class, most lost first</h3>\n{bars(drawn)}"
    return section("classes", f"{kind.capitalize()} AP by size and class", body)


def _lost(ap: float | None, expected: float | None) -> float:
    return 0.0 if ap is None or expected is None else expected - ap


def _two_bars(name: str, ap: float | None, expected: float | None, report: Report) -> list[Bar]:
    known = report.reference is not None and ap is not None and expected is not None
    said = in_words(_lost(ap, expected)) if known else ""
    found = [Bar(name, ap, "engine", name, said)]
    if report.reference is not None:
        found.append(Bar("", expected, "reference", name))
    return found


def _key(report: Report) -> str:
    if report.reference is None:
        return ""
    names = {"engine": f"{report.precision} on {report.target}", "reference": report.reference_name}
    spans = "".join(
        f'<span><i class="{kind}"></i>{escape(str(name))}</span>' for kind, name in names.items()
    )
    return f'<p class="key">{spans}</p>\n'


def curves(report: Report, labels: Mapping[str, int]) -> str:
    """Return precision over recall and F1 over score, two plots a class."""
    kind = "mask" if "mask" in report.curves else "box"
    of_engine, of_reference = report.curves.get(kind, {}), report.reference_curves.get(kind, {})
    cards = [
        _card(name, found, of_reference.get(name), labels.get(name))
        for name, found in of_engine.items()
    ]
    if not cards:
        return ""
    dashed = '<span><i class="dashed"></i>reference</span>' if of_reference else ""
    key = (
        '<p class="key"><span><i class="line"></i>engine, IoU 0.5</span><span><i class="line thin">'
        f"</i>engine, IoU 0.75</span>{dashed}</p>\n"
    )
    body = f'{key}<div class="cards">{"".join(cards[:_SHOWN])}</div>\n'
    rest = cards[_SHOWN:]
    body += details(
        f"{len(rest)} more classes", f'<div class="cards">{"".join(rest)}</div>' if rest else ""
    )
    note = (
        "Precision at each recall is the largest there or beyond, as COCO takes it. F1 is at IoU "
        "0.5; the dotted line marks the score threshold at which it is largest."
    )
    return section("curves", f"{kind.capitalize()} precision, recall and F1 by class", body, note)


def _card(name: str, found: Any, reference: Any, label: int | None) -> str:
    best = found["best"]
    precision, f1 = [], []
    if reference is not None:
        precision += [Line(reference["precision"][iou], "reference") for iou in ("50", "75")]
        f1 = [Line(reference["f1"], "reference")]
    precision += [
        Line(found["precision"]["50"], "engine"),
        Line(found["precision"]["75"], "engine thin"),
    ]
    f1 += [Line(found["f1"], "engine")]
    said = (
        f"F1 {best['f1']:.3f} at score {best['score']:.2f}: precision {best['precision']:.3f}, "
        f"recall {best['recall']:.3f}"
    )
    if reference is not None:
        other = reference["best"]
        said += f". Reference: F1 {other['f1']:.3f} at {other['score']:.2f}"
    by_recall = lines(precision, "recall", "precision", f"Precision over recall of {name}")
    return (
        f'<figure class="card"><figcaption>{swatch(label)}<b>{escape(name)}</b></figcaption>'
        f'<div class="two">{by_recall}'
        f"{lines(f1, 'score', 'F1', f'F1 over score of {name}. {said}', best['score'])}</div>"
        f'<p class="small">{said}.</p></figure>\n'
    )


def confusion(report: Report, labels: Mapping[str, int]) -> str:
    """Return the confusion matrix, and in each cell what changed against the reference."""
    found = report.confusion
    if found is None:
        return ""
    names, counts = found["labels"], found["counts"]
    before = report.reference_confusion["counts"] if report.reference_confusion else None
    kept = _kept(counts, before)
    last = len(names)
    heads = "".join(
        f'<th scope="col"><span>{swatch(labels.get(names[c]))}{escape(names[c])}</span></th>'
        for c in kept
    )
    rows = []
    for r in [*kept, last]:
        title = "not annotated" if r == last else names[r]
        mark = swatch(labels.get(title)) if r != last else ""
        total = sum(counts[r]) or 1
        cells = "".join(
            _cell(counts, before, r, c, total, "" if r == last and c == last else None)
            for c in [*kept, last]
        )
        rows.append(f'<tr><th scope="row">{mark}{escape(title)}</th>{cells}</tr>')
    hidden = last - len(kept)
    more = f" {hidden} classes with nothing confused are left out." if hidden else ""
    note = (
        f"Rows are annotations, columns what the engine calls them, with a score of "
        f"{found['score']:g} or more and a box IoU of 0.5 or more. In brackets: more or fewer than "
        f"the reference.{more}"
    )
    body = (
        f'<div class="scroll" tabindex="0"><table class="matrix"><thead><tr><td></td>{heads}'
        f'<th scope="col"><span>not found</span></th></tr></thead><tbody>\n{"".join(rows)}'
        "</tbody></table></div>\n"
    )
    return section("confusion", "What objects are found as", body, note)


def _kept(counts: Sequence[Sequence[int]], before: Any) -> list[int]:
    """Return the classes to show: all of them, or those with most that is confused or changed."""
    last = len(counts) - 1

    def trouble(index: int) -> int:
        wrong = sum(counts[index]) + sum(row[index] for row in counts) - 2 * counts[index][index]
        return wrong + (0 if before is None else abs(counts[index][index] - before[index][index]))

    if last <= _MOST_LABELS:
        return list(range(last))
    return sorted(sorted(range(last), key=lambda i: -trouble(i))[:_MOST_LABELS])


def _cell(counts: Any, before: Any, r: int, c: int, total: int, blank: str | None) -> str:
    if blank is not None:
        return '<td class="none"></td>'
    value = counts[r][c]
    change = 0 if before is None else value - before[r][c]
    said = f' <span class="said">({_signed(change)})</span>' if change else ""
    kind = "right" if r == c else "wrong"
    share = value / total
    shown = str(value) if value or change else ""
    return f'<td class="{kind}" style="--share: {share:.2f}">{shown}{said}</td>'


def _signed(value: int) -> str:
    return f"+{value}" if value > 0 else f"\N{MINUS SIGN}{-value}"
