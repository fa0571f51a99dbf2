"""Polygons of a mask: closed walks along the edges between its pixels and the others.

A walk keeps the mask on its right hand and turns at pixel corners, so the polygon encloses exactly
the mask's pixels: its area is their number, holes aside. Where two pixels touch only at a corner,
the walk turns right, and they are in polygons of their own (4-connectivity). Holes are walked the
other way round, and left out: COCO's and LabelMe's polygons have none.

With a tolerance, Douglas and Peucker's method drops the corners that lie nearer to the line between
the kept ones. Every part of a mask keeps a polygon, however thin it is.
"""

import numpy as np

from .masks import Crop

__all__ = ["one_ring", "polygons"]

_Edge = tuple[int, int, int]  # x and y of its start, and its heading
_STEPS = ((1, 0), (0, 1), (-1, 0), (0, -1))  # east, south, west, north: each right of the last


def polygons(crop: Crop, tolerance: float = 0.0) -> list[np.ndarray]:
    """Return the outer outlines of a mask, the largest first.

    Args:
        crop: the mask.
        tolerance: pixels by which an outline may be wrong; 0 is exact.

    Returns:
        float32 `[K, 2]` each, x and y in pixels of the picture, K ≥ 3 corners.
    """
    rings = [np.array(ring, np.float64) for ring in _rings(crop.inside)]
    outer = sorted(((_area(ring), i) for i, ring in enumerate(rings)), reverse=True)
    kept = [_simplify(rings[i], tolerance) for area, i in outer if area > 0]
    offset = np.array([crop.left, crop.top], np.float64)
    return [(ring + offset).astype(np.float32) for ring in kept]


def one_ring(rings: list[np.ndarray]) -> np.ndarray:
    """Return one walk around all of a mask's outlines, for formats that have one polygon a mask.

    Each is entered and left by the shortest line between corners to the walk so far, so the line is
    walked twice and encloses nothing.

    Args:
        rings: float `[K, 2]` each, at least one.
    """
    walk = rings[0]
    for ring in rings[1:]:
        gaps = np.square(walk[:, None] - ring[None]).sum(axis=2)
        here, there = np.unravel_index(gaps.argmin(), gaps.shape)
        around = np.concatenate([ring[there:], ring[: there + 1]])
        walk = np.concatenate([walk[: here + 1], around, walk[here:]])
    return walk


def _rings(inside: np.ndarray) -> list[list[tuple[int, int]]]:
    """Return every closed walk as its corners (x, y), clockwise around what is inside."""
    edges = _edges(inside)
    rings = []
    while edges:
        walk = _walk(edges, next(iter(edges)))
        turns = zip(walk, [walk[-1], *walk[:-1]], strict=True)
        rings.append([edge[:2] for edge, before in turns if edge[2] != before[2]])
        edges.difference_update(walk)
    return rings


def _edges(inside: np.ndarray) -> set[_Edge]:
    """Return every edge between a pixel of the mask and another, the mask on its right."""
    framed = np.pad(inside, 1)
    here = framed[1:-1, 1:-1]
    beside = (framed[:-2, 1:-1], framed[1:-1, 2:], framed[2:, 1:-1], framed[1:-1, :-2])
    starts = ((0, 0), (1, 0), (1, 1), (0, 1))  # a pixel's corners, clockwise
    found: set[_Edge] = set()
    for heading, (other, (dx, dy)) in enumerate(zip(beside, starts, strict=True)):
        ys, xs = np.nonzero(here & ~other)
        found.update(
            (x + dx, y + dy, heading) for x, y in zip(xs.tolist(), ys.tolist(), strict=True)
        )
    return found


def _walk(edges: set[_Edge], start: _Edge) -> list[_Edge]:
    """Return the edges of the closed walk that `start` is on."""
    walk, edge = [start], start
    while True:
        x, y, heading = edge
        x, y = x + _STEPS[heading][0], y + _STEPS[heading][1]
        ways = ((x, y, (heading + turn) % 4) for turn in (1, 0, 3))
        edge = next(way for way in ways if way in edges)
        if edge == start:
            return walk
        walk.append(edge)


def _area(ring: np.ndarray) -> float:
    """Return the area enclosed, negative if walked anticlockwise."""
    after = np.roll(ring, -1, axis=0)
    return float((ring[:, 0] * after[:, 1] - after[:, 0] * ring[:, 1]).sum() / 2)


def _simplify(ring: np.ndarray, tolerance: float) -> np.ndarray:
    """Drop corners within `tolerance` of the line between the corners kept around them.

    A ring that is no wider than that would fall into a line, and stays as it is.
    """
    if tolerance <= 0 or len(ring) < 4:
        return ring
    far = int(np.hypot(*(ring - ring[0]).T).argmax())
    closed = np.concatenate([ring, ring[:1]])
    keep = np.zeros(len(closed), bool)
    keep[[0, far, len(ring)]] = True
    spans = [(0, far), (far, len(ring))]
    while spans:
        first, last = spans.pop()
        if last - first < 2:
            continue
        gaps = _distances(closed[first + 1 : last], closed[first], closed[last])
        worst = int(gaps.argmax())
        if gaps[worst] > tolerance:
            keep[first + 1 + worst] = True
            spans += [(first, first + 1 + worst), (first + 1 + worst, last)]
    kept = closed[:-1][keep[:-1]]
    return kept if len(kept) >= 3 else ring


def _distances(points: np.ndarray, start: np.ndarray, end: np.ndarray) -> np.ndarray:
    """Return the distance of each point from the segment."""
    along = end - start
    length = float(along @ along)
    at = ((points - start) @ along / length).clip(0, 1) if length else np.zeros(len(points))
    return np.hypot(*(points - start - at[:, None] * along).T)
