"""The Q/DQ graph of any target, so that ONNX Runtime evaluates it as the target's kernels do.

A GPU's INT8 kernels multiply int8 by int8, add in int32, and multiply each sum by a scale once. The
graph says less: what its DequantizeLinears make is rounded before it is multiplied, in FP16 to 11
bits, and sums of float products depend on their order, so on the CPU. So around an INT8 layer

    DequantizeLinear(x, s), DequantizeLinear(w, t) → Conv + bias
    becomes     Cast(x), w as floats → Conv → · (s · t) → + bias

The floats hold the integers: each sum below 2^24 is exact in float32, whatever its order, and a
larger one is right to 2^-24 of itself. `CpuBackend(exact=True)` keeps ONNX Runtime from fusing
what is left of Q/DQ into integer kernels, and from moving the scales into the weights again.

In the form for ONNX Runtime itself, where the bias is int32 and a QuantizeLinear follows, the bias
is added to the integers and one factor s · t / u makes levels of them, as its kernels do.

FP16 nodes are FP32 ones between explicit casts (`half.py`).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ...core import Target
from .half import make_rounding_explicit
from .lowered import lower_for

__all__ = ["exact_graph", "hold_integers"]

_LAYERS = ("Conv", "ConvTranspose", "Gemm", "MatMul")
_INTEGERS = (TensorProto.INT8, TensorProto.UINT8)


def exact_graph(model: onnx.ModelProto) -> bytes:
    """Return a rendered graph for any target, in standard operators, for the exact evaluation.

    Raises:
        UnsupportedTargetError: an operator has no definition in standard operators.
    """
    lowered = lower_for(Target.parse("cpu"), model, "function").model
    hold_integers(lowered)
    make_rounding_explicit(lowered)
    return lowered.SerializeToString()


def hold_integers(model: onnx.ModelProto) -> list[str]:
    """Rewrite the INT8 layers in place; return their names.

    A layer that does not read two DequantizeLinears stays as it is written.
    """
    graph = _Graph(model.graph)
    layers = [node for node in model.graph.node if graph.is_integer(node)]
    replaced = {id(node): graph.rewritten(node) for node in layers}
    for node in model.graph.node:
        if node.op_type == "Add" and (sums := graph.rewritten_sum(node)) is not None:
            replaced[id(node)] = sums
    nodes = [new for node in model.graph.node for new in replaced.get(id(node), [node])]
    del model.graph.node[:]
    model.graph.node.extend(_read(nodes, model.graph))
    if layers:
        del model.graph.value_info[:]  # what layers make has another type now
    return [node.name for node in layers]


@dataclass(frozen=True)
class _Grid:
    """What a DequantizeLinear reads.

    Attributes:
        levels: the tensor of integers.
        scale: a scalar, or one for each slice along `axis`.
        zero_point: the same of integers.
        axis: for a scale that is no scalar.
        kind: element type of what it makes.
    """

    levels: str
    scale: np.ndarray
    zero_point: np.ndarray
    axis: int
    kind: int


class _Graph:
    """Who makes what."""

    def __init__(self, graph: onnx.GraphProto) -> None:
        self._graph = graph
        self._constants = {tensor.name: tensor for tensor in graph.initializer}
        self._producers = {name: node for node in graph.node for name in node.output if name}
        self._readers: dict[str, list[onnx.NodeProto]] = {}
        for node in graph.node:
            for name in node.input:
                self._readers.setdefault(name, []).append(node)
        self._outputs = {info.name for info in graph.output}
        self._made: dict[str, str] = {}

    def is_integer(self, node: onnx.NodeProto) -> bool:
        if node.op_type not in _LAYERS or node.domain not in ("", "ai.onnx"):
            return False
        data, weight = self._grid(node.input[0]), self._grid(node.input[1])
        if data is None or weight is None or weight.levels not in self._constants:
            return False
        if any(a.name in ("alpha", "beta") and a.f != 1.0 for a in node.attribute):
            return False
        rank = len(self._constants[weight.levels].dims)
        return data.scale.ndim == 0 and (
            weight.scale.ndim == 0 or weight.axis == _output_axis(node, rank)
        )

    def rewritten(self, node: onnx.NodeProto) -> list[onnx.NodeProto]:
        """Return the nodes that take the layer's place, the last one making its output."""
        data, weight = self._grid(node.input[0]), self._grid(node.input[1])
        assert data is not None  # `is_integer`
        assert weight is not None
        sums, scaled = f"{node.output[0]}.sums", f"{node.output[0]}.scaled"
        nodes, integers = self._integers(data)
        layer = onnx.NodeProto()
        layer.CopyFrom(node)
        del layer.input[:]
        layer.input.extend([integers, self._weight(weight)])
        rank = len(self._constants[weight.levels].dims)
        scale = data.scale.astype(np.float32) * weight.scale.astype(np.float32)
        bias = node.input[2] if len(node.input) > 2 and node.input[2] else None
        levels = None if bias is None else self._levels(bias)
        quantize = self._quantizes(node.output[0])
        if quantize is not None and (bias is None or levels is not None):
            scale = scale / numpy_helper.to_array(self._constants[quantize.input[1]])
            quantize.input[1] = self._constant(f"{node.output[0]}.one", np.float32(1))
            if levels is not None:
                value = levels.astype(np.float32)
                layer.input.append(self._constant(f"{node.output[0]}.bias", value))
            bias = None
        half = data.kind == TensorProto.FLOAT16
        end = f"{node.output[0]}.float" if half else node.output[0]
        layer.output[0] = sums
        factor = self._constant(f"{node.output[0]}.scale", _broadcast(scale, node, rank))
        nodes += [layer, _node("Mul", [sums, factor], scaled if bias else end)]
        if bias:
            more, bias = self._float_bias(bias, node, rank)
            nodes += [*more, _node("Add", [scaled, bias], end)]
        if half:
            nodes.append(_node("Cast", [end], node.output[0], to=TensorProto.FLOAT16))
        return nodes

    def rewritten_sum(self, node: onnx.NodeProto) -> list[onnx.NodeProto] | None:
        """Return the nodes for a sum of two tensors of integers that is quantised again; or None.

        ONNX Runtime adds levels: z + (s a - s za - t zb + t b) with s and t in levels of the sum,
        which differs from the sum of the dequantised numbers where that lies between two levels.
        """
        grids = [self._grid(name) for name in node.input]
        quantize = self._quantizes(node.output[0])
        first, second = grids
        if first is None or second is None or quantize is None or len(quantize.input) < 3:
            return None
        if any(grid.scale.ndim or grid.kind != TensorProto.FLOAT for grid in (first, second)):
            return None
        step = numpy_helper.to_array(self._constants[quantize.input[1]])
        zero = numpy_helper.to_array(self._constants[quantize.input[2]])
        straight = quantize.input[0] == node.output[0]
        if zero.ndim or zero.dtype != np.uint8 or (zero and not straight):
            return None  # a Relu would cut the levels at 0
        ratios = [np.float32(grid.scale / step) for grid in (first, second)]
        points = [np.float32(grid.zero_point) for grid in (first, second)]
        fixed = np.float32(zero) - (ratios[0] * points[0] + ratios[1] * points[1])
        name = node.output[0]
        quantize.input[1] = self._constant(f"{name}.one", np.float32(1))
        quantize.input[2] = self._constant(f"{name}.nought", np.uint8(0))
        nodes = []
        for index, grid in enumerate((first, second)):
            part = f"{name}.part{index}"
            factor = self._constant(f"{part}.ratio", ratios[index])
            nodes.append(_node("Cast", [grid.levels], f"{part}.levels", to=TensorProto.FLOAT))
            nodes.append(_node("Mul", [f"{part}.levels", factor], part))
        offset = self._constant(f"{name}.fixed", np.float32(fixed))
        nodes.append(_node("Add", [offset, f"{name}.part0"], f"{name}.moved"))
        nodes.append(_node("Add", [f"{name}.moved", f"{name}.part1"], name))
        return nodes

    def _levels(self, bias: str) -> np.ndarray | None:
        """Return a bias that is stored in int32, on the grid of the sums; None for another one."""
        grid = self._grid(bias)
        if grid is None or grid.levels not in self._constants:
            return None
        return numpy_helper.to_array(self._constants[grid.levels])

    def _quantizes(self, name: str) -> onnx.NodeProto | None:
        """Return the QuantizeLinear that alone reads a layer's result, Relu between them or not."""
        for _ in range(2):
            readers = self._readers.get(name, [])
            if len(readers) != 1 or name in self._outputs:
                return None
            (reader,) = readers
            if reader.op_type == "Relu":
                name = reader.output[0]
            elif reader.op_type == "QuantizeLinear":
                scale = self._constants.get(reader.input[1])
                plain = scale is not None and scale.data_type == TensorProto.FLOAT
                return reader if plain and scale is not None and not scale.dims else None
            else:
                return None
        return None

    def _grid(self, name: str) -> _Grid | None:
        node = self._producers.get(name)
        if (
            node is None
            or node.op_type != "DequantizeLinear"
            or node.input[1] not in self._constants
        ):
            return None
        scale = numpy_helper.to_array(self._constants[node.input[1]])
        zero_point = np.zeros((), np.int8)
        if len(node.input) > 2 and node.input[2]:
            tensor = self._constants.get(node.input[2])
            if tensor is None or tensor.data_type not in _INTEGERS:
                return None
            zero_point = numpy_helper.to_array(tensor)
        axis = next((a.i for a in node.attribute if a.name == "axis"), 1)
        kind = helper.np_dtype_to_tensor_dtype(scale.dtype)
        return _Grid(node.input[0], scale, zero_point, axis, kind)

    def _integers(self, data: _Grid) -> tuple[list[onnx.NodeProto], str]:
        """Return nodes that make floats of a tensor's integers, once, and their name."""
        known = self._made.get(data.levels)
        if known is not None:
            return [], known
        wide, centred = f"{data.levels}.wide", f"{data.levels}.integers"
        zero = float(data.zero_point)
        nodes = [_node("Cast", [data.levels], wide if zero else centred, to=TensorProto.FLOAT)]
        if zero:
            point = self._constant(f"{data.levels}.zero", np.float32(zero))
            nodes.append(_node("Sub", [wide, point], centred))
        self._made[data.levels] = centred
        return nodes, centred

    def _weight(self, weight: _Grid) -> str:
        name = f"{weight.levels}.integers"
        if name not in self._constants:
            levels = numpy_helper.to_array(self._constants[weight.levels]).astype(np.float32)
            along = [-1 if index == weight.axis else 1 for index in range(levels.ndim)]
            zero = weight.zero_point.astype(np.float32)
            self._constant(name, levels - (zero.reshape(along) if zero.ndim else zero))
        return name

    def _float_bias(
        self, name: str, node: onnx.NodeProto, rank: int
    ) -> tuple[list[onnx.NodeProto], str]:
        """Return the bias as float32, in the shape that an Add takes."""
        nodes: list[onnx.NodeProto] = []
        tensor = self._constants.get(name)
        levels, grid = self._levels(name), self._grid(name)
        if levels is not None and grid is not None:
            value = levels * grid.scale
        elif tensor is not None:
            value = numpy_helper.to_array(tensor)
        else:  # made by other nodes: as it is
            wide, shaped = f"{node.output[0]}.bias", f"{node.output[0]}.bias_shaped"
            nodes.append(_node("Cast", [name], wide, to=TensorProto.FLOAT))
            if node.op_type == "Gemm":
                return nodes, wide
            axes = self._constant(f"{node.output[0]}.axes", np.arange(1, rank - 1))
            nodes.append(_node("Unsqueeze", [wide, axes], shaped))
            return nodes, shaped
        shaped_value = np.asarray(value, np.float32)
        if shaped_value.ndim == 1:
            shaped_value = _broadcast(shaped_value, node, rank)
        return nodes, self._constant(f"{node.output[0]}.bias", shaped_value)

    def _constant(self, name: str, value: np.ndarray) -> str:
        self._graph.initializer.append(numpy_helper.from_array(np.asarray(value), name))
        self._constants[name] = self._graph.initializer[-1]
        return name


def _output_axis(node: onnx.NodeProto, rank: int) -> int:
    """Return the axis of the output channels of a layer's weights; -1 where there is none."""
    attributes = {a.name: a.i for a in node.attribute}
    if node.op_type == "Conv":
        return 0
    if node.op_type == "ConvTranspose":
        return 1 if attributes.get("group", 1) == 1 else -1
    if node.op_type == "Gemm":
        return 0 if attributes.get("transB") else 1
    return rank - 1


def _broadcast(values: np.ndarray, node: onnx.NodeProto, rank: int) -> np.ndarray:
    """Return values of output channels in the shape that broadcasts over a layer's result."""
    if values.ndim == 0 or node.op_type in ("Gemm", "MatMul"):
        return values
    return values.reshape(-1, *[1] * (rank - 2))


def _node(kind: str, inputs: list[str], output: str, **attributes: Any) -> onnx.NodeProto:
    return helper.make_node(kind, inputs, [output], output, **attributes)


def _read(nodes: list[onnx.NodeProto], graph: onnx.GraphProto) -> list[onnx.NodeProto]:
    """Return the nodes without DequantizeLinears that nothing reads any more."""
    read = {name for node in nodes for name in node.input} | {info.name for info in graph.output}
    read |= {
        name
        for node in nodes
        for attribute in node.attribute
        for inner in attribute.g.node
        for name in inner.input
    }
    return [n for n in nodes if n.op_type != "DequantizeLinear" or set(n.output) & read]
