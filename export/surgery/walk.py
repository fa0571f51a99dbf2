"""Walking a graph backwards, and computing pieces of it.

Rules find landmarks by walking, and learn what lies between them by computing it on chosen numbers:
a piece that moves data is told by where an enumeration ends up, one that decodes boxes by what it
makes of known codes. So the form in which an exporter wrote a piece does not matter.
"""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import onnx
from onnx import helper, numpy_helper

from .declined import Declined
from .evaluation import evaluator
from .graph import Graph, Node, outer_names

__all__ = ["LAYERS", "LAYOUT", "compute", "frontier", "index_source", "nodes_between", "strip"]

LAYOUT = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity", "Transpose", "Cast", "Expand")
LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")


def strip(graph: Graph, name: str, through: Sequence[str] = LAYOUT) -> str:
    """Follow first inputs back while the maker is one of `through`; return where that ends."""
    maker = graph.maker(name)
    while maker is not None and maker.op in through:
        name = maker.inputs[0]
        maker = graph.maker(name)
    return name


def frontier(graph: Graph, name: str, stops: Callable[[Node], bool]) -> list[str]:
    """Return the values at which a walk back from `name` stops, in topological order.

    It stops before nodes for which `stops` holds, and at the inputs of the graph. What only lends
    its shape is not followed.
    """
    found: list[str] = []
    seen, waiting = {name}, [name]
    while waiting:
        current = waiting.pop()
        maker = graph.maker(current)
        if maker is None:
            if current in graph.inputs:
                found.append(current)
            continue
        if stops(maker):
            found.append(current)
            continue
        if maker.op in ("Shape", "Size"):
            continue
        for earlier in (*maker.inputs, *outer_names(maker)):
            if earlier and earlier not in seen:
                seen.add(earlier)
                waiting.append(earlier)
    return sorted(found, key=lambda value: _place(graph, value))


def _place(graph: Graph, name: str) -> tuple[int, int]:
    maker = graph.maker(name)
    return (-1, 0) if maker is None else (graph.order[id(maker)], maker.outputs.index(name))


def nodes_between(graph: Graph, outputs: Sequence[str], sources: Sequence[str]) -> list[Node]:
    """Return the nodes that make `outputs` out of `sources` and constants, in order."""
    wanted: dict[int, Node] = {}
    seen, waiting = set(sources), [o for o in outputs if o not in sources]
    while waiting:
        maker = graph.maker(waiting.pop())
        if maker is None or id(maker) in wanted:
            continue
        wanted[id(maker)] = maker
        for earlier in (*maker.inputs, *outer_names(maker)):
            if earlier and earlier not in seen:
                seen.add(earlier)
                waiting.append(earlier)
    return sorted(wanted.values(), key=lambda node: graph.order[id(node)])


def compute(graph: Graph, rule: str, output: str, feeds: Mapping[str, np.ndarray]) -> np.ndarray:
    """Return what `output` is if the values in `feeds` are as given.

    Raises:
        Declined: `output` needs more than `feeds`, or a node in between cannot be computed here.
    """
    if output in feeds:
        return feeds[output]
    nodes = nodes_between(graph, [output], list(feeds))
    given = {*feeds, *graph.constants, *(n for node in nodes for n in node.outputs)}
    for node in nodes:
        if any(name and name not in given for name in node.inputs):
            raise _strayed(graph, rule, nodes, output, set(feeds))
    if output not in given:
        raise Declined(rule, f"the tensor {output!r} is not computed by any node")
    model = _model(graph, nodes, output, feeds)
    try:
        with np.errstate(all="ignore"):
            (value,) = evaluator(model).run(None, dict(feeds))
    except (NotImplementedError, RuntimeError, TypeError, ValueError, IndexError) as error:
        cause = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise Declined(rule, f"it cannot be computed ({cause})", nodes[-1]) from error
    return np.asarray(value)


def _strayed(
    graph: Graph, rule: str, nodes: Sequence[Node], output: str, feeds: set[str]
) -> Declined:
    """Say where the search for what makes `output` left what it is meant to depend on.

    That is at the node nearest to the output which reads something that depends on no feed:
    the picture itself, where the search ends, lies far behind it.
    """
    known = set(feeds)
    for node in nodes:
        if any(n in known for n in node.inputs if n and n not in graph.constants):
            known.update(node.outputs)
    waiting, seen = [output], {output}
    while waiting:
        reader = graph.maker(waiting.pop(0))
        if reader is None:
            continue
        strange = [n for n in reader.inputs if n and n not in known and n not in graph.constants]
        if strange:
            maker = graph.maker(strange[0])
            what = f"the input {strange[0]!r}" if maker is None else f"what {maker} makes"
            return Declined(rule, f"it also depends on {what}, which no rule expects there", reader)
        new = [n for n in reader.inputs if n and n not in feeds and n not in seen]
        seen.update(new)
        waiting += new
    return Declined(rule, f"what makes {output!r} depends on more than it should", nodes[-1])


def _model(
    graph: Graph, nodes: Sequence[Node], output: str, feeds: Mapping[str, np.ndarray]
) -> onnx.ModelProto:
    used = dict.fromkeys(name for node in nodes for name in node.inputs)
    constants = [
        numpy_helper.from_array(graph.constants[name], name)
        for name in used
        if name in graph.constants and name not in feeds
    ]
    protos = []
    for node in nodes:
        domain, _, op_type = node.op.rpartition("::")
        protos.append(
            helper.make_node(op_type, node.inputs, node.outputs, domain=domain, **node.attributes)
        )
    inputs = [
        helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
        for n, v in feeds.items()
    ]
    body = helper.make_graph(protos, "piece", inputs, [onnx.ValueInfoProto(name=output)], constants)
    return helper.make_model(body, opset_imports=[helper.make_opsetid("", graph.opset)])


def index_source(graph: Graph, index: str) -> tuple[Node | None, int | None]:
    """Return what a vector of indices was made by, and to how many its first ones were cut.

    `NonZero` and `NonMaxSuppression` give matrices, of which one row or column is taken by
    `Gather`, `Split`, `Slice` or `Squeeze`, whichever the exporter preferred.
    """
    limit: int | None = None
    name = index
    while (maker := graph.maker(name)) is not None:
        if maker.op == "Slice" and _cuts_rows(graph, maker):
            ends = graph.value(maker.inputs[2])
            cut = None if ends is None else int(ends.reshape(-1)[0])
            limit = cut if limit is None or cut is None else min(limit, cut)
        elif maker.op not in (*LAYOUT, "Split", "Slice", "Gather"):
            return maker, limit
        name = maker.inputs[0]
    return None, limit


def _cuts_rows(graph: Graph, node: Node) -> bool:
    """Whether a `Slice` takes the first entries of a vector."""
    shape = graph.shape(node.inputs[0])
    if shape is None or len(shape) != 1 or len(node.inputs) < 3:
        return False
    starts, ends = graph.value(node.inputs[1]), graph.value(node.inputs[2])
    if starts is None or ends is None:
        return False
    return bool((starts == 0).all()) and 0 <= int(ends.reshape(-1)[0]) < 1 << 31
