"""Box codes: which weights and which limit a graph's decoding has, told by decoding known codes.

    x = dx / wx · side + centre,  side' = exp(clip(dw / ww, least, limit)) · side    and y, h alike

A few decodings give the numbers; one more, of random codes, must then agree with the formula.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from .declined import Declined
from .graph import Node

__all__ = ["Codec", "decode", "read_codec"]

Decoder = Callable[[np.ndarray], np.ndarray]
_LIMIT = math.log(1000 / 16)  # everyone's, since Detectron
_STEP = 0.25
_FAR = 20.0  # an exponent beyond all limits
_NOTHING = 1e-3  # a side of so little is one of no limit, and rounding
_ROUGH = 0.01  # a side of 1/62 is the difference of two coordinates in float32


@dataclass(frozen=True)
class Codec:
    """Weights `(x, y, w, h)` that codes are divided by, and the largest and least `dw / ww`."""

    weights: tuple[float, float, float, float]
    limit: float
    least: float = -math.inf

    def __str__(self) -> str:
        """Return both in words."""
        weights = ", ".join(f"{w:g}" for w in self.weights)
        below = "" if math.isinf(self.least) else f"{self.least:.6g} to "
        return f"weights {weights}, exponent limited to {below}{self.limit:.6g}"


def decode(codes: np.ndarray, boxes: np.ndarray, codec: Codec) -> np.ndarray:
    """Return `boxes [n, 4]` (xyxy) moved and scaled by `codes [n, 4]`, in float64."""
    scaled = codes.astype(np.float64) / np.array(codec.weights)
    wide = boxes.astype(np.float64)
    sides = wide[:, 2:] - wide[:, :2]
    centre = scaled[:, :2] * sides + wide[:, :2] + 0.5 * sides
    half = 0.5 * np.exp(np.clip(scaled[:, 2:], codec.least, codec.limit)) * sides
    return np.concatenate([centre - half, centre + half], 1)


def read_codec(rule: str, node: Node, decoder: Decoder, boxes: np.ndarray) -> Codec:
    """Return the codec of `decoder`, a function of codes alone that starts from `boxes`.

    Args:
        rule: whose checks these are.
        node: what messages point at.
        decoder: codes `[n, 4]` to boxes `[n, 4]`.
        boxes: `[n, 4]`, none of them empty.
    """
    start = decoder(np.zeros_like(boxes)).astype(np.float64)
    if not np.allclose(start, boxes, rtol=1e-4, atol=1e-2):
        raise Declined(rule, "codes of zero do not leave a box where it is", node)
    if not (boxes[:, 2:] > boxes[:, :2]).all():
        raise Declined(rule, "codes of zero give empty boxes", node)
    weights = [_weight(rule, node, decoder, boxes, axis) for axis in range(4)]
    limit, least = (_bound(decoder, boxes, weights, sign * _FAR) for sign in (1, -1))
    codec = Codec((weights[0], weights[1], weights[2], weights[3]), limit, least)
    _hold_against_formula(rule, node, decoder, boxes, codec)
    return codec


def _bound(decoder: Decoder, boxes: np.ndarray, weights: list[float], value: float) -> float:
    """Return what an exponent of `value` is limited to; infinite if a low one is not."""
    codes = np.zeros_like(boxes)
    codes[:, 2:] = value * np.array(weights[2:])
    far = decoder(codes).astype(np.float64)
    sides = (far[:, 2:] - far[:, :2]) / (boxes[:, 2:] - boxes[:, :2])
    ratio = float(np.median(sides))
    found = math.log(ratio) if ratio > _NOTHING else -math.inf
    same = math.isclose(abs(found), _LIMIT, rel_tol=_ROUGH if value < 0 else 1e-4)
    return math.copysign(_LIMIT, value) if same else found


def _weight(rule: str, node: Node, decoder: Decoder, boxes: np.ndarray, axis: int) -> float:
    """Return what code `axis` is divided by: roughly first, then from a code of two weights."""
    rough = _STEP / _effect(rule, node, decoder, boxes, axis, _STEP)
    return float(f"{2 * rough / _effect(rule, node, decoder, boxes, axis, 2 * rough):.4g}")


def _effect(
    rule: str, node: Node, decoder: Decoder, boxes: np.ndarray, axis: int, code: float
) -> float:
    """Return by how many sides the centre moves, or the logarithm by which the side grows."""
    codes = np.zeros_like(boxes)
    codes[:, axis] = code
    moved = decoder(codes).astype(np.float64)
    sides = boxes[:, 2:].astype(np.float64) - boxes[:, :2]
    if axis < 2:
        shift = (moved[:, axis] + moved[:, axis + 2] - boxes[:, axis] - boxes[:, axis + 2]) / 2
        effect = float(np.median(shift / sides[:, axis]))
    else:
        ratio = (moved[:, axis] - moved[:, axis - 2]) / sides[:, axis - 2]
        effect = float(np.log(np.maximum(np.median(ratio), 1e-9)))
    if not effect > 1e-6:
        raise Declined(rule, f"code {axis} does not move or scale its box", node)
    return effect


def _hold_against_formula(
    rule: str, node: Node, decoder: Decoder, boxes: np.ndarray, codec: Codec
) -> None:
    generator = np.random.default_rng(0)
    codes = generator.normal(0, 0.3, boxes.shape).astype(np.float32)
    codes *= np.array(codec.weights, np.float32)
    found, expected = decoder(codes), decode(codes, boxes, codec)
    size = np.abs(boxes[:, 2:] - boxes[:, :2]).max(1, keepdims=True)
    if not (np.abs(found - expected) <= 1e-3 * size + 1e-2).all():
        raise Declined(rule, f"boxes are not decoded as centre and size with {codec}", node)
