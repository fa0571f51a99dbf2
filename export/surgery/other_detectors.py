"""Detectors that surgery does not read, told by their structure and named as their users name them.

no RoIAlign                                one stage alone: RetinaNet, FCOS, …
MaxRoiPool                                 Fast and Faster R-CNN before RoIAlign
RoIAlign of boxes that a head has moved,
and no suppression since                   Cascade R-CNN, Hybrid Task Cascade
ArgMax of what a head upsampled            Keypoint R-CNN
GridSample before the masks' sigmoid       PointRend

and of those of one pass

NonMaxSuppression or NonZero in a YOLO     exported with its NMS
class scores and masks, and no boxes       Mask2Former, MaskFormer, EoMT
rows without masks                         a detector of boxes, of keypoints, of rotated boxes
several inputs beside the picture          SAM
weights of convolutions from the picture   RTMDet-Ins, CondInst, SOLOv2
"""

from collections.abc import Iterator

from .declined import Declined
from .graph import Graph, Node, outer_names
from .hints import Hints

__all__ = ["check_boxes", "check_not_chosen", "check_one_pass", "check_two_stage"]

RULE = "two-stage detector"
_READ = "surgery reads Mask R-CNN and Faster R-CNN"


def check_two_stage(graph: Graph) -> None:
    """Decline with a name if `graph` is a detector of another kind.

    Raises:
        Declined: it is, or has no RoIAlign or no suppression.
    """
    _check_stages(graph)
    for check in (_check_cascade, _check_keypoints, _check_points):
        check(graph)


def _check_stages(graph: Graph) -> None:
    suppressions, pools = graph.of("NonMaxSuppression"), graph.of("RoiAlign")
    if not pools and graph.of("MaxRoiPool"):
        raise Declined(
            RULE, "it pools by RoIPool (MaxRoiPool), and not by RoIAlign: detectron2's POOLER_TYPE "
            "is to be ROIAlignV2, and the model to be trained so", graph.of("MaxRoiPool")[0],
        )  # fmt: skip
    if not pools:
        kind = _one_stage(graph, suppressions[-1]) if suppressions else ""
        raise Declined(
            RULE, f"the graph has no RoiAlign, so it is no two-stage detector{kind}: {_READ}",
            suppressions[-1] if suppressions else None,
        )  # fmt: skip
    if not suppressions:
        raise Declined(RULE, "the graph has no NonMaxSuppression", pools[0])


def _one_stage(graph: Graph, suppression: Node) -> str:
    """Say which detector has no second stage, by what its scores are."""
    above = {node.op for node in _ancestors(graph, suppression.inputs[1])}
    if "Conv" not in above:
        return ""
    if above & {"Sigmoid", "Softmax"}:
        return ", but one of a single stage, as RetinaNet, FCOS, SSD and YOLO are"
    return ", but a region proposal network alone, without heads"


def _check_cascade(graph: Graph) -> None:
    """Decline if boxes of a head are pooled again before they are suppressed."""
    suppressions = len(graph.of("NonMaxSuppression"))
    for pool in graph.of("RoiAlign"):
        above = [node.op for node in _ancestors(graph, pool.inputs[1])]
        if "RoiAlign" in above and 0 < above.count("NonMaxSuppression") < suppressions:
            raise Declined(
                RULE, "it is a Cascade R-CNN: boxes that one head has moved are pooled again for "
                f"the next one, and {_READ}, with one box head", pool,
            )  # fmt: skip


def _check_keypoints(graph: Graph) -> None:
    for node in graph.nodes:
        if not any(op == "ArgMax" for op in _operators(node)):
            continue
        if any(above.op == "ConvTranspose" for above in _ancestors(graph, node.output)):
            raise Declined(
                RULE, "it is a Keypoint R-CNN: the places of keypoints are the highest of maps "
                f"that a head makes for each box, and {_READ}", node,
            )  # fmt: skip


def _check_points(graph: Graph) -> None:
    for node in graph.of("GridSample"):
        above = {n.op for n in _ancestors(graph, node.output)}
        if "RoiAlign" in above and "Sigmoid" not in above:
            raise Declined(
                RULE, "it has a PointRend mask head, which samples features at points, and "
                f"{_READ}: train with detectron2's MaskRCNNConvUpsampleHead", node,
            )  # fmt: skip


def _operators(node: Node) -> Iterator[str]:
    """Yield the operator of `node` and those in its bodies."""
    yield node.op
    for body in node.graphs():
        yield from (inner.op_type for inner in body.node)


def _ancestors(graph: Graph, name: str) -> list[Node]:
    """Return all nodes that `name` depends on."""
    found: dict[int, Node] = {}
    waiting = [name]
    while waiting:
        maker = graph.maker(waiting.pop())
        if maker is not None and id(maker) not in found:
            found[id(maker)] = maker
            waiting += [earlier for earlier in (*maker.inputs, *outer_names(maker)) if earlier]
    return list(found.values())


_TASKS = {
    "detect": "a detector of boxes alone",
    "pose": "a detector of keypoints",
    "obb": "a detector of rotated boxes",
    "classify": "a classifier",
    "semantic": "a model of semantic segmentation",
    "depth": "a model of depth",
}
_ONE = "one pass"
_INSTEAD = "surgery reads instance segmentation"


def check_not_chosen(graph: Graph) -> None:
    """Decline if a file of one pass suppresses by itself, of which the canonical form has none.

    Raises:
        Declined: it does.
    """
    found = graph.of("NonMaxSuppression", "NonZero")
    if found:
        raise Declined(
            _ONE, "it suppresses boxes by itself, in shapes that depend on the picture: export it "
            "with nms=None, and maskrt writes the suppression", found[0],
        )  # fmt: skip


def check_boxes(graph: Graph) -> None:
    """Decline if a file answers with classes and masks of queries, and with no boxes.

    Raises:
        Declined: it does.
    """
    shapes = {len(graph.shape(name) or ()): graph.shape(name) or () for name in graph.outputs}
    if len(graph.outputs) != 2 or set(shapes) != {3, 4}:
        return
    rows, masks = shapes[3], shapes[4]
    if rows[1] == masks[1] and not graph.of("ConvTranspose", "TopK"):
        raise Declined(
            _ONE, f"its {rows[1]} queries have classes and masks, and no boxes, as those of "
            "Mask2Former, MaskFormer and EoMT, whose masks compete for pixels: RF-DETR Seg, "
            "D-FINE-seg and EC-seg are read", graph.maker(graph.outputs[0]),
        )  # fmt: skip


def check_one_pass(graph: Graph, hints: Hints) -> None:
    """Decline with a name if `graph` is a network of one pass of another kind.

    Raises:
        Declined: it is.
    """
    if graph.of("RoiAlign", "MaxRoiPool"):
        return
    if len(graph.inputs) > 1 and any(len(graph.shape(name) or ()) == 4 for name in graph.inputs):
        kind = "a decoder of prompts, as SAM's is"
        raise Declined(
            _ONE, f"it takes {len(graph.inputs)} inputs, as {kind}, and one that takes pictures "
            "alone is read: no way around is known",
        )  # fmt: skip
    if hints.task in _TASKS and not graph.of("NonMaxSuppression"):
        raise Declined(
            _ONE, f"it is {_TASKS[hints.task]}, as it says itself (task {hints.task}), and "
            f"{_INSTEAD}: train and export a model of the task segment",
        )  # fmt: skip
    shapes = [graph.shape(name) or () for name in graph.outputs]
    ranks = sorted(len(shape) for shape in shapes)
    _check_dynamic_weights(graph)
    if ranks == [3] and not graph.of("NonMaxSuppression") and graph.of("Conv"):
        raise Declined(
            _ONE, f"its one output {list(shapes[0])} has rows without masks, as those of a "
            f"detector of boxes, keypoints or rotated boxes, and {_INSTEAD}: export a model of "
            "masks, with prototypes as the second output",
        )  # fmt: skip
    if ranks == [4] and graph.of("LayerNormalization"):
        raise Declined(
            _ONE, f"its one output {list(shapes[0])} is a map, as SAM's encoder or semantic "
            f"segmentation have it, and {_INSTEAD}", graph.maker(graph.outputs[0]),
        )  # fmt: skip


def _check_dynamic_weights(graph: Graph) -> None:
    for node in graph.of("Conv"):
        if graph.value(node.inputs[1]) is None and graph.maker(node.inputs[1]) is not None:
            raise Declined(
                _ONE, "weights of its convolutions are made from the picture, as RTMDet-Ins, "
                "CondInst and SOLOv2 make them: of these maskrt compiles CondInst and SOLOv2 from "
                "their checkpoints, and no ONNX file", node,
            )  # fmt: skip
