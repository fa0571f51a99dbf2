"""Painting of scenes: photographs as background, objects with shadows, exposure.

A picture is float32 [H, W, 3] RGB in 0..255 until `expose` makes it uint8. Coordinates are pixels,
x right and y down; pixel (i, j) covers [j, j + 1) x [i, i + 1). The light is a unit vector in image
axes, z towards the viewer.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from ..core import InputError, require
from ._shapes import Frame, outline, surface

_PURPOSE = "draw scenes"


@dataclass(frozen=True)
class Object:
    """What is drawn and where.

    Attributes:
        kind: index into `CLASS_NAMES`.
        radius_px: radius of the circle around the outline.
        angle: clockwise turn in radians.
        center_xy: float64 [2], pixels.
    """

    kind: int
    radius_px: float
    angle: float
    center_xy: np.ndarray


@dataclass(frozen=True)
class Patch:
    """The part of the picture around an object: its slices and the object's coverage 0..1."""

    rows: slice
    columns: slice
    alpha: np.ndarray


@cache
def photograph(name: str) -> np.ndarray:
    """A photograph from scikit-image's data folder, uint8 [H, W, 3] RGB, long side <= 800."""
    cv2 = require("cv2", _PURPOSE)
    path = Path(require("skimage", _PURPOSE).__path__[0], "data", name)
    image = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if image is None:
        raise InputError(f"{path} cannot be read: install a scikit-image that ships {name}.")
    scale = min(1.0, 800.0 / max(image.shape[:2]))
    image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return np.ascontiguousarray(image[..., ::-1])


def light_direction(rng: np.random.Generator) -> np.ndarray:
    """Unit vector towards the light in image axes (x right, y down, z to the viewer)."""
    azimuth, height = rng.uniform(0.0, 2.0 * np.pi), rng.uniform(0.45, 0.8)
    flat = np.sqrt(1.0 - height**2)
    return np.array([flat * np.cos(azimuth), flat * np.sin(azimuth), height])


def background(
    rng: np.random.Generator, names: tuple[str, ...], height: int, width: int
) -> np.ndarray:
    """A random crop of one of the photographs, mirrored, recoloured: float32 [height, width, 3]."""
    cv2 = require("cv2", _PURPOSE)
    photo = photograph(names[rng.integers(len(names))])
    rows, columns = photo.shape[:2]
    scale = rng.uniform(0.45, 1.0) * min(rows / height, columns / width)
    crop_h, crop_w = int(height * scale), int(width * scale)
    top, left = rng.integers(rows - crop_h + 1), rng.integers(columns - crop_w + 1)
    crop = photo[top : top + crop_h, left : left + crop_w]
    if rng.random() < 0.5:
        crop = crop[:, ::-1]
    image = cv2.resize(np.ascontiguousarray(crop), (width, height), interpolation=cv2.INTER_AREA)
    tint = rng.uniform(0.7, 1.15, 3) * rng.uniform(0.75, 1.1)
    channels = rng.permutation(3) if rng.random() < 0.4 else np.arange(3)
    return image.astype(np.float32)[..., channels] * tint.astype(np.float32)


def cover(item: Object, size: tuple[int, int]) -> Patch:
    """Anti-aliased coverage of an object, on the patch that also holds its shadow."""
    cv2 = require("cv2", _PURPOSE)
    reach = 1.4 * item.radius_px + 4.0
    left, top = np.maximum(np.floor(item.center_xy - reach), 0).astype(int)
    right, bottom = np.minimum(np.ceil(item.center_xy + reach), (size[1], size[0])).astype(int)
    fine = np.zeros((4 * (bottom - top), 4 * (right - left)), np.uint8)
    turn = _rotation(item.angle) * item.radius_px
    contours = [c @ turn.T + item.center_xy - (left, top) for c in outline(item.kind)]
    # fillPoly puts integers on pixel centres: shift by half a fine pixel, 4 fractional bits.
    points = [np.round((c * 4.0 - 0.5) * 16.0).astype(np.int32) for c in contours]
    cv2.fillPoly(fine, points, 255, shift=4)
    alpha = cv2.resize(fine, (right - left, bottom - top), interpolation=cv2.INTER_AREA)
    return Patch(slice(top, bottom), slice(left, right), alpha.astype(np.float32) / 255.0)


def _rotation(angle: float) -> np.ndarray:
    cosine, sine = np.cos(angle), np.sin(angle)
    return np.array([(cosine, -sine), (sine, cosine)])


def paint(
    image: np.ndarray, item: Object, patch: Patch, light: np.ndarray, rng: np.random.Generator
) -> None:
    """Darken the object's shadow, then blend the object over the picture, in place."""
    view = image[patch.rows, patch.columns]
    alpha = patch.alpha[..., None]
    behind = (view * alpha).sum(axis=(0, 1)) / alpha.sum()
    view *= (1.0 - rng.uniform(0.25, 0.55) * _shadow(item, patch, light))[..., None]
    colors = _colors(rng, behind)
    frame = _frame(item, patch, light)
    painted = surface(item.kind, frame, colors, rng) * _grain(rng, patch.alpha.shape)[..., None]
    view += alpha * (np.clip(painted, 0.0, 255.0) - view)


def _shadow(item: Object, patch: Patch, light: np.ndarray) -> np.ndarray:
    """Soft shadow 0..1 of the object, shifted away from the light."""
    cv2 = require("cv2", _PURPOSE)
    right, down = -0.3 * item.radius_px * light[:2]
    matrix = np.array([[1, 0, right], [0, 1, down]], np.float32)
    height, width = patch.alpha.shape
    moved = cv2.warpAffine(patch.alpha, matrix, (width, height))
    return cv2.GaussianBlur(moved, (0, 0), 0.6 + 0.08 * item.radius_px)


def _frame(item: Object, patch: Patch, light: np.ndarray) -> Frame:
    """Unit-frame coordinates of the patch's pixel centres and the light turned into them."""
    x = np.arange(patch.columns.start, patch.columns.stop) + 0.5 - item.center_xy[0]
    y = np.arange(patch.rows.start, patch.rows.stop)[:, None] + 0.5 - item.center_xy[1]
    turn = _rotation(item.angle)
    u = ((x * turn[0, 0] + y * turn[1, 0]) / item.radius_px).astype(np.float32)
    v = ((x * turn[0, 1] + y * turn[1, 1]) / item.radius_px).astype(np.float32)
    local = np.array([*(turn.T @ light[:2]), light[2]], np.float32)
    return Frame(u, v, patch.alpha >= 0.5, local, item.radius_px)


def _colors(rng: np.random.Generator, behind: np.ndarray) -> np.ndarray:
    """Two RGB colours that differ; the first is the farthest of four from what lies behind."""
    candidates = rng.uniform(25.0, 255.0, (4, 3))
    first = candidates[np.argmax(np.linalg.norm(candidates - behind, axis=1))]
    others = rng.uniform(15.0, 255.0, (4, 3))
    second = others[np.argmax(np.linalg.norm(others - first, axis=1))]
    return np.stack([first, second]).astype(np.float32)


def _grain(rng: np.random.Generator, shape: tuple[int, int]) -> np.ndarray:
    """Low-frequency brightness variation around 1, float32 [h, w]."""
    cv2 = require("cv2", _PURPOSE)
    coarse = rng.normal(1.0, 0.07, (12, 12)).astype(np.float32)
    return cv2.resize(coarse, (shape[1], shape[0]), interpolation=cv2.INTER_LINEAR)


def expose(image: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Lens blur, exposure and sensor noise: float32 to uint8."""
    cv2 = require("cv2", _PURPOSE)
    blurred = cv2.GaussianBlur(image, (0, 0), rng.uniform(0.3, 0.7))
    noise = rng.standard_normal(image.shape, dtype=np.float32) * np.float32(rng.uniform(1.0, 5.0))
    exposed = blurred * np.float32(rng.uniform(0.85, 1.1)) + noise
    return np.clip(np.rint(exposed), 0, 255).astype(np.uint8)
