"""The page's sections, but for those of classes and pictures."""

from collections.abc import Iterator
from html import escape
from typing import Any

from ..average_precision import METRICS
from ..fidelity import few_instances
from ..losses import (
    budget_sentence,
    in_words,
    instance_sentence,
    judged_sentence,
    other_sentence,
    passed_sentence,
)
from ..report import Report
from .charts import Bar, bars, columns, divergence_plot
from .parts import DASH, details, number, section, table

__all__ = [
    "accuracy",
    "agreement",
    "attribution",
    "divergence",
    "engine",
    "latency",
    "origin",
    "tiles",
    "verdict",
]

_WORST_LAYERS = 8
_MEGA = 1e6


def verdict(report: Report) -> str:
    """Return whether the budget was kept, what it covers, and what else was lost."""
    other, judged = other_sentence(report), judged_sentence(report)
    said = [*report.noise_sentences(), *([report.note] if report.note else [])]
    if not judged and other:
        said.insert(0, other)
    listed = "".join(f"<li>{escape(sentence)}</li>" for sentence in said)
    rest = f'<ul class="sure">{listed}</ul>\n' if said else ""
    if not judged:
        return rest
    kind, word = ("good", "Passed.") if report.passed else ("bad", "Missed.")
    sentence = passed_sentence(report) if report.passed else budget_sentence(report)
    return (
        f'<div class="verdict {kind}"><p><b>{word}</b> {escape(sentence)}</p>'
        f"<p>{escape(judged)} {escape(other)}</p></div>\n{rest}"
    )


def tiles(report: Report) -> str:
    """Return the few numbers that a reader looks for first."""
    found = []
    for kind in ("box", "mask"):
        if kind in report.metrics:
            drop = (report.drop or {}).get(kind, {}).get("AP")
            said = "" if report.reference is None else in_words(drop)
            found.append((f"{kind} AP", number(report.metrics[kind]["AP"]), said))
    p50 = report.latency_ms.get("p50")
    if p50 is not None:
        other = report.reference_latency_ms.get("p50")
        said = "" if other is None else f"reference {other:.1f} ms"
        found.append(("latency, median", f"{p50:.1f} ms", said))
    if "bytes" in report.engine:
        found.append(("engine", f"{report.engine['bytes'] / _MEGA:.1f} MB", _layers(report.engine)))
    if report.agreement is not None:
        sure = report.agreement["confident"]
        value = f"{sure['missed']} / {sure['invented']}"
        at = f"instances, score {sure.get('score', 0.5):g} or more"
        found.append(("missed / invented", value, at))
    cells = "".join(
        f"<div><dt>{escape(name)}</dt><dd>{escape(value)}<small>{escape(said)}</small></dd></div>"
        for name, value, said in found
    )
    return f'<dl class="tiles">{cells}</dl>\n'


def accuracy(report: Report) -> str:
    """Return a table a kind: this engine, the reference, and what was lost or gained."""
    body = "".join(_numbers(report, kind) for kind in report.metrics)
    return section("accuracy", "Accuracy (COCO, 0 to 100)", body)


def _numbers(report: Report, kind: str) -> str:
    rows = [(f"{report.precision} on {report.target}", report.metrics[kind])]
    drop = None
    if report.reference is not None and report.drop is not None and kind in report.drop:
        rows.append((report.reference_name or "reference", report.reference[kind]))
        drop = report.drop[kind]
    names = [*METRICS, *(name for name in report.metrics[kind] if name not in METRICS)]
    body = [[label, *(number(values.get(name)) for name in names)] for label, values in rows]
    if drop is not None:
        body.append(["change", *(_change(drop.get(name)) for name in names)])
    return f"<h3>{kind.capitalize()}</h3>\n{table(['', *names], body)}"


def _change(lost: float | None) -> str:
    return DASH if lost is None else in_words(lost)


def agreement(found: dict[str, Any] | None) -> str:
    """Return what became of the reference's instances, and how far the pairs are apart."""
    if found is None:
        return ""
    counts = ("matched", "missed", "invented", "label_changed")
    names = [name.replace("_", " ") for name in counts]
    rows = [["all", *(str(found[name]) for name in counts)]]
    for name, of_label in found.get("by_label", {}).items():
        rows.append([name, *(str(of_label[count]) for count in counts)])
    spread = []
    for name in ("box_iou", "mask_iou", "score_shift", "score_difference", "box_shift"):
        values = found.get(name)
        if values is not None:
            shown = [f"{values[p]:.4f}" for p in ("min", "p1", "p10", "p50", "mean", "max")]
            spread.append([_WORDS[name], *shown])
    swaps = "".join(
        f'<p class="verdict bad">The labels {escape(a)} and {escape(b)} are swapped.</p>\n'
        for a, b in found["swapped_labels"]
    )
    changed = [[c["reference"], c["engine"], str(c["count"])] for c in found["changed_labels"]]
    few = few_instances(found["matched"] + found["label_changed"])
    warning = "" if few is None else f'<p class="verdict bad">{escape(few)}</p>\n'
    body = (
        f"{warning}{swaps}<p>{escape(instance_sentence(found).capitalize())}.</p>\n"
        f"{table(['instances', *names], rows)}"
        f'<div class="cards four">{"".join(_histograms(found))}</div>\n'
        f"{table(['matched pairs', 'least', '1 %', '10 %', 'median', 'mean', 'most'], spread)}"
    )
    if changed:
        body += details("Labels that changed", table(["reference", "engine", "instances"], changed))
    return section("instances", "Instances against the reference", body)


_WORDS = {
    "box_iou": "box IoU", "mask_iou": "mask IoU", "score_difference": "score difference",
    "score_shift": "score, engine minus reference", "box_shift": "box side moved, pixels",
}  # fmt: skip


def _histograms(found: dict[str, Any]) -> Iterator[str]:
    for name in ("score_shift", "box_shift", "box_iou", "mask_iou"):
        values = found.get(name)
        if values is None:
            continue
        drawn = values["histogram"]
        label = (
            f"{_WORDS[name]} of the matched pairs: median {values['p50']:.4f}, least "
            f"{values['min']:.4f}, most {values['max']:.4f}"
        )
        middle = 0.0 if name == "score_shift" else None
        plot = columns(drawn["counts"], drawn["low"], drawn["high"], _WORDS[name], label, middle)
        yield f'<figure class="card">{plot}</figure>'


def attribution(found: dict[str, Any] | None) -> str:
    """Return where the loss came from, a bar a step."""
    if found is None:
        return ""
    kind = "mask" if "mask" in found["whole"] else "box"
    lost = [part["lost"][kind] for part in found["parts"]]
    most = max((abs(value) for value in lost), default=0.0)
    rows = [
        Bar(part["what"], value, "loss" if value > 0 else "gain", part["stage"], in_words(value))
        for part, value in zip(found["parts"], lost, strict=True)
    ]
    findings = "".join(
        f'<p class="verdict bad">{escape(f["stage"].capitalize())}: {escape(f["sentence"])}</p>\n'
        for f in found["findings"]
    )
    whole = f"{kind.capitalize()} AP {in_words(found['whole'][kind])} in all"
    body = (
        f"<p>{whole}, from {escape(found['start'])} on; each bar is one step.</p>\n{findings}"
        f"{bars(rows, most=most)}"
    )
    return section("attribution", "Where the AP was lost", body)


def divergence(found: dict[str, Any] | None) -> str:
    """Return each layer's distance from FP32: a plot, the worst, and all of them."""
    if found is None:
        return ""
    layers = found["layers"]
    known = [layer for layer in layers if layer["own_snr_db"] is not None]
    worst = sorted(known, key=lambda layer: layer["own_snr_db"])[:_WORST_LAYERS]
    heads = ["layer", "precision", "own SNR", "SNR", "range used", "worst channels"]
    limit = f"{found['tolerance_db']:g} dB"
    first = found["first"]
    said = (
        f"Each layer has {limit} of its own or more."
        if first is None
        else f"The first layer with less than {limit} of its own is {first}."
    )
    rest = table(heads, [_layer(layer) for layer in layers])
    body = (
        f"<p>{escape(said)}</p>\n{divergence_plot(layers, found['tolerance_db'])}"
        f"{table(heads, [_layer(layer) for layer in worst], 'The worst layers')}"
        f"{details(f'All {len(layers)} layers', rest)}"
    )
    note = (
        "Dots are each layer's own noise (diamonds: below the dashed limit); the line is what adds "
        "up, which behind NMS compares different boxes."
    )
    return section("layers", "Layers against FP32 (SNR, decibels)", body, note)


def _layer(layer: dict[str, Any]) -> list[str]:
    channels = ", ".join(map(str, layer["worst_channels"]))
    numbers = (layer["own_snr_db"], layer["snr_db"], layer["range_used"])
    return [layer["name"], layer["precision"], *map(number, numbers), channels]


def latency(report: Report) -> str:
    """Return the latency of both, in a table and as bars of the medians."""
    if not report.latency_ms:
        return ""
    name = f"{report.precision} on {report.target}"
    of_both = [(name, "engine", report.latency_ms)]
    if report.reference_latency_ms:
        reference = report.reference_name or "reference"
        of_both.append((reference, "reference", report.reference_latency_ms))
    heads = list(report.latency_ms)
    rows = [[title, *(f"{values[h]:.1f}" for h in heads)] for title, _, values in of_both]
    most = max(values["p50"] for *_, values in of_both) or 1.0
    drawn = [Bar(title, values["p50"], kind, title) for title, kind, values in of_both]
    body = f"{bars(drawn, most=most, unit=' ms')}{table(['', *heads], rows)}"
    note = (
        "Milliseconds a picture, from pixels to pasted masks, as this check ran: maskrt bench "
        "measures speed alone."
    )
    return section("latency", "Latency", body, note)


def engine(found: dict[str, Any]) -> str:
    """Return the backend, size and layers of the engine."""
    if not found:
        return ""
    about = f"{found.get('backend', '')} {found.get('version', '')}".strip()
    size = f"{found['bytes'] / _MEGA:.1f} MB" if "bytes" in found else ""
    rows = [["backend", about], ["size", size], ["layers", _layers(found)]]
    kernels = found.get("kernels")
    if kernels:
        said = ", ".join(f"{count} {name}" for name, count in kernels.items())
        rows.append(["kernels a frame", said])
    return section("engine", "Engine", table(["", ""], rows))


def _layers(found: dict[str, Any]) -> str:
    counts = (found.get("layers") or {}).items()
    return ", ".join(f"{count} {name}" for name, count in counts if count)


def origin(found: dict[str, Any]) -> str:
    """Return where the numbers come from: the report's `provenance`, row by row."""
    rows = [[_name(key), value] for key, value in _flat(found) if value]
    note = "Hashes are SHA-256. The data's covers the annotations and every picture."
    return (
        section("origin", "Where these numbers come from", table(["", ""], rows), note)
        if rows
        else ""
    )


def _flat(found: Any, before: str = "") -> Iterator[tuple[str, str]]:
    for key, value in found.items():
        name = f"{before} {key}".strip()
        if isinstance(value, dict):
            yield from _flat(value, name)
        elif isinstance(value, list):
            yield name, ", ".join(map(str, value))
        elif value is not None:
            yield name, str(value)


def _name(key: str) -> str:
    return key.replace("sha256", "SHA-256 of").replace("_", " ")
