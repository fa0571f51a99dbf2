"""A two-stage detector, recognised: the stages of a foreign graph and what lies between them."""

from dataclasses import dataclass

import numpy as np

from .declined import Declined, Notes
from .detections import Detections, read_detections
from .graph import Graph
from .masks import Masks, read_masks
from .normalisation import Normalisation
from .other_detectors import check_two_stage
from .padded import is_padded, read_padded_detections, read_padded_proposals
from .plugin_shapes import remedy
from .preprocess import Preprocessing, read_preprocessing
from .proposals import Proposals, read_proposals
from .pyramid import Pool, find_pools
from .suppression import Kept, Suppression, find_suppressions, kept_by
from .walk import compute, index_source, strip
from .widened import check_levels_stay

__all__ = ["TwoStage", "pool_words", "pools_rule", "recognise"]

RULE = "two-stage detector"


@dataclass(frozen=True)
class TwoStage:
    """The stages of a detector.

    Attributes:
        box_scale: from network pixels to the picture's, (x, y).
        outputs: place of boxes, scores, labels (and masks) among the graph's outputs.
    """

    preprocessing: Preprocessing
    proposals: Proposals
    box_pool: Pool
    detections: Detections
    masks: Masks | None
    box_scale: tuple[float, float]
    outputs: dict[str, int]


def recognise(graph: Graph, notes: Notes, outside: Normalisation | None = None) -> TwoStage:
    """Return the stages of `graph`.

    Args:
        graph: folded.
        notes: gets what was recognised, also if a later rule declines.
        outside: what is known of normalisation before the graph.

    Raises:
        Declined: a check does not hold.
    """
    _check_detector(graph)
    preprocessing = read_preprocessing(graph, outside)
    _check_shown_count(graph)
    notes.add("preprocessing", str(preprocessing), preprocessing.nodes)
    pools = find_pools(graph)
    for pool in pools:
        notes.add(pools_rule(pool), pool_words(pool), pool.nodes)
        if pool.widened:
            check_levels_stay(pool.attributes, preprocessing.padded, pool.nodes[0])
    first, second = _suppressions(graph)
    proposals, box_pool = _proposals(graph, first, pools)
    notes.add("proposals", str(proposals), proposals.nodes)
    detections = _detections(graph, second, proposals)
    notes.add("detections", str(detections), detections.nodes)
    _check_shown(graph, detections)
    masks = _masks(graph, pools, box_pool, detections)
    if masks is not None:
        whose = "one for all classes, " if masks.shared else "own class, "
        words = whose + ("pasted in a loop" if masks.pasted else "not pasted")
        notes.add("masks", words, masks.nodes)
    _check_outputs(graph, detections, masks)
    _check_corners(preprocessing, proposals, detections)
    scale, boxes = _box_output(graph, detections)
    outputs = {
        "boxes": graph.outputs.index(boxes),
        "scores": graph.outputs.index(detections.scores),
        "labels": graph.outputs.index(detections.labels),
    }
    if masks is not None:
        shown = {graph.outputs.index(name) for name in _shown(graph)}
        (outputs["masks"],) = shown - {*outputs.values()}
    return TwoStage(preprocessing, proposals, box_pool, detections, masks, scale, outputs)


def pools_rule(pool: Pool) -> str:
    """Return the name of the rule that `pool` is a match of."""
    return "pyramid" if len(pool.nodes) > 1 else "single RoIAlign"


def pool_words(pool: Pool) -> str:
    """Return the parameters of `pool` in words."""
    a = pool.attributes
    scales = ", ".join(f"1/{round(1 / s)}" for s in a["spatial_scales"])
    outside = " by moving boxes outside of RoiAlign" if pool.widened else ""
    return (
        f"{len(pool.nodes)} levels ({scales}), {a['output_height']} x {a['output_width']} bins, "
        f"sampling ratio {a['sampling_ratio']}, aligned {a['aligned']}{outside}, canonical size "
        f"{a['canonical_scale']:g} at level {a['canonical_level']}"
    )


def _check_detector(graph: Graph) -> None:
    foreign = [node for node in graph.nodes if "::" in node.op]
    if foreign:
        how = "without fused or custom operators"
        if foreign[0].op.startswith("mmdeploy::"):
            how = "with mmdeploy's configuration for ONNX Runtime"
        known = remedy(foreign[0])
        raise Declined(
            RULE, known or "the operator is not one of ONNX's own, and no rule knows it: export "
            f"{how}", foreign[0],
        )  # fmt: skip
    check_two_stage(graph)


def _check_shown_count(graph: Graph) -> None:
    if len(_shown(graph)) not in (2, 3, 4):
        raise Declined(
            RULE, f"the graph has {len(_shown(graph))} outputs, and boxes, labels, scores and, of "
            "a Mask R-CNN, masks are expected",
        )  # fmt: skip


def _shown(graph: Graph) -> list[str]:
    """Return the outputs that depend on the picture; detectron2 also gives the picture's size."""
    return [name for name in graph.outputs if graph.value(name) is None]


def _suppressions(graph: Graph) -> tuple[Suppression, Suppression]:
    found = find_suppressions(graph)
    if len(found) != 2:
        raise Declined(
            RULE, f"the graph has {len(found)} NonMaxSuppression, and one of the proposals and one "
            "of the detections are expected", found[-1].node,
        )  # fmt: skip
    return found[0], found[1]


def _detections(graph: Graph, found: Suppression, proposals: Proposals) -> Detections:
    if proposals.padded is not None:
        return read_padded_detections(graph, found, proposals, _shown(graph))
    return read_detections(graph, found, kept_by(graph, found), proposals)


def _proposals(graph: Graph, found: Suppression, pools: list[Pool]) -> tuple[Proposals, Pool]:
    if is_padded(graph, found, pools[0]):
        return read_padded_proposals(graph, found, pools[0]), pools[0]
    kept = kept_by(graph, found)
    for pool in pools:
        boxes = [k for k in kept if k.name == pool.boxes and k.data == found.boxes]
        if boxes:
            _check_used_alone(graph, found, kept)
            return read_proposals(graph, found, boxes[0]), pool
    raise Declined(RULE, "the boxes that the first NonMaxSuppression keeps are not pooled",
                   found.node)  # fmt: skip


def _check_used_alone(graph: Graph, found: Suppression, kept: list[Kept]) -> None:
    """Decline if an output of the graph shows what the proposals' suppression kept."""
    names = {k.name for k in kept} | {*found.node.outputs}
    if names & {*graph.outputs}:
        raise Declined(RULE, "what the first NonMaxSuppression keeps is an output", found.node)


def _masks(graph: Graph, pools: list[Pool], box_pool: Pool, detections: Detections) -> Masks | None:
    others = [pool for pool in pools if pool is not box_pool]
    if not others:
        return None
    if len(others) > 1 or others[0].boxes != detections.boxes:
        raise Declined(RULE, "a RoIAlign pools neither proposals nor detections",
                       others[-1].nodes[0])  # fmt: skip
    _, boxes = _box_output(graph, detections)
    known = (detections.scores, detections.labels, boxes, detections.padded)
    rest = [output for output in _shown(graph) if output not in known]
    if len(rest) != 1:
        raise Declined(RULE, "the masks of the detections are no output of the graph",
                       others[0].nodes[0])  # fmt: skip
    return read_masks(graph, rest[0], others[0], detections)


def _check_shown(graph: Graph, detections: Detections) -> None:
    for what, name in (("scores", detections.scores), ("labels", detections.labels)):
        if name in graph.outputs:
            continue
        if any(_filtered(graph, output) == name for output in _shown(graph)):
            raise Declined(
                RULE, f"the {what} of the detections are filtered once more on their way out, as "
                "detectron2's postprocessing does, which maskrt does itself: export what "
                "model.inference(inputs, do_postprocess=False) gives, as detectron2's "
                "tools/deploy/export_model.py does", graph.maker(name),
            )  # fmt: skip
        raise Declined(RULE, f"the {what} of the detections are no output of the graph",
                       graph.maker(name))  # fmt: skip


def _filtered(graph: Graph, output: str) -> str:
    """Return what the rows of `output` are chosen from by a `NonZero`, or `output`."""
    taken = graph.maker(strip(graph, output))
    if taken is None or taken.op != "Gather" or taken.attributes.get("axis", 0) != 0:
        return output
    chosen, _ = index_source(graph, taken.inputs[1])
    return taken.inputs[0] if chosen is not None and chosen.op == "NonZero" else output


def _check_outputs(graph: Graph, detections: Detections, masks: Masks | None) -> None:
    without = 3 if detections.padded is None else 2
    if len(_shown(graph)) != without + (masks is not None):
        raise Declined(
            RULE,
            f"the graph has {len(_shown(graph))} outputs, and a mask head "
            + ("has a fourth" if masks is not None else "to make a fourth is missing"),
        )


def _check_corners(
    preprocessing: Preprocessing, proposals: Proposals, detections: Detections
) -> None:
    height, width = preprocessing.inner
    for stage in (proposals, detections):
        if stage.corner != (float(width), float(height)):
            raise Declined(
                RULE, f"boxes are clipped to {stage.corner} (x, y), and the network's picture is "
                f"{(width, height)}", stage.nodes[-1],
            )  # fmt: skip


def _box_output(graph: Graph, detections: Detections) -> tuple[tuple[float, float], str]:
    """Return what the boxes are multiplied by on their way to the output, and that output."""
    if detections.padded is not None:
        return (1.0, 1.0), detections.padded
    start = np.array([[1.0, 2.0, 4.0, 8.0], [3.0, 5.0, 7.0, 11.0]], np.float32)
    for output in _shown(graph):
        shape = graph.shape(output)
        if shape is None or len(shape) != 2 or output in (detections.scores, detections.labels):
            continue
        found = compute(graph, RULE, output, {detections.boxes: start})
        if found.shape != start.shape:
            continue
        x, y = (float(v) for v in (found / start)[0, :2])
        if not np.allclose(found, start * np.array([x, y, x, y]), rtol=1e-5):
            raise Declined(RULE, "boxes are not merely scaled on their way to the output",
                           graph.maker(output))  # fmt: skip
        return (x, y), output
    raise Declined(RULE, "the boxes of the detections are no output of the graph",
                   graph.maker(detections.boxes))  # fmt: skip
