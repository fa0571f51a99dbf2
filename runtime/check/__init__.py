"""Checking: how good an engine's results are, how close to a reference's, and what is to blame.

coco.py       an annotated data set; segmentation.py its masks
evaluator.py  COCO's numbers, picture by picture: assignment.py, records.py, average_precision.py,
              boundary.py; bootstrap.py how sure a drop is
evaluate.py   a predict function over a data set: results, AP, latency; budgets
fidelity.py   two models' instances of the same picture, paired one to one
agreement.py  what becomes of the reference's instances; stored.py keeps those for a device
report.py     what a check found, as versioned JSON (report.schema.json); html.py as one page,
              junit.py for CI
"""

from .agreement import Agreement, PictureAgreement
from .average_precision import BUDGETED, METRICS
from .bootstrap import drop_interval
from .coco import CocoDataset, CocoImage
from .evaluate import Evaluation, enforce, evaluate
from .evaluator import CocoEvaluator, coco_metrics
from .fidelity import Limits, Match, combine, compare, few_instances, violations
from .junit import render_junit
from .page import render_html
from .report import Report, latency_percentiles
from .stored import Recorder, StoredResults, evaluate_stored, results_key
from .triples import Triple, make_triple

__all__ = [
    "BUDGETED",
    "METRICS",
    "Agreement",
    "CocoDataset",
    "CocoEvaluator",
    "CocoImage",
    "Evaluation",
    "Limits",
    "Match",
    "PictureAgreement",
    "Recorder",
    "Report",
    "StoredResults",
    "Triple",
    "coco_metrics",
    "combine",
    "compare",
    "drop_interval",
    "enforce",
    "evaluate",
    "evaluate_stored",
    "few_instances",
    "latency_percentiles",
    "make_triple",
    "render_html",
    "render_junit",
    "results_key",
    "violations",
]
