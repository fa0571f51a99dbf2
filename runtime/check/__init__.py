"""Checking: how good an engine's results are, and how close to a reference's.

coco.py       an annotated data set, and COCO AP on it
evaluate.py   a predict function over a data set: results, AP, latency; budgets
fidelity.py   two models' instances of the same picture, paired one to one
report.py     what a check found, as versioned JSON; html.py the same as one page
"""

from .average_precision import METRICS
from .coco import CocoDataset, CocoImage
from .evaluate import Evaluation, enforce, evaluate
from .evaluator import CocoEvaluator, coco_metrics
from .fidelity import Limits, Match, combine, compare, violations
from .html import render_html
from .report import Report, latency_percentiles

__all__ = [
    "METRICS",
    "CocoDataset",
    "CocoEvaluator",
    "CocoImage",
    "Evaluation",
    "Limits",
    "Match",
    "Report",
    "coco_metrics",
    "combine",
    "compare",
    "enforce",
    "evaluate",
    "latency_percentiles",
    "render_html",
    "violations",
]
