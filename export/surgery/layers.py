"""Layers, which surgery keeps: copied from the foreign graph into the canonical one.

A copy is written in the canonical opset whatever the foreign one, its weights get names of the
stage that they belong to, and shape arithmetic comes along to be folded afterwards. An operator
that is no part of any backbone or head is a sign that a stage was misunderstood, and is refused.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from .declined import Declined
from .emitter import Emitter
from .graph import Graph, Node
from .walk import nodes_between

__all__ = ["copy_layers"]

RULE = "layers"
_WEIGHTED = ("Conv", "ConvTranspose", "Gemm")
_PLAIN = (
    "Relu", "LeakyRelu", "PRelu", "Sigmoid", "HardSigmoid", "HardSwish", "Tanh", "Elu", "Selu",
    "Softplus", "Erf", "Gelu", "Mish", "Add", "Sub", "Mul", "Div", "Pow", "Sqrt", "Neg", "Exp",
    "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Concat", "Flatten", "MatMul",
    "InstanceNormalization", "LayerNormalization", "GroupNormalization", "Transpose",
    "Shape", "Gather", "Reshape", "Cast", "Slice", "Identity", "Min", "Max",
)  # fmt: skip
_SEVERAL = ("TopK", "Split")  # operators of several outputs
_AXES = (
    "Squeeze", "Unsqueeze", "ReduceMean", "ReduceSum", "ReduceMax", "ReduceMin", "ReduceProd",
)  # fmt: skip


def copy_layers(
    graph: Graph,
    emitter: Emitter,
    outputs: Sequence[str],
    known: dict[str, str],
    *,
    stage: str,
    batch: int = 1,
    more: Sequence[str] = (),
) -> list[str]:
    """Copy what makes `outputs` out of `known`; return the copies' names.

    Args:
        graph: the foreign graph.
        emitter: where the copies go.
        outputs: foreign names.
        known: foreign name -> name in the copy; gets all that is copied.
        stage: start of the weights' names.
        batch: pictures a call; the foreign graph has one.
        more: operators that are copied besides those of layers.
    """
    copier = _Copier(graph, emitter, known, stage, batch, more)
    for node in _ordered(graph, outputs, dict(known)):
        copier.copy(node)
    return [copier.name(output) for output in outputs]


def _ordered(graph: Graph, outputs: Sequence[str], sources: Mapping[str, str]) -> list[Node]:
    """Return the nodes in an order that follows from the structure alone: depth first."""
    wanted = {id(n) for n in nodes_between(graph, outputs, list(sources))}
    done: set[int] = set()
    ordered: list[Node] = []
    stack: list[tuple[Node, bool]] = []
    for output in reversed(outputs):
        maker = graph.maker(output)
        if maker is not None and id(maker) in wanted:
            stack.append((maker, False))
    while stack:
        node, ready = stack.pop()
        if id(node) in done:
            continue
        if ready:
            done.add(id(node))
            ordered.append(node)
            continue
        stack.append((node, True))
        for name in reversed(node.inputs):
            maker = graph.maker(name)
            if name not in sources and maker is not None and id(maker) in wanted:
                stack.append((maker, False))
    return ordered


class _Copier:
    def __init__(
        self, graph: Graph, emitter: Emitter, names: dict[str, str], stage: str, batch: int,
        more: Sequence[str],
    ) -> None:  # fmt: skip
        self._graph = graph
        self._emitter = emitter
        self._names = names
        self._stage = stage
        self._batch = batch
        self._more = more
        self._node: Node | None = None

    def name(self, foreign: str, hint: str = "constant") -> str:
        """Return what `foreign` is called in the copy; constants are brought along."""
        if not foreign:
            return ""
        if foreign not in self._names:
            value = self._graph.value(foreign)
            if value is None:
                raise Declined(
                    RULE, f"it reads {foreign!r}, which comes from outside the {self._stage}",
                    self._node,
                )  # fmt: skip
            for node in self._graph.grown.get(foreign, ()):
                self._make(node)
            if foreign not in self._names:
                self._names[foreign] = self._emitter.constant(value, value.dtype, hint)
        return self._names[foreign]

    def _make(self, node: Node) -> None:
        """Write a node that computes constants, which folding would make larger."""
        for name in node.inputs:
            if name and name not in self._names:
                value = self._graph.constants[name]
                self._names[name] = self._emitter.constant(value, value.dtype)
        inputs = [self._names[name] if name else "" for name in node.inputs]
        made = self._emitter.op(node.op, *inputs, outputs=len(node.outputs), **node.attributes)
        several = [made] if isinstance(made, str) else made
        self._names.update(zip(node.outputs, several, strict=True))

    def copy(self, node: Node) -> None:
        self._node = node
        if node.op in _SEVERAL and node.op in self._more:
            self._names.update(zip(node.outputs, self._several(node), strict=True))
            return
        if node.op in _WEIGHTED:
            made = self._weighted(node)
        elif node.op == "BatchNormalization":
            made = self._batch_normalisation(node)
        elif node.op == "Resize":
            made = self._resize(node)
        elif node.op == "Clip":
            made = self._clip(node)
        elif node.op in _AXES:
            made = self._with_axes(node)
        elif node.op == "Softmax" and node.op in self._more:
            made = self._softmax(node)
        elif node.op == "GridSample" and node.op in self._more:
            made = self._grid_sample(node)
        elif node.op == "Gelu":
            made = self._gelu(node)
        elif node.op in (*_PLAIN, *self._more):
            made = self._plain(node)
        else:
            raise Declined(RULE, f"{node.op} is no layer of a {self._stage}", node)
        self._names[node.output] = made

    def _plain(self, node: Node) -> str:
        inputs = [self.name(n) for n in node.inputs]
        if node.op in ("Reshape", "Expand"):
            inputs[1] = self._batched(node.inputs[1])
        elif node.op == "GatherElements":
            inputs[0] = self._repeated(node)
        attributes = {k: v for k, v in node.attributes.items() if k != "consumed_inputs"}
        if node.op == "MatMul" and self._graph.value(node.inputs[1]) is not None:
            inputs[1] = self.name(node.inputs[1], f"{self._stage}.matmul.weight")
        return str(self._emitter.op(node.op, *inputs, **attributes))

    def _several(self, node: Node) -> list[str]:
        """Copy a node of several outputs."""
        inputs, attributes = [self.name(n) for n in node.inputs], dict(node.attributes)
        if node.op == "Split":
            sizes = attributes.pop("split", None)
            if sizes is not None:
                inputs.append(self._emitter.ints(*sizes))
            elif len(inputs) == 1:
                attributes["num_outputs"] = len(node.outputs)
        count = len(node.outputs)
        made = self._emitter.op(node.op, *inputs, outputs=count, **attributes)
        return [made] if count == 1 else list(made)

    def _softmax(self, node: Node) -> str:
        """Copy it with its axis: before opset 13 it joins that axis and all behind it."""
        old = self._graph.opset < 13
        rank = len(self._graph.shape(node.inputs[0]) or ())
        axis = int(node.attributes.get("axis", 1 if old else -1))
        if old and axis not in (-1, rank - 1):
            raise Declined(RULE, f"it is a softmax over all axes from {axis} on", node)
        return str(self._emitter.op("Softmax", self.name(node.inputs[0]), axis=axis))

    def _grid_sample(self, node: Node) -> str:
        """Copy it with the words of opset 16; 20 and later say linear for bilinear."""
        words = {"linear": "bilinear", "cubic": "bicubic"}
        attributes = dict(node.attributes)
        attributes["mode"] = words.get(mode := attributes.get("mode", "bilinear"), mode)
        inputs = [self.name(n) for n in node.inputs]
        return str(self._emitter.op("GridSample", *inputs, **attributes))

    def _gelu(self, node: Node) -> str:
        """Write it in operators of the canonical opset, which has none: x/2 (1 + erf(x/sqrt 2))."""
        if node.attributes.get("approximate", "none") != "none":
            raise Declined(RULE, "it is a GELU by tanh, and one by erf is copied", node)
        out, x = self._emitter, self.name(node.inputs[0])
        bent = out.op("Erf", out.op("Div", x, out.constant(np.sqrt(2))))
        half = out.op("Mul", x, out.constant(0.5))
        return str(out.op("Mul", half, out.op("Add", bent, out.constant(1.0))))

    def _batched(self, shape: str) -> str:
        value = self._graph.value(shape)
        if value is None or self._batch == 1 or value.size == 0 or value.reshape(-1)[0] != 1:
            return self.name(shape)
        wanted = value.copy()
        wanted[0] = self._batch
        return self._emitter.constant(wanted, np.int64)

    def _repeated(self, node: Node) -> str:
        """Return the data of a GatherElements; a constant of one picture for each of the indices'.

        A dynamic batch's exporter leaves a decoder's anchors as they are for one.
        """
        value, shape = self._graph.value(node.inputs[0]), self._graph.shape(node.inputs[1])
        if value is None or not shape or not node.attributes.get("axis", 0):
            return self.name(node.inputs[0])
        pictures = shape[0] or 1
        if len(value) != 1 or pictures == 1:
            return self.name(node.inputs[0])
        return self._emitter.constant(value.repeat(pictures, 0), value.dtype)

    def _weighted(self, node: Node) -> str:
        weight = self._graph.value(node.inputs[1])
        if weight is None:
            raise Declined(RULE, "its weights are computed from the picture", node)
        stem = f"{self._stage}.{node.op.lower()}"
        inputs = [self.name(node.inputs[0])]
        inputs.append(self._emitter.constant(weight, np.float32, f"{stem}.weight"))
        if len(node.inputs) > 2 and node.inputs[2]:
            inputs.append(self.name(node.inputs[2], f"{stem}.bias"))
        return str(self._emitter.op(node.op, *inputs, **node.attributes))

    def _batch_normalisation(self, node: Node) -> str:
        values = [self._graph.value(n) for n in node.inputs[1:5]]
        if any(v is None for v in values) or (len(node.outputs) > 1 and node.outputs[1]):
            raise Declined(RULE, "its statistics are not constants", node)
        gain, offset, mean, variance = (np.asarray(v, np.float64) for v in values)
        rank = len(self._graph.shape(node.inputs[0]) or (1,) * 4)
        factor = gain / np.sqrt(variance + node.attributes.get("epsilon", 1e-5))
        shift = offset - mean * factor
        wide = (1, -1, *[1] * (rank - 2))
        scaled = self._emitter.op(
            "Mul", self.name(node.inputs[0]), self._emitter.constant(factor.reshape(wide))
        )
        return str(self._emitter.op("Add", scaled, self._emitter.constant(shift.reshape(wide))))

    def _resize(self, node: Node) -> str:
        if len(node.inputs) < 3:
            raise Declined(RULE, "its form is older than opset 11", node)
        scales = (
            self.name(node.inputs[2]) if node.inputs[2] and self._filled(node.inputs[2]) else ""
        )
        sizes = self._batched(node.inputs[3]) if len(node.inputs) > 3 and node.inputs[3] else ""
        inputs = [self.name(node.inputs[0]), "", "" if sizes else scales, sizes]
        kept = {k: v for k, v in node.attributes.items() if v is not None}
        return str(self._emitter.op("Resize", *(inputs if sizes else inputs[:3]), **kept))

    def _filled(self, name: str) -> bool:
        value = self._graph.value(name)
        return value is None or value.size > 0

    def _clip(self, node: Node) -> str:
        inputs = [self.name(n) for n in node.inputs]
        for place, bound in enumerate(("min", "max"), 1):
            if bound in node.attributes:
                inputs += [""] * (place + 1 - len(inputs))
                inputs[place] = self._emitter.constant(node.attributes[bound])
        return str(self._emitter.op("Clip", *inputs))

    def _with_axes(self, node: Node) -> str:
        attributes = dict(node.attributes)
        inputs = [self.name(n) for n in node.inputs]
        if (axes := attributes.pop("axes", None)) is not None:
            inputs.append(self._emitter.ints(*axes))
        return str(self._emitter.op(node.op, *inputs, **attributes))
