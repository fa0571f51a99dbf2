"""A digest of a graph, which tells whose calibration a recipe holds.

It covers what activations depend on: opsets, nodes with their attributes and subgraphs, constants,
and the local functions that nodes of domain `maskrt` run as. It leaves out what changes no number:
the order of attributes and of functions, how a tensor's elements are stored, documentation.
"""

import hashlib
from collections.abc import Iterable
from typing import Protocol

import onnx
from onnx import AttributeProto, TensorProto, numpy_helper

__all__ = ["fingerprint"]


class _Digest(Protocol):
    def update(self, data: bytes, /) -> None: ...


def fingerprint(model: onnx.ModelProto) -> str:
    """Return the digest of `model`, 16 hexadecimal digits."""
    digest = hashlib.sha256()
    _add_opsets(digest, model.opset_import)
    _add_body(digest, model.graph)
    for function in sorted(model.functions, key=lambda f: (f.domain, f.name, f.overload)):
        _add_function(digest, function)
    return digest.hexdigest()[:16]


def _add_function(digest: _Digest, function: onnx.FunctionProto) -> None:
    _add_words(digest, "function", function.domain, function.name, function.overload)
    _add_words(digest, *function.input, "->", *function.output, "with", *sorted(function.attribute))
    _add_attributes(digest, function.attribute_proto)
    _add_opsets(digest, function.opset_import)
    _add_nodes(digest, function.node)


def _add_opsets(digest: _Digest, opsets: Iterable[onnx.OperatorSetIdProto]) -> None:
    used = sorted({(opset.domain or "ai.onnx", opset.version) for opset in opsets})
    _add_words(digest, "opsets", *(f"{domain} {version}" for domain, version in used))


def _add_subgraph(digest: _Digest, graph: onnx.GraphProto) -> None:
    inputs, outputs = (v.name for v in graph.input), (v.name for v in graph.output)
    _add_words(digest, "graph", *inputs, "->", *outputs)
    _add_body(digest, graph)


def _add_body(digest: _Digest, graph: onnx.GraphProto) -> None:
    _add_nodes(digest, graph.node)
    for tensor in graph.initializer:
        _add_tensor(digest, tensor)
    for sparse in graph.sparse_initializer:
        _add_bytes(digest, sparse.SerializeToString(deterministic=True))


def _add_nodes(digest: _Digest, nodes: Iterable[onnx.NodeProto]) -> None:
    for node in nodes:
        _add_words(digest, "node", node.domain, node.op_type, node.overload, node.name)
        _add_words(digest, *node.input, "->", *node.output)
        _add_attributes(digest, node.attribute)


def _add_attributes(digest: _Digest, attributes: Iterable[AttributeProto]) -> None:
    for item in sorted(attributes, key=lambda item: item.name):
        rest = AttributeProto()
        rest.CopyFrom(item)
        for name in ("t", "tensors", "g", "graphs", "doc_string"):
            rest.ClearField(name)
        _add_bytes(digest, rest.SerializeToString(deterministic=True))
        for tensor in (*([item.t] if item.HasField("t") else []), *item.tensors):
            _add_tensor(digest, tensor)
        for graph in (*([item.g] if item.HasField("g") else []), *item.graphs):
            _add_subgraph(digest, graph)


def _add_tensor(digest: _Digest, tensor: TensorProto) -> None:
    _add_words(digest, "tensor", tensor.name, f"{tensor.data_type} {list(tensor.dims)}")
    if tensor.HasField("raw_data"):
        _add_bytes(digest, tensor.raw_data)
    elif tensor.data_type == TensorProto.STRING or tensor.external_data:
        _add_bytes(digest, tensor.SerializeToString(deterministic=True))
    else:
        _add_bytes(digest, numpy_helper.from_array(numpy_helper.to_array(tensor)).raw_data)


def _add_words(digest: _Digest, *words: str) -> None:
    _add_bytes(digest, b"".join(b"%d:%s" % (len(w.encode()), w.encode()) for w in words))


def _add_bytes(digest: _Digest, data: bytes) -> None:
    """Add `data` behind its length, so that no two sequences run together to the same bytes."""
    digest.update(b"%d " % len(data))
    digest.update(data)
