"""MatrixNMS: every score decayed by the overlap with better candidates, all at once.

Candidate i comes before j if its score is higher, or equal and i < j. Among candidates of one label
(of any label if `class_agnostic`)

    compensate_i = max over k before i of iou[k, i]                        (0 if there is none)
    decay_j      = min over i before j of f(iou[i, j]) / f(compensate_i)   (1 if there is none)
    decayed_j    = score_j · decay_j

with f(x) = 1 - x (method "linear") or exp(-sigma · x²) (method "gaussian"). Where f(compensate_i)
is 0, since i itself is the exact duplicate of a better one (linear), the term counts as 1. The
Gaussian quotient is exp(-sigma · (iou² - compensate²)), which never divides by an exponential that
vanished. IoUs are cut to 0…1, and one that is no number counts as 0; a candidate whose score is no
number comes before none and after none. The order of the input stays; the caller takes the best
with TopK. Every operation is a float32 operation; but for the exponential, bodies agree exactly.

Source: Wang et al., SOLOv2: Dynamic and Fast Instance Segmentation (2020), and its published code,
whose sigma is 2.
"""

from onnx import TensorProto

from ..operator import Attribute, Port, Schema

__all__ = ["SCHEMA"]

_FLOAT, _INT32 = (TensorProto.FLOAT,), (TensorProto.INT32,)

SCHEMA = Schema(
    name="MatrixNMS",
    version=1,
    meaning="scores decayed by the overlap with better candidates",
    inputs=(
        Port("iou", ("B", "N", "N"), _FLOAT),
        Port("scores", ("B", "N"), _FLOAT),
        Port("labels", ("B", "N"), _INT32),
    ),
    attributes=(
        Attribute(
            "method", str, "how scores fall", lambda v: v in ("linear", "gaussian"),
            "'linear' or 'gaussian'",
        ),
        Attribute("sigma", float, "gaussian: how fast they fall", lambda v: 0 < v <= 1e6,
                  "greater than 0, and at most 1e6"),
        Attribute("class_agnostic", int, "1 ignores labels", lambda v: v in (0, 1), "0 or 1"),
    ),
    outputs=(Port("decayed", ("B", "N"), _FLOAT),),
)  # fmt: skip
