"""Scale arithmetic of symmetric 8-bit quantisation: pure functions on arrays.

    q = clip(round(x / s), -127, 127)        x ~ s * q        s = amax / 127

One scale for an activation tensor; one for each output channel of a weight. Two things can go wrong
with `s`, and both are handled here:

* **A dead channel** (all weights zero, or so small that they do nothing) would give `s = 0`, which
  TensorRT refuses. Scales are therefore at least `SMALLEST`, the smallest positive FP16 number, so
  they also survive a cast to FP16.
* **A bias in int32** has the scale `s_data * s_weight`; a nearly dead channel with an ordinary bias
  would overflow it. `bias_safe` widens the scale of such a channel, whose weights then round to 0.

Source: Wu et al., Integer Quantization for Deep Learning Inference, arXiv 2004.09602, section 3.
"""

import numpy as np

__all__ = [
    "LARGEST_FP8",
    "LARGEST_FP16",
    "LEVELS",
    "SMALLEST",
    "SMALLEST_NORMAL_FP16",
    "bias_safe",
    "channel_amax",
    "fp16_representable",
    "quantize_bias",
    "quantize_weight",
    "symmetric_scale",
]

LEVELS = 127
SMALLEST = 2.0**-24
LARGEST_FP8 = 448.0  # E4M3
LARGEST_FP16 = float(np.finfo(np.float16).max)
SMALLEST_NORMAL_FP16 = float(np.finfo(np.float16).tiny)
_LARGEST_BIAS = 2.0**30


def symmetric_scale(amax: np.ndarray | float) -> np.ndarray:
    """Return float32 scales `amax / 127`, at least `SMALLEST`; the shape of `amax`."""
    scale = np.asarray(amax, np.float64) / LEVELS
    return np.maximum(scale, SMALLEST).astype(np.float32)


def channel_amax(weight: np.ndarray, axis: int | None) -> np.ndarray:
    """Return the largest absolute weight of each slice along `axis`; a scalar for `axis=None`."""
    others = None if axis is None else tuple(i for i in range(weight.ndim) if i != axis)
    return np.abs(weight).max(axis=others)


def fp16_representable(scale: np.ndarray) -> np.ndarray:
    """Return `scale` rounded up to FP16 numbers, as float32; up, so that nothing new saturates.

    One that is larger than any of them stays as it is: its tensor is FP32, see `half`.
    """
    within = np.minimum(scale, np.float32(LARGEST_FP16))
    half = within.astype(np.float16)
    low = half.astype(np.float32) < within
    with np.errstate(over="ignore"):  # the one beyond the largest is not taken
        rounded = np.where(low, np.nextafter(half, np.float16(np.inf)), half).astype(np.float32)
    return np.where(scale > within, scale, rounded).astype(np.float32)


def bias_safe(scale: np.ndarray, bias: np.ndarray, data_scale: float) -> np.ndarray:
    """Return `scale`, widened where `bias / (data_scale * scale)` would leave int32.

    Args:
        scale: weight scales, a scalar or `[M]`.
        bias: float bias `[M]`.
        data_scale: scale of the layer's activation input.
    """
    needed = np.abs(bias).astype(np.float64) / (data_scale * _LARGEST_BIAS)
    needed = needed if scale.ndim else needed.max(initial=0.0)
    return np.maximum(scale, needed).astype(np.float32)


def quantize_weight(weight: np.ndarray, scale: np.ndarray, axis: int | None) -> np.ndarray:
    """Return int8 weights in -127..127; `scale` is a scalar or runs along `axis`."""
    shape = [1] * weight.ndim
    if axis is not None:
        shape[axis] = -1
    levels = np.rint(weight / scale.reshape(shape if scale.ndim else ()))
    return np.clip(levels, -LEVELS, LEVELS).astype(np.int8)


def quantize_bias(bias: np.ndarray, scale: np.ndarray) -> np.ndarray:
    """Return `bias / scale` as int32; `scale` is `data_scale * weight_scale`, see `bias_safe`."""
    return np.rint(bias.astype(np.float64) / scale).astype(np.int32)
