"""From an engine's outputs to the instances of one picture, in the picture's own pixels.

Boxes go back through the picture's own scales and are clipped to it; those that lay on the filling
alone are dropped. A mask over its box is pasted from the box as the model gave it: it was predicted
for that box, not for the clipped one. A mask over the canvas needs no box.
"""

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias

import numpy as np

from ..core import Instances, PrecisionError
from ..core.masks import MaskFrame, MaskPaste, MaskSource
from .canvas_masks import CanvasMasks
from .letterbox import Placement
from .paste import LazyMasks

__all__ = ["Paste", "instances_of"]

# (probabilities, boxes, size) → masks of MaskFrame.BOX; (probabilities, placement) → of others, and
# with the boxes in the picture as a third one of MaskFrame.CANVAS_BOXED.
Paste: TypeAlias = Callable[..., np.ndarray]


def instances_of(
    outputs: Mapping[str, np.ndarray],
    index: int,
    place: Placement,
    class_names: Sequence[str] | None = None,
    masks: MaskSource | None = None,
    *,
    paste: Paste | None = None,
    mask_frame: MaskFrame = MaskFrame.BOX,
    mask_paste: MaskPaste = MaskPaste.TORCHVISION,
) -> Instances:
    """Cut picture `index` out of a batch's outputs.

    Args:
        outputs: of the engine; see `backends/base.py`.
        index: of the picture in the batch.
        place: where it lay on the canvas.
        class_names: for the instances.
        masks: of the picture, if they are pasted already; None pastes the outputs' when asked for.
        paste: what pastes the outputs' masks; None is the runtime's own.
        mask_frame: what the outputs' masks are spread over.
        mask_paste: the runtime's rule for masks over boxes.

    Raises:
        PrecisionError: boxes, scores or masks are not finite numbers.
    """
    count = int(outputs["count"][index])
    boxes = outputs["boxes"][index, :count]
    scores = outputs["scores"][index, :count]
    probabilities = outputs["masks"][index, :count] if "masks" in outputs else None
    _check_finite(boxes, scores, probabilities)
    clipped = place.to_picture(boxes)
    seen = (clipped[:, 2] > clipped[:, 0]) & (clipped[:, 3] > clipped[:, 1])
    source: Callable[[], np.ndarray] | None = None if masks is None else masks.select(seen)
    if source is None and probabilities is not None:
        given = (probabilities[seen], boxes[seen], place)
        source = _lazy(*given, paste, mask_frame, mask_paste)
    return Instances(
        boxes=clipped[seen],
        scores=scores[seen].astype(np.float32),
        labels=outputs["labels"][index, :count][seen].astype(np.int64),
        image_size=place.image_size,
        class_names=class_names,
        masks_source=source,
    )


def _check_finite(boxes: np.ndarray, scores: np.ndarray, probabilities: np.ndarray | None) -> None:
    """Refuse what comparisons would take for "no": masks that are not numbers would be empty."""
    found = {
        "boxes": np.isfinite(boxes).all(),
        "scores": np.isfinite(scores).all(),
        # Of probabilities, the sum is finite if all are, and quicker to make.
        "masks": probabilities is None or np.isfinite(probabilities.sum()),
    }
    wrong = [name for name, finite in found.items() if not finite]
    if wrong:
        raise PrecisionError(
            f"the engine returned {' and '.join(wrong)} that are not finite numbers: its precision "
            "does not carry this model, so build it at fp32."
        )


def _lazy(
    probabilities: np.ndarray,
    boxes: np.ndarray,
    place: Placement,
    paste: Paste | None,
    mask_frame: MaskFrame,
    mask_paste: MaskPaste,
) -> Callable[[], np.ndarray]:
    """Return what pastes the masks of these boxes, canvas pixels, when it is called."""
    if mask_frame is not MaskFrame.BOX:
        within = place.to_picture(boxes) if mask_frame is MaskFrame.CANVAS_BOXED else None
        if paste is None:
            return CanvasMasks(probabilities, place, mask_frame, within)
        given = (probabilities, place) if within is None else (probabilities, place, within)
        return functools.partial(paste, *given)
    found = (probabilities, place.to_picture(boxes, clip=False), place.image_size)
    if paste is None:
        return LazyMasks(*found, mask_paste)
    return functools.partial(paste, *found)
