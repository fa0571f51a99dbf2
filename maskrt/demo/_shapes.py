"""Outlines and surfaces of the six kinds of demonstration object.

Each kind lives in the unit frame: the origin is the object's centre, the farthest point of its
outline has radius 1, `v` points down. `outline` gives closed contours (the second contour of a
donut is its hole) and `surface` gives the colour of every point of that frame: an albedo pattern
in two colours, lit by one directional light. Everything random comes from the generator that
is passed in, so equal generators draw equal objects.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import numpy as np

from ..core import require

CLASS_NAMES: tuple[str, ...] = ("ball", "crate", "cone", "starfish", "donut", "heart")

_HOLE = 0.42  # radius of the donut's hole
_CONE = ((0.0, -1.0), (0.12, -0.96), (0.58, 0.62), (0.8, 0.66), (0.8, 0.8))  # right half


@dataclass(frozen=True)
class Frame:
    """Sample points of one object.

    Attributes:
        u: float32 [h, w], unit-frame abscissa of every pixel.
        v: float32 [h, w], unit-frame ordinate of every pixel, down.
        inside: bool [h, w], pixels within the outline.
        light: float32 [3], unit vector towards the light in the unit frame, z towards the viewer.
        radius_px: pixels per unit.
    """

    u: np.ndarray
    v: np.ndarray
    inside: np.ndarray
    light: np.ndarray
    radius_px: float


@cache
def outline(kind: int) -> list[np.ndarray]:
    """Closed contours of an object in its unit frame, to be filled by the even-odd rule.

    Args:
        kind: index into `CLASS_NAMES`.

    Returns:
        One float64 [K, 2] array of (u, v) points per contour.
    """
    angle = np.linspace(0.0, 2.0 * np.pi, 97)[:-1]
    circle = np.stack([np.cos(angle), np.sin(angle)], axis=1)
    name = CLASS_NAMES[kind]
    if name == "ball":
        return [circle]
    if name == "crate":
        return [np.array([(-1, -1), (1, -1), (1, 1), (-1, 1)]) * np.sqrt(0.5)]
    if name == "cone":
        right = np.array(_CONE)
        return [np.concatenate([right, right[::-1] * (-1, 1)])]
    if name == "starfish":
        radius = 0.66 + 0.34 * np.cos(5.0 * angle)
        return [circle * radius[:, None]]
    if name == "donut":
        return [circle, circle * _HOLE]
    return [_heart(angle)]


def _heart(angle: np.ndarray) -> np.ndarray:
    u = 16.0 * np.sin(angle) ** 3
    v = -sum(a * np.cos(k * angle) for k, a in ((1, 13.0), (2, -5.0), (3, -2.0), (4, -1.0)))
    points = np.stack([u, v - 2.5], axis=1)
    return points / np.linalg.norm(points, axis=1).max()


def surface(kind: int, frame: Frame, colors: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Colour of every pixel of an object, lit and textured.

    Args:
        kind: index into `CLASS_NAMES`.
        frame: sample points and light.
        colors: float32 [2, 3], the object's two RGB colours, 0..255.
        rng: source of the pattern's free parameters.

    Returns:
        float32 [h, w, 3] RGB, 0..255 and beyond in highlights. Meaningless outside the outline.
    """
    pattern, normal, gloss = _SURFACES[CLASS_NAMES[kind]](frame, rng)
    weight = pattern[..., None]
    albedo = colors[0] * (1.0 - weight) + colors[1] * weight
    lit = np.clip(normal @ frame.light, 0.0, 1.0)
    half = frame.light + np.array([0.0, 0.0, 1.0], np.float32)
    shine = np.clip(normal @ (half / np.linalg.norm(half)), 0.0, 1.0) ** 24
    return albedo * (0.42 + 0.68 * lit)[..., None] + (255.0 * gloss * shine)[..., None]


def _ball(frame: Frame, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
    """A beach ball: lunes between meridians of a randomly turned sphere."""
    normal = _normal(frame.u, frame.v)
    turn, _ = np.linalg.qr(rng.standard_normal((3, 3)))
    x, y, z = np.moveaxis(normal @ turn.astype(np.float32), -1, 0)
    lune = np.floor(np.arctan2(y, x) * (rng.integers(2, 5) / np.pi))
    return np.where(np.abs(z) > 0.93, 0.0, lune % 2).astype(np.float32), normal, 0.45


def _crate(frame: Frame, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
    """A wooden crate: a frame around planks, with or without a diagonal brace."""
    u, v = frame.u * np.sqrt(2.0, dtype=np.float32), frame.v * np.sqrt(2.0, dtype=np.float32)
    planks = rng.integers(3, 6)
    gap = np.abs((u * planks / 1.4) % 1.0 - 0.5) > 0.42
    wood = np.where(gap, 1.0, 0.12 * (np.floor(u * planks / 1.4) % 2))
    brace = (np.abs(u - v) < 0.2) & (rng.random() < 0.6)
    rim = np.maximum(np.abs(u), np.abs(v)) > 0.74
    pattern = np.where(rim | brace, 0.55, wood).astype(np.float32)
    return pattern, _normal(0.25 * u * rim, 0.25 * v * rim), 0.0


def _cone(frame: Frame, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
    """A traffic cone: level bands on a cylinder-like body, on a flat foot."""
    half_width = np.interp(frame.v, [-1.0, -0.96, 0.62, 0.8], [0.06, 0.12, 0.58, 0.8])
    across = np.clip(frame.u / half_width.astype(np.float32), -0.97, 0.97)
    bands = np.floor((frame.v + 1.0) * rng.uniform(1.6, 2.6)) % 2
    foot = frame.v > 0.62
    return np.where(foot, 0.0, bands).astype(np.float32), _normal(across * ~foot, 0 * across), 0.1


def _starfish(frame: Frame, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
    """A starfish: five ridged arms with rows of knobs along them."""
    radius = np.hypot(frame.u, frame.v)
    fold = np.pi / 5.0
    angle = (np.arctan2(frame.v, frame.u) + fold) % (2.0 * fold) - fold
    along, across = radius * np.cos(angle), radius * np.sin(angle)
    pitch = rng.uniform(0.13, 0.19)
    knob = np.hypot((along / pitch) % 1.0 - 0.5, across / pitch) < 0.36
    return knob.astype(np.float32), _pillow(frame), 0.0


def _donut(frame: Frame, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
    """A donut: a torus with wavy icing and sprinkles."""
    radius = np.maximum(np.hypot(frame.u, frame.v), 1e-3)
    tube = np.clip((2.0 * radius - 1.0 - _HOLE) / (1.0 - _HOLE), -0.98, 0.98)
    wave = 0.08 * np.sin(np.arctan2(frame.v, frame.u) * rng.integers(5, 9) + rng.uniform(0, 6.28))
    icing = np.abs(tube + 0.1 * wave) < 0.66 + wave
    row, column = ((frame.v + 2.0) * 11).astype(int) % 44, ((frame.u + 2.0) * 11).astype(int) % 44
    sprinkle = (rng.random((44, 44)) < 0.22)[row, column]
    pattern = (icing & ~sprinkle).astype(np.float32)
    return pattern, _normal(tube * frame.u / radius, tube * frame.v / radius), 0.25


def _heart_cushion(frame: Frame, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, float]:
    """A satin heart: a cushion with polka dots."""
    count = rng.uniform(2.5, 4.0)
    dot = np.hypot((frame.u * count) % 1.0 - 0.5, (frame.v * count) % 1.0 - 0.5) < 0.27
    return dot.astype(np.float32), _pillow(frame), 0.35


def _normal(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Unit normals float32 [h, w, 3] towards the viewer from their first two components."""
    z = np.sqrt(np.clip(1.0 - x * x - y * y, 0.0, 1.0))
    return np.stack([x, y, z], axis=-1).astype(np.float32)


def _pillow(frame: Frame) -> np.ndarray:
    """Normals of a surface inflated from the outline: its height grows away from the edge."""
    if min(frame.inside.shape) < 3:
        return _normal(0 * frame.u, 0 * frame.v)
    cv2 = require("cv2", "draw scenes")
    depth = cv2.distanceTransform(frame.inside.astype(np.uint8), cv2.DIST_L2, 5)
    height = cv2.GaussianBlur(np.sqrt(depth * frame.radius_px), (0, 0), 0.8 + frame.radius_px / 24)
    down, right = np.gradient(height)
    # The frame's axes expressed in pixels turn image slopes into unit-frame slopes.
    du_down, du_right = np.gradient(frame.u)
    dv_down, dv_right = np.gradient(frame.v)
    scale = frame.radius_px
    slope_u = (right * du_right + down * du_down) * scale
    slope_v = (right * dv_right + down * dv_down) * scale
    length = np.sqrt(1.0 + slope_u**2 + slope_v**2)
    return _normal(-slope_u / length, -slope_v / length)


_Surface = Callable[[Frame, np.random.Generator], tuple[np.ndarray, np.ndarray, float]]
_SURFACES: dict[str, _Surface] = {
    "ball": _ball,
    "crate": _crate,
    "cone": _cone,
    "starfish": _starfish,
    "donut": _donut,
    "heart": _heart_cushion,
}
