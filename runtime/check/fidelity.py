"""Fidelity: are two models' instances of the same picture the same instances?

Instances are paired one to one, within a label, in descending order of box IoU, and only above an
IoU of one half: below it they are different findings, and are counted as unmatched on their side.
Pairing by IoU and not by rank keeps a swap of two nearly equal scores from looking like two errors.

    IoU(a, b) = |a and b| / |a or b|;  1 for two that are empty and equal

`compare` only measures; `violations` applies limits.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from ...core import InputError, Instances
from ...core.masks import Crop

__all__ = [
    "Limits",
    "Match",
    "box_iou",
    "combine",
    "compare",
    "disagreeing",
    "few_instances",
    "mask_iou",
    "pair_up",
    "partners",
    "violations",
]

_SAME_FINDING = 0.5
_PROOF = 10  # instances; what agrees on fewer may agree by chance


@dataclass(frozen=True)
class Limits:
    """How far instances may differ.

    Attributes:
        box_iou: least IoU of a pair's boxes.
        score: largest difference of a pair's scores.
        mask_iou: least IoU of a pair's masks.
    """

    box_iou: float = 0.999
    score: float = 1e-3
    mask_iou: float = 0.99


@dataclass(frozen=True)
class Match:
    """How two models' instances agree, in one picture or in many.

    Attributes:
        pairs: instances that both found.
        box_iou: the worst pair's, 1.0 without pairs.
        score_difference: the worst pair's, absolute, 0.0 without pairs.
        mask_iou: the worst pair's, 1.0 without pairs; None if neither model has masks.
        reference_only: scores of the reference's instances that have no partner.
        candidate_only: scores of the candidate's instances that have no partner.
    """

    pairs: int
    box_iou: float
    score_difference: float
    mask_iou: float | None
    reference_only: tuple[float, ...]
    candidate_only: tuple[float, ...]


def compare(reference: Instances, candidate: Instances) -> Match:
    """Pair the instances of one picture, and measure the pairs.

    Raises:
        InputError: the two are of pictures of different sizes, or only one has masks.
    """
    _check_comparable(reference, candidate)
    overlaps = _overlaps(reference, candidate)
    first, second = pair_up(overlaps)
    gaps = np.abs(reference.scores[first].astype(np.float64) - candidate.scores[second])
    return Match(
        pairs=len(first),
        box_iou=float(overlaps[first, second].min(initial=1.0)),
        score_difference=float(gaps.max(initial=0.0)),
        mask_iou=_worst_mask_iou(reference, candidate, first, second),
        reference_only=_left_over(reference, first),
        candidate_only=_left_over(candidate, second),
    )


def disagreeing(
    reference: Instances, candidate: Instances, limits: Limits | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Return which instances of each side have no partner, or one outside the limits.

    Returns:
        bool `[N]` of the reference's and `[M]` of the candidate's.
    """
    limits = limits or Limits()
    first, second = partners(reference, candidate)
    alone = np.ones(len(reference), bool), np.ones(len(candidate), bool)
    for a, b in zip(first, second, strict=True):
        pair = compare(reference.select(np.array([a])), candidate.select(np.array([b])))
        alone[0][a] = alone[1][b] = bool(violations(pair, limits))
    return alone


def partners(reference: Instances, candidate: Instances) -> tuple[np.ndarray, np.ndarray]:
    """Return the indices of the pairs in each of the two, best overlap of their boxes first."""
    return pair_up(_overlaps(reference, candidate))


def _overlaps(reference: Instances, candidate: Instances) -> np.ndarray:
    """Return the IoU of boxes `[N, M]`, 0 for those of two labels."""
    overlaps = box_iou(reference.boxes, candidate.boxes)
    overlaps[reference.labels[:, None] != candidate.labels[None, :]] = 0.0
    return overlaps


def combine(matches: Iterable[Match]) -> Match:
    """Return the worst of the matches of many pictures, and the sums of their counts."""
    found = list(matches)
    masks = [match.mask_iou for match in found if match.mask_iou is not None]
    return Match(
        pairs=sum(match.pairs for match in found),
        box_iou=min((match.box_iou for match in found), default=1.0),
        score_difference=max((match.score_difference for match in found), default=0.0),
        mask_iou=min(masks, default=None),
        reference_only=tuple(score for match in found for score in match.reference_only),
        candidate_only=tuple(score for match in found for score in match.candidate_only),
    )


def violations(match: Match, limits: Limits | None = None) -> list[str]:
    """Return one sentence for each limit that `match` breaks; an empty list is agreement."""
    limits = limits or Limits()
    broken = [
        f"{what}: {len(scores)}, the best with score {max(scores):.4f}."
        for what, scores in (
            ("Instances of the original model that are missing", match.reference_only),
            ("Instances that the original model does not find", match.candidate_only),
        )
        if scores
    ]
    # `not >=` and not `<`, so that a NaN breaks the limit too.
    if not match.box_iou >= limits.box_iou:
        broken.append(f"The worst box IoU is {match.box_iou:.5f}, below {limits.box_iou:g}.")
    if not match.score_difference <= limits.score:
        broken.append(
            f"The worst score difference is {match.score_difference:.5f}, above {limits.score:g}."
        )
    if match.mask_iou is not None and not match.mask_iou >= limits.mask_iou:
        broken.append(f"The worst mask IoU is {match.mask_iou:.4f}, below {limits.mask_iou:g}.")
    return broken


def few_instances(compared: int) -> str | None:
    """Return a sentence if a comparison of so many pairs of instances proves little, else None."""
    if compared >= _PROOF:
        return None
    if compared == 0:
        return (
            "No instance was compared, so nothing is proven: give pictures in which the model "
            "finds objects."
        )
    number = "1 instance was" if compared == 1 else f"{compared} instances were"
    return (
        f"Only {number} compared, and fewer than {_PROOF} prove little: give pictures in which the "
        "model finds more objects."
    )


def box_iou(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return the IoU of every box of `first` `[N, 4]` with every one of `second` `[M, 4]`.

    Returns:
        float64 `[N, M]`; 1 where both boxes are the same empty box.
    """
    a = first.reshape(-1, 1, 4).astype(np.float64)
    b = second.reshape(1, -1, 4).astype(np.float64)
    sides = np.minimum(a[..., 2:], b[..., 2:]) - np.maximum(a[..., :2], b[..., :2])
    shared = sides.clip(min=0).prod(axis=-1)
    areas_a = (a[..., 2:] - a[..., :2]).prod(axis=-1)
    areas_b = (b[..., 2:] - b[..., :2]).prod(axis=-1)
    union = areas_a + areas_b - shared
    same = (a == b).all(axis=-1)
    return np.where(union > 0, shared / np.where(union > 0, union, 1.0), same)


def pair_up(overlaps: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return row and column indices of the pairs of IoU 0.5 or more, best overlap first."""
    rows, columns = np.nonzero(overlaps >= _SAME_FINDING)
    order = np.argsort(-overlaps[rows, columns], kind="stable")
    free_rows = np.ones(overlaps.shape[0], bool)
    free_columns = np.ones(overlaps.shape[1], bool)
    pairs = []
    for row, column in zip(rows[order], columns[order], strict=True):
        if free_rows[row] and free_columns[column]:
            free_rows[row] = free_columns[column] = False
            pairs.append((row, column))
    index = np.array(pairs, np.intp).reshape(-1, 2)
    return index[:, 0], index[:, 1]


def _worst_mask_iou(
    reference: Instances, candidate: Instances, first: np.ndarray, second: np.ndarray
) -> float | None:
    if reference.masks_source is None or candidate.masks_source is None:
        return None
    pairs = zip(reference.each_crop(first), candidate.each_crop(second), strict=True)
    return min((mask_iou(a, b) for a, b in pairs), default=1.0)


def mask_iou(a: Crop, b: Crop) -> float:
    """Return the IoU of two masks of one picture; 1 if both are empty."""
    shared = _shared(a, b)
    union = int(np.count_nonzero(a.inside)) + int(np.count_nonzero(b.inside)) - shared
    return shared / union if union else 1.0


def _shared(a: Crop, b: Crop) -> int:
    """Return how many pixels both cover."""
    spans = []
    for axis in (0, 1):
        low = max(a[axis], b[axis])
        high = min(one[axis] + one.inside.shape[axis] for one in (a, b))
        if high <= low:
            return 0
        spans.append((low, high))
    (top, bottom), (left, right) = spans
    cut = [
        one.inside[top - one.top : bottom - one.top, left - one.left : right - one.left]
        for one in (a, b)
    ]
    return int(np.count_nonzero(cut[0] & cut[1]))


def _left_over(instances: Instances, paired: np.ndarray) -> tuple[float, ...]:
    return tuple(np.delete(instances.scores, paired).astype(float).tolist())


def _check_comparable(reference: Instances, candidate: Instances) -> None:
    if reference.image_size != candidate.image_size:
        raise InputError(
            f"instances of a picture of {reference.image_size} and one of {candidate.image_size} "
            "(height, width) cannot be compared: give both models the same picture."
        )
    if (reference.masks_source is None) != (candidate.masks_source is None):
        raise InputError(
            "one of the models has masks and the other has none, so they cannot be compared: name "
            "two models of one kind."
        )
