"""Makes the rounding of an FP16 graph explicit, so that ONNX Runtime's CPU provider keeps it.

A provider without FP16 kernels gets casts put around each FP16 node: y = Cast16(f(Cast32(x))). ONNX
Runtime then drops every Cast32(Cast16(x)) in which one of the two is such a cast of its own, and an
engine that was asked for in FP16 rounds nothing but its weights. Pairs in which both casts stand in
the model are kept. So this pass writes them all into it:

    FP16 node f(x) → y      becomes      Cast32(x) → f in FP32 → Cast16 → y

The values are those of FP16 storage with FP32 accumulation, which is what tensor cores do. Two
rules save casts without changing a value:

* Relu commutes with rounding, so a layer that only a Relu reads is rounded once, after it: ONNX
  Runtime can still fuse the two.
* An operator that only picks among its inputs (`_PICKS`) makes nothing that needs rounding.

Data movement (`_MOVES`), Q/DQ and Casts are left as they are: they have FP16 kernels. So are Loop,
If and Scan, with what their bodies read.
"""

from collections import Counter
from dataclasses import dataclass, field

import onnx
from onnx import TensorProto, helper, shape_inference

from .lowered import nodes_within

__all__ = ["make_rounding_explicit"]

_MOVES = {"Flatten", "Gather", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"}
_HOLDS_GRAPH = {"If", "Loop", "Scan"}
_LEFT_ALONE = _MOVES | _HOLDS_GRAPH | {"Cast", "Constant", "DequantizeLinear", "QuantizeLinear"}
_PICKS = {"Concat", "MaxPool", "Relu"}


def make_rounding_explicit(model: onnx.ModelProto) -> bool:
    """Rewrite the FP16 nodes of the main graph in place; return whether there were any."""
    graph = model.graph
    if not _mentions_half(graph):
        return False
    widening = _Widening(graph, _halves(model))
    for node in list(graph.node):
        widening.take(node)
    del graph.node[:]
    graph.node.extend(widening.nodes)
    del graph.value_info[:]  # outputs of the rewritten nodes have other types now
    return bool(widening.wide)


@dataclass
class _Widening:
    """The graph under construction.

    Attributes:
        graph: the original.
        halves: its FP16 tensors.
        nodes: what was built so far.
        wide: FP16 tensor → the FP32 tensor that stands for it.
        unrounded: those of them that are still to be rounded, by the Relu that reads them.
    """

    graph: onnx.GraphProto
    halves: set[str]
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    wide: dict[str, str] = field(default_factory=dict)
    unrounded: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        """Note which tensors are read in FP16, and which by one Relu alone."""
        reads = [(name, node) for node in self.graph.node for name in node.input]
        narrow = {name for name, node in reads if node.op_type in _LEFT_ALONE}
        narrow |= {name for node in nodes_within(self.graph) for name in node.input}
        narrow |= {info.name for info in self.graph.output}
        readers = Counter(name for name, _ in reads)
        into_relu = {name for name, node in reads if node.op_type == "Relu"}
        self._read_narrow = narrow
        self._only_relu = {name for name in into_relu - narrow if readers[name] == 1}

    def take(self, node: onnx.NodeProto) -> None:
        """Append `node`, widened if it computes in FP16."""
        sources = [name for name in node.input if name in self.halves]
        if node.op_type in _LEFT_ALONE or not sources:
            self.nodes.append(node)
            return
        for name in sources:
            self._widen(name)
        wide = onnx.NodeProto()
        wide.CopyFrom(node)
        wide.input[:] = [self.wide.get(name, name) for name in node.input]
        self.nodes.append(wide)
        rounded = not self.unrounded.intersection(sources)
        for index, name in enumerate(node.output):
            if name in self.halves:
                wide.output[index] = f"{name}.in_float"
                self._round(name, wide.output[index], picked=node.op_type in _PICKS and rounded)

    def _widen(self, name: str) -> None:
        if name not in self.wide:
            self.wide[name] = f"{name}.as_float"
            self._cast(name, self.wide[name], TensorProto.FLOAT)

    def _round(self, name: str, wide: str, *, picked: bool) -> None:
        """Bring the FP32 result `wide` to the FP16 tensor `name`, where that is due."""
        later = name in self._only_relu and not picked
        if picked or later:
            self.wide[name] = wide
        if later:
            self.unrounded.add(name)
        elif not picked or name in self._read_narrow:
            self._cast(wide, name, TensorProto.FLOAT16)

    def _cast(self, source: str, target: str, to: int) -> None:
        self.nodes.append(
            helper.make_node("Cast", [source], [target], f"{target}.cast", to=int(to))
        )


def _mentions_half(graph: onnx.GraphProto) -> bool:
    if any(tensor.data_type == TensorProto.FLOAT16 for tensor in graph.initializer):
        return True
    return any(
        attribute.name == "to" and attribute.i == TensorProto.FLOAT16
        for node in graph.node
        for attribute in node.attribute
    )


def _halves(model: onnx.ModelProto) -> set[str]:
    """Return the names of all FP16 tensors of the main graph."""
    graph = shape_inference.infer_shapes(model).graph
    infos = (*graph.value_info, *graph.input, *graph.output)
    types = {info.name: info.type.tensor_type.elem_type for info in infos}
    types |= {tensor.name: tensor.data_type for tensor in graph.initializer}
    return {name for name, element in types.items() if element == TensorProto.FLOAT16}
