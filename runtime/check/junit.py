"""A report as JUnit XML, which CI systems show: one test case for each AP that has a budget.

A case fails if its AP drops by more than the budget. Without a budget the cases only carry the
numbers, and pass.
"""

from xml.etree import ElementTree

from .average_precision import BUDGETED
from .report import Report

__all__ = ["render_junit"]


def render_junit(report: Report) -> str:
    """Return the XML document."""
    missed = dict(report.missed())
    kinds = [kind for kind in BUDGETED if kind in report.metrics]
    name = f"maskrt check {report.precision} on {report.target}"
    counts = {"tests": str(len(kinds)), "failures": str(len(missed)), "errors": "0"}
    suite = ElementTree.Element("testsuite", {"name": name, **counts})
    for kind in kinds:
        case = ElementTree.SubElement(
            suite, "testcase", {"classname": "maskrt.check", "name": f"{kind} AP"}
        )
        drop = (report.drop or {}).get(kind, {}).get("AP")
        said = f"{kind} AP {_rounded(report.metrics[kind]['AP'])}{_beside(drop, report)}"
        if kind in missed:
            message = f"{kind} AP drops by {missed[kind]:.2f}, the budget is {report.budget:g}"
            ElementTree.SubElement(case, "failure", {"message": message}).text = said
        ElementTree.SubElement(case, "system-out").text = said
    root = ElementTree.Element("testsuites", counts)
    root.append(suite)
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, "unicode") + "\n"


def _rounded(value: float | None) -> str:
    return "unknown" if value is None else f"{value:.2f}"


def _beside(drop: float | None, report: Report) -> str:
    if drop is None:
        return ""
    side = "below" if drop >= 0 else "above"
    return f", {abs(drop):.2f} {side} {report.reference_name}"
