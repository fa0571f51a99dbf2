"""Letterboxing and mask pasting by their definitions: slow, plain, and nobody's kernel.

A check puts these in the place of the runtime's own to see what those lose. The letterbox weighs
every source pixel by Pillow's fixed-point weights (`plugins/preprocess/resample.py`), and equals
Pillow bit by bit. The pastes interpolate in float64; float32 decides a pixel within an ulp of the
threshold otherwise.
"""

import functools
from collections.abc import Callable

import numpy as np

from ...core import InputSpec, Placing, Resampling
from ...core.masks import MaskFrame, MaskPaste
from ...plugins.preprocess.resample import PRECISION_BITS, placed_size, resampling_taps
from ..letterbox import Placement

__all__ = [
    "defined_canvas_paste",
    "defined_letterbox",
    "defined_paste",
    "defined_sampled_paste",
    "definition_of",
]


def defined_letterbox(image: np.ndarray, spec: InputSpec) -> tuple[np.ndarray, Placement]:
    """Place uint8 `[h, w, 3]` on the canvas of `spec`."""
    size, canvas_size = (image.shape[0], image.shape[1]), (spec.height, spec.width)
    (rows, columns), (top, left) = _placed(size, spec)
    canvas = np.empty((*canvas_size, 3), np.uint8)
    canvas[:] = spec.pad_value
    pixels = image.astype(np.int64)
    if spec.resampling is Resampling.BILINEAR:
        resized = _blended(pixels, rows, columns)
    else:
        across = _resampled(pixels.transpose(1, 0, 2), columns).transpose(1, 0, 2)
        resized = _resampled(across, rows)
    canvas[top : top + rows, left : left + columns] = resized
    return canvas, Placement(size, (rows, columns), canvas_size, (top, left))


def _placed(size: tuple[int, int], spec: InputSpec) -> tuple[tuple[int, int], tuple[int, int]]:
    """Return rows and columns of the picture on the canvas, and its first row and column."""
    canvas = (spec.height, spec.width)
    if spec.placing is Placing.SQUASH:
        return canvas, (0, 0)
    rows, columns = placed_size(size, canvas)
    if spec.placing is Placing.TOP_LEFT:
        return (rows, columns), (0, 0)
    return (rows, columns), ((canvas[0] - rows) // 2, (canvas[1] - columns) // 2)


def _blended(pixels: np.ndarray, rows: int, columns: int) -> np.ndarray:
    """Resize int64 `[h, w, 3]` by hat functions of one pixel, in 11 bits an axis."""
    if pixels.shape[:2] == (rows, columns):
        return pixels
    down, across = (_hats(n, m) for n, m in zip(pixels.shape, (rows, columns), strict=False))
    blended = np.einsum("ih,hwc->iwc", down, pixels)
    total = np.einsum("jw,iwc->ijc", across, blended)
    return (total + (1 << 21)) >> 22


def _hats(source: int, outputs: int) -> np.ndarray:
    """Return int64 `[outputs, source]`: the weights of 2**11 of an output pixel's neighbours."""
    centre = np.clip((np.arange(outputs) + 0.5) * source / outputs - 0.5, 0, source - 1)
    hats = np.maximum(0.0, 1.0 - np.abs(centre[:, None] - np.arange(source)))
    second = np.minimum(np.floor(centre).astype(int), max(source - 2, 0)) + 1
    weights = np.zeros((outputs, source), np.int64)
    index = np.arange(outputs)
    later = np.minimum(second, source - 1)
    weights[index, later] = np.rint(hats[index, later] * 2048)
    weights[index, second - 1] = 2048 - weights[index, later] if source > 1 else 2048
    return weights


def defined_paste(
    probabilities: np.ndarray, boxes: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Paste float `[N, M, M]` at xyxy `[N, 4]` into bool `[N, *size]`, as torchvision does it."""
    masks = np.zeros((len(probabilities), *size), bool)
    for mask, values, box in zip(masks, probabilities, boxes, strict=True):
        padded = np.pad(values.astype(np.float64), 1)
        side = len(padded)
        half = (box[2:] - box[:2]) * np.float32(0.5) * np.float32(side / (side - 2))
        centre = (box[2:] + box[:2]) * np.float32(0.5)
        x0, y0, x1, y1 = np.concatenate([centre - half, centre + half]).astype(int).tolist()
        down, across = _weights(y0, y1, size[0], side), _weights(x0, x1, size[1], side)
        mask[:] = down @ padded @ across.T > 0.5
    return masks


def defined_sampled_paste(
    probabilities: np.ndarray, boxes: np.ndarray, size: tuple[int, int]
) -> np.ndarray:
    """Paste float `[N, M, M]` at xyxy `[N, 4]` into bool `[N, *size]`, as detectron2 does it."""
    masks = np.zeros((len(probabilities), *size), bool)
    for mask, values, box in zip(masks, probabilities, boxes.astype(np.float64), strict=True):
        if (box[2:] <= box[:2]).any():
            continue
        down, across = (
            _sampled_weights(box[axis], box[axis + 2], size[1 - axis], len(values))
            for axis in (1, 0)
        )
        mask[:] = down @ values.astype(np.float64) @ across.T >= 0.5
    return masks


def defined_canvas_paste(
    probabilities: np.ndarray,
    place: Placement,
    boxes: np.ndarray | None = None,
    *,
    frame: MaskFrame = MaskFrame.CANVAS,
) -> np.ndarray:
    """Resample float `[N, h, w]` over the canvas; see `runtime/canvas_masks.py`."""
    rows, columns = (
        _canvas_weights(place, axis, probabilities.shape[1 + axis], frame) for axis in (0, 1)
    )
    masks = np.zeros((len(probabilities), *place.image_size), bool)
    for mask, values in zip(masks, probabilities, strict=True):
        mask[:] = rows @ values.astype(np.float64) @ columns.T > 0.5
    if frame is MaskFrame.CANVAS_BOXED and boxes is not None:
        y, x = np.ogrid[: place.image_size[0], : place.image_size[1]]
        for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
            mask &= (x >= x1) & (x < x2) & (y >= y1) & (y < y2)
    return masks


def definition_of(frame: MaskFrame, paste: MaskPaste) -> Callable[..., np.ndarray]:
    """Return what pastes masks of that frame by that rule; what it takes is `postprocess.Paste`."""
    if frame is not MaskFrame.BOX:
        return functools.partial(defined_canvas_paste, frame=frame)
    return defined_paste if paste is MaskPaste.TORCHVISION else defined_sampled_paste


def _canvas_weights(place: Placement, axis: int, elements: int, frame: MaskFrame) -> np.ndarray:
    """Return float64 `[pixels, elements]`: hat functions around each element's canvas pixel."""
    pixels, covered = place.image_size[axis], place.canvas_size[axis]
    canvas = (place.input_size or place.canvas_size)[axis]
    apart = canvas / elements if frame.is_even else 4.0
    first = 2.5 if frame is MaskFrame.CANVAS_LATE else apart / 2
    belongs = first + apart * np.arange(elements)
    pixel = (np.arange(pixels) + 0.5) * covered / pixels + place.offset[axis]
    pixel = np.clip(pixel, belongs[0], belongs[-1])
    return np.maximum(0.0, 1.0 - np.abs(pixel[:, None] - belongs) / apart)


def _weights(first: int, last: int, limit: int, source: int) -> np.ndarray:
    """Return float64 `[limit, source]`: what each picture row takes from each mask row."""
    length = max(last - first + 1, 1)
    matrix = np.zeros((limit, source))
    pixels = np.arange(max(first, 0), min(first + length, limit))
    at = np.maximum((pixels - first + 0.5) * (source / length) - 0.5, 0.0)
    low = np.minimum(at.astype(int), source - 1)
    high = np.minimum(low + 1, source - 1)
    matrix[pixels, low] += 1 - (at - low)
    matrix[pixels, high] += at - low
    return matrix


def _sampled_weights(low: float, high: float, pixels: int, cells: int) -> np.ndarray:
    """Return float64 `[pixels, cells]`: hat functions of the cells, which the box is cut into."""
    centres = (np.arange(pixels) + 0.5 - low) / (high - low) * cells - 0.5
    return np.maximum(0.0, 1.0 - np.abs(centres[:, None] - np.arange(cells)))


def _resampled(pixels: np.ndarray, outputs: int) -> np.ndarray:
    """Resample int64 `[n, ...]` along its first axis, in fixed point."""
    if len(pixels) == outputs:
        return pixels
    taps = resampling_taps(len(pixels), outputs)
    total = np.full((outputs, *pixels.shape[1:]), 1 << (PRECISION_BITS - 1), np.int64)
    for tap in range(taps.weights.shape[1]):
        place = np.minimum(taps.first + tap, len(pixels) - 1)
        total += pixels[place] * taps.weights[:, tap, None, None]
    return np.clip(total >> PRECISION_BITS, 0, 255)
