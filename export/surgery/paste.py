"""Rule `paste`: whose masks a file makes, and so how they come into the picture.

    the file pastes them itself                            torchvision's exporter alone writes that
    class 0 is the background, RoIAlign is not aligned     torchvision's, cut before its paste
    anything else                                          detectron2's, which is mmdetection's, too

Corners are continuous where RoIAlign is aligned, and a mask is pasted into such a box as it is. A
model of detectron2 or mmdetection whose exporter lost the alignment still has its background last.
"""

from typing import NamedTuple

from ...core import UsageError
from ...core.masks import MaskPaste
from .graph import Node
from .plugin_graph import PluginDetector
from .plugin_shapes import POOLS, kind
from .two_stage import TwoStage

__all__ = ["Told", "paste_of", "told_paste"]

_ALIGNED = {"ROIAlign_TRT": "coordinate_transformation_mode", "MMCVMultiLevelRoiAlign": "aligned"}


class Told(NamedTuple):
    """How a file's masks are pasted, and what of it tells that, half a sentence."""

    paste: MaskPaste
    why: str


def told_paste(found: TwoStage | PluginDetector) -> Told | None:
    """Return how the masks of `found` are pasted by its structure, or None if it has none."""
    if found.masks is None:
        return None
    if isinstance(found, PluginDetector):
        pool = [node for node in found.plugins if kind(node) in POOLS][-1]
        return _by_structure(found.first_label == 1, _is_aligned(pool))
    if found.masks.pasted:
        return Told(MaskPaste.TORCHVISION, "the file pastes them itself")
    aligned = bool(found.masks.pool.attributes["aligned"])
    return _by_structure(found.detections.background == 0, aligned)


def paste_of(found: TwoStage | PluginDetector, asked: MaskPaste | None = None) -> MaskPaste:
    """Return how the masks of `found` are pasted: as `asked`, else as its structure tells.

    Raises:
        UsageError: `asked`, and there are no masks, or the file pastes them in another way.
    """
    told = told_paste(found)
    if asked is None:
        return MaskPaste.TORCHVISION if told is None else told.paste
    if told is None:
        raise UsageError(f"paste is {asked}, and the file makes no masks: leave it out.")
    own = isinstance(found, TwoStage) and found.masks is not None and found.masks.pasted
    if own and asked is not told.paste:
        raise UsageError(
            f"paste is {asked}, and the file pastes its masks itself, as {told.paste} does: leave "
            "it out."
        )
    return asked


def _by_structure(background_first: bool, aligned: bool) -> Told:
    torchvisions = background_first and not aligned
    place = "the first class" if background_first else "not the first class"
    why = f"the background is {place} and RoIAlign is {'' if aligned else 'not '}aligned"
    return Told(MaskPaste.TORCHVISION if torchvisions else MaskPaste.DETECTRON2, why)


def _is_aligned(pool: Node) -> bool:
    """Whether a plugin takes corners as continuous; PyramidROIAlign_TRT always does here."""
    return bool(pool.attributes.get(_ALIGNED.get(kind(pool), ""), 1))
