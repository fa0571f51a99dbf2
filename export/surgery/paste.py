"""Rule `paste`: whose masks a file makes, and so how they come into the picture.

    the file pastes them itself                            torchvision's exporter alone writes that
    class 0 is the background, RoIAlign is not aligned     torchvision's, cut before its paste
    anything else                                          detectron2's, which is mmdetection's, too

A box whose corners are continuous (RoIAlign aligned) is pasted as one. A model of theirs whose
exporter lost the alignment still has its background last.
"""

from typing import NamedTuple

from ...core import UsageError
from ...core.masks import MaskPaste
from .declined import Notes
from .graph import Node
from .plugin_graph import PluginDetector
from .plugin_shapes import POOLS, kind
from .two_stage import TwoStage

__all__ = ["note_paste", "paste_of"]

RULE = "paste"
_ALIGNED = {"ROIAlign_TRT": "coordinate_transformation_mode", "MMCVMultiLevelRoiAlign": "aligned"}


class _Told(NamedTuple):
    """Whose masks they are, why, and the nodes that tell."""

    paste: MaskPaste
    why: str
    nodes: tuple[Node, ...]


def note_paste(
    found: TwoStage | PluginDetector, notes: Notes, asked: MaskPaste | None = None
) -> None:
    """Note how the masks of `found` are pasted, if it has any, and why so."""
    told = _told(found)
    if told is not None:
        words = f"{told.paste}'s, as {told.why}" if asked is None else f"{asked}'s, as asked for"
        notes.add(RULE, words, told.nodes)


def paste_of(found: TwoStage | PluginDetector, asked: MaskPaste | None = None) -> MaskPaste:
    """Return how the masks of `found` are pasted, `asked` first; torchvision's where there are none.

    Raises:
        UsageError: `asked`, and there are no masks, or the file pastes them in another way.
    """
    told = _told(found)
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


def _told(found: TwoStage | PluginDetector) -> _Told | None:
    if found.masks is None:
        return None
    if isinstance(found, PluginDetector):
        pools = tuple(node for node in found.plugins if kind(node) in POOLS)
        return _by_structure(found.first_label == 1, _aligned(pools[-1]), pools[-1:])
    if found.masks.pasted:
        return _Told(MaskPaste.TORCHVISION, "the file pastes them itself", found.masks.nodes[-1:])
    pool = found.masks.pool
    aligned = bool(pool.attributes["aligned"])
    return _by_structure(found.detections.background == 0, aligned, pool.nodes)


def _by_structure(background_first: bool, aligned: bool, nodes: tuple[Node, ...]) -> _Told:
    place = "first" if background_first else "last or absent"
    why = f"the background is {place} and RoIAlign {'is' if aligned else 'is not'} aligned"
    if background_first and not aligned:
        return _Told(MaskPaste.TORCHVISION, why, nodes)
    return _Told(MaskPaste.DETECTRON2, f"{why} (mmdetection's is the same)", nodes)


def _aligned(pool: Node) -> bool:
    """Whether a plugin pools without a half pixel; PyramidROIAlign_TRT always does here."""
    return bool(pool.attributes.get(_ALIGNED.get(kind(pool), ""), 1))
