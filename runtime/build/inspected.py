"""What each layer of a TensorRT engine computes in, from the engine inspector's JSON.

With `ProfilingVerbosity.DETAILED` the inspector lists every layer with the types of its tensors,
and in `Metadata` the ONNX nodes that it came from:

    {"Name": "...", "LayerType": "CaskConvolution", "Inputs": [{"Format/Datatype": "Int8 ..."}],
     "Metadata": "[ONNX Layer: /conv1/Conv]\\u001e[ONNX Layer: /relu1/Relu]..."}

A layer computes in the widest type that a convolution or matrix product of the engine made of its
node reads as data. Other entries bear the node's name too (a bias or activation that was not fused,
reformatting, a generated kernel that holds one of them) and decide nothing: where no convolution or
matrix product names a node, its precision stays unknown.

Names in `Metadata` are kept apart by the control characters 0x1e and 0x1f, which some versions
write as they are, and JSON forbids.

Source: NVIDIA TensorRT, IEngineInspector; trtexec's exported layer information.
"""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ...core import Precision
from .engine import Found
from .layers import WIDTH_BITS

__all__ = ["inspected_layers", "inspected_precisions"]

_NODE = re.compile(r"\[ONNX Layer: ([^\]\x1e\x1f]+)\]")
_TYPES = (
    ("int8", Precision.INT8),
    ("fp8", Precision.FP8),
    ("bf16", Precision.BF16),
    ("fp16", Precision.FP16),
    ("half", Precision.FP16),
    ("fp32", Precision.FP32),
    ("float", Precision.FP32),
)
_PRODUCT = re.compile(r"conv(?!er)|gemm|mat(rix)?_?mul|fully", re.IGNORECASE)


def inspected_layers(text: str) -> list[Any]:
    """Return the entries of the inspector's JSON, control characters in it or not.

    A report of another form has none, and tells no precision; the engine itself is whole.
    """
    try:
        found = json.loads(text, strict=False)
    except (ValueError, RecursionError):
        return []
    layers = found.get("Layers") if isinstance(found, dict) else None
    return layers if isinstance(layers, list) else []


def inspected_precisions(layers: Sequence[Mapping[str, Any]], names: Sequence[str]) -> Found:
    """Return what each layer of `names` computes in; None where the report does not tell.

    Args:
        layers: the entries of the report's `Layers`.
        names: layers, by the names of their ONNX nodes.
    """
    found: Found = dict.fromkeys(names)
    for layer in layers:
        if not isinstance(layer, Mapping) or not _PRODUCT.search(str(layer.get("LayerType"))):
            continue
        computed = _type_of(layer)
        for name in _nodes_of(layer):
            if name in found and computed is not None:
                known = found[name] or computed
                found[name] = max(known, computed, key=WIDTH_BITS.__getitem__)
    return found


def _nodes_of(layer: Mapping[str, Any]) -> list[str]:
    return _NODE.findall(str(layer.get("Metadata", "")))


def _type_of(layer: Mapping[str, Any]) -> Precision | None:
    """Return the type of the layer's data, its first input."""
    inputs = layer.get("Inputs")
    first = inputs[0] if isinstance(inputs, list) and inputs else {}
    if not isinstance(first, Mapping):
        return None
    text = str(first.get("Format/Datatype") or first.get("Datatype") or "").lower()
    return next((precision for word, precision in _TYPES if word in text), None)
