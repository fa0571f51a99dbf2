"""Instances that rounding decides: counted and named, and no fault of a conversion.

Two programs that compute the same model round differently, by about one part in ten million a
layer. Where a score, an overlap or a rank lies that near to a threshold, an instance is there in
one and absent in the other, through no fault of either. The rule, for instances that disagree:

    an instance is *borderline* if the canonical graph itself does not decide it: with the weights
    of its layers moved by one part in a million, ten times what rounding does, in a drawn direction
    or in the opposite one, it finds the instance otherwise, or finds what the original finds

A wrong graph is as sure of what it finds as a right one, so an error stays one: a missing instance
does not come back, and one that is wrong does not go, when weights move by a millionth.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import onnx
from onnx import numpy_helper

from ..core import Instances, counted
from ..core.operator_names import operator_of
from ..runtime.check.fidelity import box_iou, disagreeing, partners

__all__ = ["Borderline", "Thresholds", "sentences", "shaken", "thresholds_of", "undecided"]

_LAYERS = {"Conv", "ConvTranspose", "Gemm", "MatMul"}
_NEAR = 1e-3  # of a score or an overlap, to name the threshold that it lies on


@dataclass(frozen=True)
class Thresholds:
    """What decides in the end whether there is an instance, as far as the graph says it.

    Attributes:
        score: instances score more.
        iou: one that overlaps a better one more is left out.
        number: the best so many are kept.
    """

    score: float | None = None
    iou: float | None = None
    number: int | None = None


@dataclass(frozen=True)
class Borderline:
    """Which instances of a picture are left out of a comparison, and why.

    Attributes:
        reference: bool, one an instance of the original.
        candidate: bool, one an instance of the canonical graph.
        reasons: one for each of them, what it lies on.
    """

    reference: np.ndarray
    candidate: np.ndarray
    reasons: tuple[str, ...]


def shaken(model: onnx.ModelProto, part: float) -> onnx.ModelProto:
    """Return `model` with the weights of its layers moved by about `part` of each, as drawn."""
    generator = np.random.default_rng(0)
    moved = onnx.ModelProto()
    moved.CopyFrom(model)
    weights = {n.input[1] for n in moved.graph.node if n.op_type in _LAYERS}
    for tensor in moved.graph.initializer:
        if tensor.name in weights and tensor.data_type == onnx.TensorProto.FLOAT:
            value = numpy_helper.to_array(tensor)
            noise = generator.standard_normal(value.shape, np.float32)
            tensor.CopyFrom(numpy_helper.from_array(value * (1 + part * noise), tensor.name))
    return moved


def thresholds_of(model: onnx.ModelProto) -> Thresholds:
    """Return the thresholds of a canonical graph's last NMS; none if it has another kind."""
    found = [n for n in model.graph.node if operator_of(n.op_type) == "BatchedNMS"]
    if not found:
        return Thresholds()
    values = {a.name: onnx.helper.get_attribute_value(a) for a in found[-1].attribute}
    return Thresholds(
        values.get("score_threshold"), values.get("iou_threshold"), values.get("max_outputs")
    )


def undecided(
    reference: Instances,
    candidate: Instances,
    moved: Sequence[Instances],
    thresholds: Thresholds,
) -> Borderline:
    """Return which instances that disagree are borderline.

    Args:
        reference: what the original finds in a picture.
        candidate: what the canonical graph finds there.
        moved: what `shaken` copies of that graph find there.
        thresholds: of the graph, to name what they lie on.
    """
    theirs, mine = disagreeing(reference, candidate)
    back = np.zeros(len(reference), bool)
    gone = np.zeros(len(candidate), bool)
    for other in moved:
        back |= ~disagreeing(reference, other)[0]
        gone |= disagreeing(candidate, other)[0]
    # A pair that disagrees is one finding: what excuses the one excuses the other.
    pairs = list(zip(*partners(reference, candidate), strict=True))
    for first, second in pairs:
        if theirs[first] and (back[first] or gone[second]):
            back[first] = gone[second] = True
    left_out = theirs & back, mine & gone
    alone = left_out[1].copy()
    alone[[second for _, second in pairs]] = False  # named with their partners
    reasons = [
        *(_reason(reference, int(i), candidate, thresholds) for i in np.flatnonzero(left_out[0])),
        *(_reason(candidate, int(i), reference, thresholds) for i in np.flatnonzero(alone)),
    ]
    return Borderline(*left_out, tuple(reasons))


def sentences(reasons: Iterable[str]) -> list[str]:
    """Return what was left out, one sentence a threshold, the most frequent first."""
    return [
        f"{counted(count, 'instance')} {'lies' if count == 1 else 'lie'} on {reason}: rounding "
        "decides, so the two models may differ there and nothing is compared."
        for reason, count in Counter(reasons).most_common()
    ]


def _reason(found: Instances, index: int, others: Instances, at: Thresholds) -> str:
    """Name what an instance lies on that `others` find otherwise."""
    score = float(found.scores[index])
    if at.score is not None and abs(score - at.score) <= _NEAR:
        return f"the score threshold {at.score:g}"
    rivals = (others.labels == found.labels[index]) & (others.scores >= score - _NEAR)
    overlaps = box_iou(found.boxes[index], others.boxes[rivals])
    if at.iou is not None and (np.abs(overlaps - at.iou) <= _NEAR).any():
        return f"the IoU threshold {at.iou:g}"
    full = at.number is not None and at.number in (len(found), len(others))
    least = min((float(s.scores.min()) for s in (found, others) if len(s)), default=0.0)
    if full and score - least <= _NEAR:
        return f"the limit of {at.number} instances"
    return "an earlier choice between almost equal candidates"
