"""BatchedNMS: greedy non-maximum suppression per label, with a fixed number of outputs.

Per picture, candidates with a score above `score_threshold` are visited in order of falling score
(equal scores in input order). One is kept unless an already kept candidate of the same label (of
any label if `class_agnostic`) overlaps it with

    IoU = |A ∩ B| / (|A| + |B| - |A ∩ B|) > iou_threshold        (strictly, as torchvision's nms)

The first `max_outputs` kept ones are returned, best first; the rest of each output is zero and
`count` says how many are real.

Source: torchvision.ops.batched_nms. TensorRT's EfficientNMS suppresses at IoU ≥ threshold instead.
"""

from onnx import TensorProto

from ..operator import Attribute, Port, Schema

__all__ = ["SCHEMA"]

_FLOAT, _INT32 = (TensorProto.FLOAT,), (TensorProto.INT32,)

SCHEMA = Schema(
    name="BatchedNMS",
    version=1,
    meaning="greedy non-maximum suppression per label, with a fixed number of outputs",
    inputs=(
        Port("boxes", ("B", "K", 4), _FLOAT),
        Port("scores", ("B", "K"), _FLOAT),
        Port("labels", ("B", "K"), _INT32),
    ),
    attributes=(
        Attribute("iou_threshold", float, "overlap that suppresses", lambda v: v >= 0, "0 or more"),
        Attribute("score_threshold", float, "scores at or below it are no candidates"),
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
