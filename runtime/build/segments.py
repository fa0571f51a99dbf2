"""The segment check: everything of a graph but its plugins, through a real TensorRT parser.

A graph with plugin nodes can be parsed only where the plugins are registered, on a device. What
lies between them is standard ONNX. So the plugin nodes are cut out, what they read becomes an
output and what they write an input, the rest falls into connected segments, and TensorRT-RTX
parses, types strongly and builds each of them, on any machine.

What remains untested then is the plugins (whose kernels the host runs) and what full TensorRT does
otherwise than TensorRT-RTX.
"""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import onnx
from onnx import helper

from ...core import Progress, Target, UnsupportedTargetError, silent
from ...plugins import DOMAIN
from ...plugins.builtin import PLUGIN_DOMAIN
from . import rtx
from .lowered import nodes_within

__all__ = ["SegmentReport", "check_segments", "cut_segments"]

_PLUGINS = (DOMAIN, PLUGIN_DOMAIN)


@dataclass(frozen=True)
class SegmentReport:
    """One segment that was built.

    Attributes:
        first: name of its first node.
        last: name of its last node.
        nodes: how many it has.
        seconds: its build took.
        bytes: of its engine.
        peak_memory_bytes: of the build, on this machine; None where the system does not say.
    """

    first: str
    last: str
    nodes: int
    seconds: float
    bytes: int
    peak_memory_bytes: int | None


def check_segments(
    model: onnx.ModelProto, target: Target, *, progress: Progress = silent
) -> list[SegmentReport]:
    """Build each segment of a graph with plugin nodes, ours or TensorRT 8's.

    Args:
        model: rendered graph with plugin nodes, and types and shapes of what they read and write.
        target: what the graph is for; named in errors.
        progress: told how many segments are done.

    Raises:
        MissingDependencyError: tensorrt-rtx is not installed.
        UnsupportedTargetError: a segment does not parse or build, or a boundary has no static type.
    """
    segments = cut_segments(model)
    reports = []
    stage = f"check segments {target.name}"
    progress(stage, 0, len(segments))
    for segment in segments:
        started = time.perf_counter()
        built = rtx.build_standard(segment, target)
        first, last = segment.graph.node[0].name, segment.graph.node[-1].name
        reports.append(
            SegmentReport(
                first, last, len(segment.graph.node), round(time.perf_counter() - started, 2),
                len(built.plan), built.report["peak_memory_bytes"],
            )
        )  # fmt: skip
        progress(stage, len(reports), len(segments))
    return reports


def cut_segments(model: onnx.ModelProto) -> list[onnx.ModelProto]:
    """Return the connected parts of `model` without its plugin nodes, in graph order.

    Raises:
        UnsupportedTargetError: a tensor at a boundary has no static type.
    """
    graph = model.graph
    plugins = [node for node in graph.node if node.domain in _PLUGINS]
    rest = [node for node in graph.node if node.domain not in _PLUGINS]
    constants = {n.output[0]: n for n in rest if n.op_type == "Constant"}
    working = [node for node in rest if node.op_type != "Constant"]
    asked = {name for node in plugins for name in node.input}
    asked |= {info.name for info in graph.output}
    known = _types(model)
    parts = [_extract(model, nodes, constants, asked, known) for nodes in _connected(working)]
    return [part for part in parts if part.graph.output]  # what nobody asks for is not built


def _connected(nodes: list[onnx.NodeProto]) -> list[list[onnx.NodeProto]]:
    """Group nodes that are connected through tensors that one of them makes."""
    producer = {name: index for index, node in enumerate(nodes) for name in node.output if name}
    parent = list(range(len(nodes)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    for index, node in enumerate(nodes):
        for name in _reads(node):
            if name in producer:
                parent[root(index)] = root(producer[name])
    groups: dict[int, list[onnx.NodeProto]] = {}
    for index, node in enumerate(nodes):
        groups.setdefault(root(index), []).append(node)
    return list(groups.values())


def _reads(node: onnx.NodeProto) -> Iterator[str]:
    """Yield what a node reads, the tensors that its subgraphs capture included."""
    holder = helper.make_graph([node], "holder", [], [])
    made = {name for inner in nodes_within(holder) for name in inner.output}
    for inner in (node, *nodes_within(holder)):
        yield from (name for name in inner.input if name and (inner is node or name not in made))


def _extract(
    model: onnx.ModelProto,
    nodes: list[onnx.NodeProto],
    constants: Mapping[str, onnx.NodeProto],
    asked: set[str],
    known: Mapping[str, Any],
) -> onnx.ModelProto:
    made = dict.fromkeys(name for node in nodes for name in node.output if name)
    read = dict.fromkeys(name for node in nodes for name in _reads(node))
    weights = {t.name: t for t in model.graph.initializer}
    own = [constants[name] for name in read if name in constants]
    needed = [n for n in read if n not in made and n not in weights and n not in constants]
    inner = {name for node in nodes for name in _inner_names(node)}
    inputs = [_info(name, known) for name in needed if name not in inner]
    outputs = [_info(name, known) for name in made if name in asked]
    graph = helper.make_graph(
        [*own, *nodes], "segment", inputs, outputs, [weights[n] for n in read if n in weights]
    )
    opsets = [o for o in model.opset_import if o.domain not in _PLUGINS]
    return helper.make_model(graph, opset_imports=opsets, ir_version=model.ir_version)


def _inner_names(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the inputs of a node's subgraphs, which no tensor of the outer graph stands for."""
    for attribute in node.attribute:
        for subgraph in (attribute.g, *attribute.graphs):
            yield from (info.name for info in subgraph.input)


def _types(model: onnx.ModelProto) -> dict[str, Any]:
    """Return the type of every tensor that is stated or can be inferred."""
    standard = onnx.ModelProto()
    standard.CopyFrom(model)
    inferred = onnx.shape_inference.infer_shapes(standard, data_prop=True)
    graph = inferred.graph
    return {info.name: info for info in (*graph.value_info, *graph.input, *graph.output)}


def _info(name: str, known: Mapping[str, Any]) -> onnx.ValueInfoProto:
    info = known.get(name)
    kind = info.type.tensor_type if info is not None else None
    if (
        info is None
        or kind is None
        or not (kind.HasField("shape") and all(dim.HasField("dim_value") for dim in kind.shape.dim))
    ):
        raise UnsupportedTargetError(
            f"tensor {name!r} between a plugin and the rest of the graph has no static type: "
            "export the model again with a fixed input size."
        )
    return info
