"""Boundaries of masks: Boundary IoU, and the F-score of contours.

The boundary region of a mask is what lies in it within `d` pixels (in both axes) of its outside,
where everything beyond the picture is outside. With `G_d`, `P_d` the regions of two masks,

    Boundary IoU = |G_d and P_d| / |G_d or P_d|,   d = round(2 % of the picture's diagonal) >= 1

Boundary AP is COCO's AP with the smaller of mask IoU and Boundary IoU: the latter alone would
praise a ring. The F-score compares contours, which are regions with `d = 1`: precision is the share
of the found contour within `r = ceil(0.8 % of the diagonal)` of the true one (Euclidean), recall
the reverse, `F = 2 P R / (P + R)`.

Source: Cheng et al., Boundary IoU, CVPR 2021; Perazzi et al., DAVIS, CVPR 2016, section 5.1.
"""

import math
from dataclasses import dataclass

import numpy as np

__all__ = [
    "Region",
    "boundary_iou",
    "boundary_width",
    "contour_f",
    "contour_tolerance",
    "cropped",
    "region",
]


@dataclass(frozen=True)
class Region:
    """A bool picture, stored without its empty surroundings.

    Attributes:
        top: first row of `inside` in the picture.
        left: first column.
        inside: bool `[h, w]`.
    """

    top: int
    left: int
    inside: np.ndarray


def boundary_width(size: tuple[int, int]) -> int:
    """Return `d`, in pixels, for a picture of `(height, width)`."""
    return max(1, round(0.02 * math.hypot(*size)))


def contour_tolerance(size: tuple[int, int]) -> int:
    """Return `r`, in pixels, for a picture of `(height, width)`."""
    return max(1, math.ceil(0.008 * math.hypot(*size)))


def cropped(mask: np.ndarray) -> Region:
    """Return bool `[H, W]` without its empty surroundings."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return Region(0, 0, np.zeros((0, 0), bool))
    crop = mask[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return Region(int(rows[0]), int(columns[0]), crop)


def region(mask: Region, width: int) -> Region:
    """Return the boundary region of a mask that is `width` pixels wide."""
    kept = _eroded(_eroded(mask.inside, width).T, width).T
    return Region(mask.top, mask.left, mask.inside & ~kept)


def boundary_iou(found: Region, truth: Region, *, crowd: bool = False) -> float:
    """Return the IoU of two regions; over the found region alone if `truth` is a crowd."""
    first, second = _overlap(found, truth)
    shared = int(np.count_nonzero(first & second))
    size = int(np.count_nonzero(found.inside))
    total = size if crowd else size + int(np.count_nonzero(truth.inside)) - shared
    return shared / total if total else 0.0


def contour_f(found: Region, truth: Region, tolerance: int) -> float:
    """Return the F-score of two contours; 0 if one of them is empty."""
    precision = _near(found, truth, tolerance)
    recall = _near(truth, found, tolerance)
    return 2 * precision * recall / (precision + recall) if precision + recall else 0.0


def _eroded(mask: np.ndarray, width: int) -> np.ndarray:
    """Return where a row and the `width` rows on either side are all inside, by doubling."""
    reach, total = 1, 2 * width + 1
    if len(mask) < total:
        return np.zeros_like(mask)
    run = mask
    while 2 * reach <= total:  # run[i] is the conjunction of mask[i : i + reach]
        run = run[: len(run) - reach] & run[reach:]
        reach *= 2
    left = total - reach
    if left:
        run = run[: len(run) - left] & run[left:]
    out = np.zeros_like(mask)
    out[width : width + len(run)] = run
    return out


def _overlap(first: Region, second: Region) -> tuple[np.ndarray, np.ndarray]:
    """Return both regions cut to the rectangle that both cover."""
    top, left = max(first.top, second.top), max(first.left, second.left)
    bottom = min(r.top + r.inside.shape[0] for r in (first, second))
    right = min(r.left + r.inside.shape[1] for r in (first, second))
    if bottom <= top or right <= left:
        return np.zeros((0, 0), bool), np.zeros((0, 0), bool)
    cuts = [
        r.inside[top - r.top : bottom - r.top, left - r.left : right - r.left]
        for r in (first, second)
    ]
    return cuts[0], cuts[1]


def _near(contour: Region, other: Region, tolerance: int) -> float:
    """Return the share of a contour's pixels within `tolerance` of the other's."""
    total = int(np.count_nonzero(contour.inside))
    if not total or not other.inside.any():
        return 0.0
    first, second = _overlap(contour, _widened(other, tolerance))
    return int(np.count_nonzero(first & second)) / total


def _widened(contour: Region, radius: int) -> Region:
    """Return all pixels within `radius` of a contour: a disc is a stack of horizontal runs."""
    height, width = contour.inside.shape
    padded = np.pad(contour.inside, ((0, 0), (radius, radius)))
    counts = np.pad(np.cumsum(padded, axis=1, dtype=np.int32), ((0, 0), (radius + 1, radius)))
    counts[:, width + 3 * radius + 1 :] = counts[:, width + 3 * radius][:, None]
    out = np.zeros((height + 2 * radius, width + 2 * radius), bool)
    across = width + 2 * radius
    for dy in range(-radius, radius + 1):
        half = math.isqrt(radius * radius - dy * dy)
        after, before = radius + 1 + half, radius - half
        run = counts[:, after : after + across] > counts[:, before : before + across]
        out[radius + dy : radius + dy + height] |= run
    return Region(contour.top - radius, contour.left - radius, out)
