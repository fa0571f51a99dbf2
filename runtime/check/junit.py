"""A report as JUnit XML, which CI systems show: a test case for each number that a budget covers.

A case fails if its number lost more than its budget. There is one for box AP and one for mask AP in
any case; without a budget they only carry the numbers, and pass.
"""

from xml.etree import ElementTree

from .average_precision import BUDGETED
from .losses import Loss, in_words, losses
from .report import Report

__all__ = ["render_junit"]


def render_junit(report: Report) -> str:
    """Return the XML document."""
    judged = [loss for loss in losses(report) if loss.budget is not None]
    known = {(loss.kind, loss.metric) for loss in judged if loss.category is None}
    bare = [kind for kind in BUDGETED if kind in report.metrics and (kind, "AP") not in known]
    counts = {
        "tests": str(len(judged) + len(bare)),
        "failures": str(sum(loss.is_broken for loss in judged)),
        "errors": "0",
    }
    name = f"maskrt check {report.precision} on {report.target}"
    suite = ElementTree.Element("testsuite", {"name": name, **counts})
    for kind in bare:
        drop = (report.drop or {}).get(kind, {}).get("AP")
        _case(suite, f"{kind} AP", _said(report, kind, "AP", None, drop))
    for loss in judged:
        said = _said(report, loss.kind, loss.metric, loss.category, loss.lost)
        case = _case(suite, loss.name, said)
        if loss.is_broken:
            message = f"{loss.name} {in_words(loss.lost)}, the budget is {loss.budget:g}"
            ElementTree.SubElement(case, "failure", {"message": message}).text = said
    root = ElementTree.Element("testsuites", counts)
    root.append(suite)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, "unicode") + "\n"


def _case(suite: ElementTree.Element, name: str, said: str) -> ElementTree.Element:
    case = ElementTree.SubElement(suite, "testcase", {"classname": "maskrt.check", "name": name})
    ElementTree.SubElement(case, "system-out").text = said
    return case


def _said(report: Report, kind: str, metric: str, category: str | None, lost: float | None) -> str:
    values = report.metrics[kind] if category is None else report.classes[kind][category]
    name = Loss(kind, metric, category, 0.0).name
    against = "" if lost is None else f", {in_words(lost)} against {report.reference_name}"
    return f"{name} {_rounded(values[metric])}{against}"


def _rounded(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"
