"""Candidates before suppression: which filters a tensor went through, and what they ask.

    kept = Gather(data, NonZero(condition))        condition: side >= least, score > threshold, And

Filters apply to boxes, scores and labels alike, with the same conditions.
"""

from dataclasses import dataclass

import numpy as np

from .declined import Declined
from .graph import Graph, Node
from .walk import LAYOUT, index_source, strip

__all__ = ["Filters", "unfiltered"]

_COMPARISONS = {
    "Greater": (True, True),
    "GreaterOrEqual": (True, False),
    "Less": (False, True),
    "LessOrEqual": (False, False),
}


@dataclass(frozen=True)
class Filters:
    """What candidates had to fulfil.

    Attributes:
        smallest: least side of a box, in pixels; None if it was not asked for.
        score: least score; None if it was not asked for.
        strict: whether a score equal to `score` is dropped.
        nodes: the comparisons.
    """

    smallest: float | None
    score: float | None
    strict: bool
    nodes: tuple[Node, ...]


def unfiltered(graph: Graph, rule: str, name: str) -> tuple[str, Filters]:
    """Return what `name` was before all filters, and the filters."""
    tests: list[tuple[str, float, bool, Node]] = []
    while True:
        name = strip(graph, name, ("Identity", "Cast"))
        maker = graph.maker(name)
        if maker is None or maker.op != "Gather" or maker.attributes.get("axis", 0) != 0:
            break
        found, _ = index_source(graph, maker.inputs[1])
        if found is None or found.op != "NonZero":
            break
        tests += _tests(graph, rule, found.inputs[0])
        name = maker.inputs[0]
    sides = [t for t in tests if t[0] == "side"]
    scores = [t for t in tests if t[0] == "score"]
    if len({t[1] for t in sides}) > 1:
        raise Declined(rule, "width and height have different least sides", sides[0][3])
    if len(scores) > 1:
        raise Declined(rule, "scores are compared more than once", scores[1][3])
    return name, Filters(
        sides[0][1] if sides else None,
        scores[0][1] if scores else None,
        scores[0][2] if scores else False,
        tuple(t[3] for t in tests),
    )


def _tests(
    graph: Graph, rule: str, condition: str, negated: bool = False
) -> list[tuple[str, float, bool, Node]]:
    condition = strip(graph, condition)
    node = graph.maker(condition)
    if node is None:
        raise Declined(rule, f"the condition {condition!r} of a filter is not computed by a node")
    if node.op == "Not":
        return _tests(graph, rule, node.inputs[0], not negated)
    if node.op == "And" and not negated:
        return [t for name in node.inputs for t in _tests(graph, rule, name)]
    if node.op == "Or" and not negated:  # opset 11 writes >= as > or ==
        parts = [graph.maker(strip(graph, name)) for name in node.inputs]
        kinds = {p.op: p for p in parts if p is not None}
        if kinds.keys() == {"Greater", "Equal"}:
            what, value, _, _ = _comparison(graph, rule, kinds["Greater"], False)
            return [(what, value, False, node)]
    return [_comparison(graph, rule, node, negated)]


def _comparison(
    graph: Graph, rule: str, node: Node, negated: bool
) -> tuple[str, float, bool, Node]:
    if node.op not in _COMPARISONS:
        raise Declined(rule, "a filter is no comparison with a constant", node)
    above, strict = _COMPARISONS[node.op]
    if negated:
        above, strict = not above, not strict
    operand, bound = node.inputs
    if graph.value(operand) is not None:
        operand, bound, above = bound, operand, not above
    value = graph.value(bound)
    if value is None or np.size(value) != 1:
        raise Declined(rule, "a filter does not compare with one constant", node)
    if not above:
        raise Declined(rule, "a filter keeps what is below a threshold, not above", node)
    maker = graph.maker(strip(graph, operand, (*LAYOUT, "Split")))
    kind = "side" if maker is not None and maker.op == "Sub" else "score"
    number = np.asarray(value, np.float32).reshape(())
    if kind == "side" and strict:  # above the number is at least the next one
        number = np.maximum(np.nextafter(number, np.float32(np.inf)), np.finfo(np.float32).tiny)
        strict = False
    return kind, float(number), strict, node
