"""SoftNMS: non-maximum suppression that lowers scores instead of removing candidates.

Per picture, `max_outputs` times or until nothing is left, the candidate M with the highest current
score (equal scores: the first in the input) is taken if that score is above `score_threshold`; if
it is not, the picture is done. Then the score s of every candidate that is left and has M's label
(any label if `class_agnostic`) decays by its overlap with M, o = |A ∩ B| / (|A| + |B| - |A ∩ B|):

    linear      s ← s · (1 - o)            where o > iou_threshold
    gaussian    s ← s · exp(-o² / sigma)

The candidates taken are returned in the order in which they were taken, each with its score at that
moment; the rest of each output is zero and `count` says how many are real. A score that is no
number, or becomes none (∞ · 0), is no candidate. An overlap that is no number (of empty boxes)
lowers nothing. Every operation is a float32 operation, in this order and never contracted.

Source: Bodla et al., Soft-NMS: Improving Object Detection With One Line of Code, 2017. Its authors'
code, as mmcv's, also removes candidates on the way that fall below the score threshold; as it is 0
or more that changes nothing, since they could never be taken.
"""

import numpy as np
from onnx import TensorProto

from ..operator import Attribute, Port, Schema

__all__ = ["SCHEMA", "least_overlap"]

_FLOAT, _INT32 = (TensorProto.FLOAT,), (TensorProto.INT32,)
_METHODS = ("linear", "gaussian")


def least_overlap(method: str, iou_threshold: float) -> float:
    """Return the overlap above which a score decays: exp(0) leaves it as it is."""
    return iou_threshold if method == "linear" else 0.0


def _is_finite(value: float) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.isfinite(np.float32(value)))


SCHEMA = Schema(
    name="SoftNMS",
    version=1,
    meaning="non-maximum suppression that lowers scores, with a fixed number of outputs",
    inputs=(
        Port("boxes", ("B", "K", 4), _FLOAT),
        Port("scores", ("B", "K"), _FLOAT),
        Port("labels", ("B", "K"), _INT32),
    ),
    attributes=(
        Attribute(
            "method", str, "how a score decays", lambda v: v in _METHODS, "'linear' or 'gaussian'"
        ),
        Attribute(
            "iou_threshold",
            float,
            "linear alone: overlap above it decays",
            lambda v: v >= 0 and _is_finite(v),
            "0 or more",
        ),
        Attribute(
            "sigma",
            float,
            "gaussian alone: the smaller, the stronger the decay",
            lambda v: np.float32(v) > 0 and _is_finite(v),
            "greater than 0",
        ),
        Attribute(
            "score_threshold",
            float,
            "scores at or below it are not taken",
            lambda v: v >= 0 and _is_finite(v),
            "0 or more",
        ),
        Attribute("max_outputs", int, "D, at most K", lambda v: v >= 1, "at least 1"),
        Attribute("class_agnostic", int, "1 ignores labels", lambda v: v in (0, 1), "0 or 1"),
    ),
    outputs=(
        Port("out_boxes", ("B", "D", 4), _FLOAT),
        Port("out_scores", ("B", "D"), _FLOAT),
        Port("out_labels", ("B", "D"), _INT32),
        Port("out_indices", ("B", "D"), _INT32),
        Port("count", ("B",), _INT32),
    ),
)
