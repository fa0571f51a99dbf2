"""Detectors of one pass: a network whose outputs are its instances, with no head for each box.

What the file leaves to the program around it (NMS, the choice of the best, the mixing of masks) is
written by `one_pass_graph.py`, with the numbers that the family's own program takes by default.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from ...core import Placing, Resampling, UsageError
from ...core.masks import MaskFrame
from .declined import Declined, Notes
from .detr import DetrHead, find_detr
from .graph import Graph
from .hints import Hints
from .normalisation import Normalisation
from .other_detectors import check_boxes
from .preprocess import Preprocessing, read_preprocessing
from .yolo import YoloHead, find_yolo

__all__ = [
    "CROPS",
    "FORMS",
    "Choice",
    "OnePass",
    "Outside",
    "given_choice",
    "is_one_pass",
    "one_pass_detector",
]

FORMS = {"yolo-seg": ("predictions", "prototypes"), "detr-seg": ("boxes", "scores", "masks")}
CROPS = ("picture", "prototypes", "none")
_TWO_STAGE = ("RoiAlign", "MaxRoiPool")
_GREY = (114, 114, 114)
_IMAGENET_MEAN = np.array([123.675, 116.28, 103.53])
_IMAGENET_STD = np.array([58.395, 57.12, 57.375])


@dataclass(frozen=True)
class Choice:
    """Which of a network's answers are instances, and where their masks end.

    Attributes:
        score_threshold: instances score more.
        iou_threshold: a box that overlaps a better one of its class more is left out; None where
            the network needs no suppression.
        class_agnostic: the same across classes.
        max_detections: how many are kept at most.
        mask_crop: "picture": pixels of the picture outside of the box are outside; "prototypes":
            elements of the mask are, before it is resized; "none".
    """

    score_threshold: float
    iou_threshold: float | None
    class_agnostic: bool
    max_detections: int
    mask_crop: str


@dataclass(frozen=True)
class Outside:
    """What the program around a file does with a picture before.

    Attributes:
        placing, resampling, fill: see `InputSpec`.
        normalisation: see there.
    """

    placing: Placing
    resampling: Resampling
    fill: tuple[int, int, int] | None
    normalisation: Normalisation


@dataclass(frozen=True)
class OnePass:
    """A recognised detector of one pass.

    Attributes:
        head: what it answers.
        preprocessing: what it does with the picture.
        choice: which answers are instances.
        outside: how the picture comes to it.
        class_names: without a background, as the file says; None if it does not.
        writer: who wrote it, as the file says.
        precision: what its file computes in, if that is not FP32: "FP16" or "FP64".
    """

    head: YoloHead | DetrHead
    preprocessing: Preprocessing
    choice: Choice
    outside: Outside
    class_names: tuple[str, ...] | None
    writer: str
    precision: str

    @property
    def family(self) -> str:
        """For the manifest."""
        return "onnx_yolo_seg" if isinstance(self.head, YoloHead) else "onnx_detr_seg"

    @property
    def classes(self) -> int:
        """How many labels there are, background included."""
        first = 1 if isinstance(self.head, YoloHead) else self.head.first_label
        return self.head.classes + first

    @property
    def mask_frame(self) -> MaskFrame:
        """What the canonical masks are spread over."""
        cropped = self.choice.mask_crop == "picture"
        return MaskFrame.CANVAS_BOXED if cropped else MaskFrame.CANVAS_EVEN


def is_one_pass(graph: Graph) -> bool:
    """Whether `graph` may be of one pass: it pools nothing for boxes, and has rows and maps."""
    ranks = sorted(len(graph.shape(name) or ()) for name in graph.outputs)
    return not graph.of(*_TWO_STAGE) and ranks in ([3, 4], [3, 3, 4])


def one_pass_detector(
    graph: Graph,
    notes: Notes,
    hints: Hints,
    *,
    outside: Normalisation | None = None,
    outputs: Sequence[str] | None = None,
    given: Mapping[str, Any] | None = None,
    precision: str = "",
) -> OnePass:
    """Return the detector of one pass that `graph` is.

    Args:
        graph: folded, of one picture.
        notes: gets what was recognised.
        hints: what the file says of itself.
        outside: how pictures are normalised before it; None is the family's own way.
        outputs: a form of `FORMS` and the names of its tensors; None finds them.
        given: what of `Choice` and of `Outside` is not the family's own.
        precision: what the file computes in, if that is not FP32.

    Raises:
        Declined: it is none.
        UsageError: something of `given` does not go with it.
    """
    if precision:
        notes.add("precision", f"its weights are {precision}, and are computed in FP32 here", ())
    size = _size(graph)
    form, names = (None, None) if not outputs else (outputs[0], tuple(outputs[1:]))
    head = _head(graph, size, notes, form, names)
    usual = _outside(head, hints)
    normalisation = usual.normalisation if outside is None or outside.mean is None else outside
    if outside is not None and outside.mean is None and outside.bgr:
        normalisation = replace(normalisation, bgr=True, source=outside.source)
    preprocessing = read_preprocessing(graph, normalisation)
    notes.add("preprocessing", str(preprocessing), preprocessing.nodes)
    choice, placed = _given(head, _choice(head), replace(usual, normalisation=normalisation), given)
    notes.add("the program around it", _words(head, choice, placed), ())
    names_said = hints.names
    if names_said is not None and len(names_said) != head.classes:
        names_said = None
    return OnePass(head, preprocessing, choice, placed, names_said, hints.writer, precision)


def _size(graph: Graph) -> tuple[int, int]:
    shape = graph.shape(graph.inputs[0]) if len(graph.inputs) == 1 else None
    if shape is None or len(shape) != 4 or None in shape or shape[1] != 3:
        # The rule for pictures says what is wrong with them.
        read_preprocessing(graph)
        raise Declined("preprocessing", "it does not take one picture [1, 3, H, W]")
    if shape[0] != 1:
        raise Declined("preprocessing", f"the file takes {shape[0]} pictures a call, and one that "
                       "takes one is read: export it for one picture (batch=1); --batch makes a "
                       "bundle of more")  # fmt: skip
    return int(shape[2] or 0), int(shape[3] or 0)


def _head(
    graph: Graph,
    size: tuple[int, int],
    notes: Notes,
    form: str | None,
    names: tuple[str, ...] | None,
) -> YoloHead | DetrHead:
    if form == "yolo-seg" and names is not None:
        return find_yolo(graph, size, notes, (names[0], names[1]))
    if form == "detr-seg" and names is not None:
        return find_detr(graph, size, notes, (names[0], names[1], names[2]))
    ranks = sorted(len(graph.shape(name) or ()) for name in graph.outputs)
    check_boxes(graph)
    if ranks == [3, 3, 4]:
        return find_detr(graph, size, notes)
    return find_yolo(graph, size, notes)


def _outside(head: YoloHead | DetrHead, hints: Hints) -> Outside:
    """Return what the family's own program does with a picture."""
    plain = Normalisation(np.zeros(3), np.full(3, 255.0), False, "the family's own program")
    if isinstance(head, YoloHead):
        return Outside(Placing.CENTRE, Resampling.BILINEAR, _GREY, plain)
    imagenet = head.imagenet if not hints.family else hints.family != "dfine"
    if imagenet:
        plain = replace(plain, mean=_IMAGENET_MEAN, std=_IMAGENET_STD)
    smooth = head.family != "rf_detr"
    resampling = Resampling.ANTIALIASED if smooth else Resampling.BILINEAR
    return Outside(Placing.SQUASH, resampling, None, plain)


def _choice(head: YoloHead | DetrHead) -> Choice:
    """Return what the family's own program takes by default."""
    if isinstance(head, DetrHead):
        least = 0.5 if head.family == "rf_detr" else 0.25
        return Choice(least, None, False, min(head.queries, 300), "none")
    if head.chosen:
        return Choice(0.25, None, False, head.chosen, "picture")
    if head.kind == "anchors":
        return Choice(0.25, 0.45, False, 300, "prototypes")
    return Choice(0.25, 0.7, False, 300, "picture")


def given_choice(**given: Any) -> dict[str, Any]:
    """Return those of the arguments that say something, checked one by one.

    Raises:
        UsageError: a number or a word that no head takes.
    """
    said = {name: value for name, value in given.items() if value is not None}
    for name in ("score_threshold", "iou_threshold"):
        if name in said and not 0 <= float(said[name]) <= 1:
            raise UsageError(f"{name} is {said[name]!r}, and must be a number of 0 to 1.")
    most = said.get("max_detections")
    if most is not None and (not isinstance(most, int) or most < 1):
        raise UsageError(f"max_detections is {most!r}, and must be an integer of at least 1.")
    if said.get("mask_crop", CROPS[0]) not in CROPS:
        raise UsageError(f"mask_crop is {said['mask_crop']!r}, and must be {', '.join(CROPS)}.")
    for name, kind in (("placing", Placing), ("resampling", Resampling)):
        if name in said:
            said[name] = _word(name, said[name], kind)
    if "fill" in said:
        said["fill"] = _colour(said["fill"])
    return said


def _word(name: str, value: Any, kind: type[Placing] | type[Resampling]) -> Any:
    try:
        return kind(value)
    except ValueError:
        known = ", ".join(one.value for one in kind)
        raise UsageError(f"{name} is {value!r}, and must be one of {known}.") from None


def _colour(value: Any) -> tuple[int, int, int]:
    try:
        red, green, blue = (int(v) for v in value)
    except (TypeError, ValueError):
        red = green = blue = -1
    if not all(0 <= v <= 255 for v in (red, green, blue)):
        raise UsageError(f"fill is {value!r}, and must be three integers of 0 to 255, RGB.")
    return red, green, blue


def _given(
    head: YoloHead | DetrHead, choice: Choice, outside: Outside, given: Mapping[str, Any] | None
) -> tuple[Choice, Outside]:
    said = dict(given or {})
    if choice.iou_threshold is None:
        for name in ("iou_threshold", "class_agnostic"):
            if said.get(name):
                raise UsageError(
                    f"{name} is for suppression, and this network chooses without: leave it out."
                )
    chosen = head.chosen if isinstance(head, YoloHead) else 0
    if 0 < chosen < said.get("max_detections", 0):
        raise UsageError(
            f"max_detections is {said['max_detections']}, and the file itself chooses {chosen}: "
            "give no more, or export it without that choice (nms=None)."
        )
    if isinstance(head, DetrHead) and said.get("mask_crop", "none") == "prototypes":
        raise UsageError("mask_crop is prototypes, and a DETR has none: give picture or none.")
    which = {f.name: said[f.name] for f in fields(Choice) if f.name in said}
    placed = {f.name: said[f.name] for f in fields(Outside) if f.name in said}
    return replace(choice, **which), replace(outside, **placed)


def _words(head: YoloHead | DetrHead, choice: Choice, outside: Outside) -> str:
    placing = {
        Placing.CENTRE: "letterboxed in the middle",
        Placing.TOP_LEFT: "letterboxed at the top left",
        Placing.SQUASH: "squashed to the whole input",
    }[outside.placing]
    resized = "antialiased" if outside.resampling is Resampling.ANTIALIASED else "bilinear"
    end = ""
    if choice.iou_threshold is not None:
        across = " across classes" if choice.class_agnostic else " within a class"
        end = f", overlap up to {choice.iou_threshold:g}{across}"
    crop = {
        "picture": "masks end with their boxes in the picture",
        "prototypes": "masks end with their boxes at the prototypes' resolution",
        "none": "masks are not cut",
    }[choice.mask_crop]
    return (
        f"pictures {placing}, {resized}; scores above {choice.score_threshold:g}{end}, at most "
        f"{choice.max_detections}; {crop}"
    )
