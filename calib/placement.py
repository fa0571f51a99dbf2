"""Which tensors of a graph are quantised, and which layers may not be: rules on structure alone.

The rules, with TensorRT's reasons (NVIDIA, Working with Quantized Types, Q/DQ placement):

1. Inputs of Conv, ConvTranspose, Gemm and MatMul-by-weights, not their outputs: the runtime fuses
   the next Q into the layer. Weights have a scale for each output channel, see `layers`.
2. One Q for each tensor, whoever reads it.
3. A residual `Add` takes its skip branch quantised; its other branch comes straight out of a
   layer's accumulators. The skip branch is the one that is not a layer's own output, or else the
   one with fewer layers behind it.
4. MaxPool, nearest Resize, Concat and every operator that only moves data commute with Q: their
   inputs and outputs share one scale. So an FPN's upsampling is quantised at its input.
5. A layer with fewer than 16 input channels stays wide: it fills no INT8 tile, and it is the one
   that reads the picture.
6. Nodes of domain `maskrt`, box decoding, softmax and NMS are no layers: they are left alone. So
   RoIAlign reads floats: it interpolates, and its result is quantised where a head reads it.
7. Last layers are like others. What they make is read by no layer, so it is not quantised (by
   TensorRT; ONNX Runtime's integer convolutions write eight bits).
8. But where surgery says which tensors are a network's answers (`ANSWERS`), the layers just before
   them stay wide: an answer holds boxes, scores and coefficients side by side, whose sizes differ
   by orders of magnitude, and no single scale fits them; and a query is chosen by its score alone.
   Attention's own products, LayerNorm, softmax and GELU multiply by no constant matrix: they are
   no layers.
"""

from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import onnx

from ..core import InputError, Precision, UsageError
from .graph import GraphIndex, attribute, is_standard
from .layers import ACTIVATIONS, Layer, find_layers, fused_result
from .scales import LARGEST_FP16, SMALLEST_NORMAL_FP16

__all__ = [
    "ANSWERS",
    "Placement",
    "ResidualAdd",
    "check_method_fits",
    "moves_data",
    "place",
    "rearranged_from",
]

ANSWERS = "maskrt.answers"  # key of a model's metadata: names of tensors, with commas between

_FEWEST_CHANNELS = 16
_MOVERS = (
    "MaxPool", "Reshape", "Flatten", "Transpose", "Squeeze", "Unsqueeze", "Identity", "Slice",
    "Split", "Gather", "DepthToSpace", "SpaceToDepth",
)  # fmt: skip


@dataclass(frozen=True)
class ResidualAdd:
    """An element-wise sum of two feature maps.

    Attributes:
        output: the Add's own output.
        result: the output after a fused activation function.
        skip: the input that is quantised for TensorRT.
        main: the input that a layer makes just before the sum.
    """

    output: str
    result: str
    skip: str
    main: str


@dataclass(frozen=True)
class Placement:
    """What `place` found.

    Attributes:
        layers: all layers, in topological order.
        adds: all residual sums, in topological order.
        groups: sets of tensors that share one scale; each tensor is in one group at most.
        refusals: layer name -> precision -> why the layer may not have it.
        fixed: constants that a layer reads as its data.
    """

    layers: tuple[Layer, ...]
    adds: tuple[ResidualAdd, ...]
    groups: tuple[tuple[str, ...], ...] = ()
    refusals: dict[str, dict[Precision, str]] = field(default_factory=dict)
    fixed: frozenset[str] = frozenset()

    @cached_property
    def tensors(self) -> tuple[str, ...]:
        """Every tensor that some rendering quantises: the ones to observe, in graph order."""
        return tuple(name for name in _tensors(self.layers, self.adds) if name not in self.fixed)

    def group(self, tensor: str) -> tuple[str, ...]:
        """Return the tensors that share `tensor`'s scale, itself included."""
        return next((group for group in self.groups if tensor in group), (tensor,))


def place(model: onnx.ModelProto) -> Placement:
    """Find the layers, residual sums and shared scales of `model`, and what each layer may not be.

    Raises:
        InputError: two layers have one name, or a weight is NaN or infinite.
    """
    graph = GraphIndex(model)
    layers = tuple(find_layers(graph))
    _check_names(layers)
    adds = tuple(_find_adds(graph, layers))
    groups = _find_groups(graph, _tensors(layers, adds))
    refusals = {layer.name: _refusals(graph, layer) for layer in layers}
    for layer in _answering(model, graph, layers):
        refusals[layer.name].setdefault(
            Precision.INT8,
            "it makes the network's answers: boxes, scores and coefficients, which one scale of "
            "eight bits does not fit",
        )
    fixed = frozenset(layer.data for layer in layers) & graph.constants.keys()
    refused = {name: why for name, why in refusals.items() if why}
    return Placement(layers, adds, groups, refused, fixed)


def moves_data(node: onnx.NodeProto) -> bool:
    """Whether `node` only moves or selects numbers, so that it commutes with quantisation."""
    return is_standard(node, *_MOVERS) or _upsamples(node)


def _upsamples(node: onnx.NodeProto) -> bool:
    return is_standard(node, "Resize") and attribute(node, "mode", "nearest") == "nearest"


def _tensors(layers: tuple[Layer, ...], adds: tuple[ResidualAdd, ...]) -> tuple[str, ...]:
    names = [name for layer in layers for name in (layer.data, layer.result)]
    names += [name for add in adds for name in (add.skip, add.main, add.result)]
    return tuple(dict.fromkeys(names))


def _check_names(layers: tuple[Layer, ...]) -> None:
    seen: set[str] = set()
    for layer in layers:
        if layer.name in seen:
            raise InputError(f"two layers of the graph are named {layer.name}: rename one of them.")
        seen.add(layer.name)


def _refusals(graph: GraphIndex, layer: Layer) -> dict[Precision, str]:
    """Return why the layer may not be INT8 or FP16; nothing for a layer that may be either."""
    weight = graph.array(layer.weight)
    if not np.isfinite(weight).all():
        raise InputError(f"weight {layer.weight} of layer {layer.name} has NaN or infinite values.")
    reasons: dict[Precision, str] = {}
    if layer.input_channels < _FEWEST_CHANNELS:
        reasons[Precision.INT8] = (
            f"{layer.input_channels} input channels, fewer than the {_FEWEST_CHANNELS} of an "
            "INT8 tile"
        )
    elif layer.data in graph.constants or not _plain(graph, layer):
        reasons[Precision.INT8] = "its operator has a form that no INT8 kernel takes"
    largest = float(np.abs(weight).max(initial=0.0))
    if largest > LARGEST_FP16:
        reasons[Precision.FP16] = f"a weight is larger than {LARGEST_FP16:g}"
    elif 0 < largest < SMALLEST_NORMAL_FP16:
        reasons[Precision.FP16] = f"no weight is larger than {largest:g}: FP16 is subnormal there"
    if layer.bias in graph.constants:
        bias = float(np.abs(graph.array(layer.bias)).max(initial=0.0))
        if not bias <= LARGEST_FP16:
            reasons[Precision.FP16] = f"a number of its bias is larger than {LARGEST_FP16:g}"
    return reasons


def check_method_fits(model: onnx.ModelProto, precision: Precision, method: str) -> None:
    """Refuse `entropy` for a network of one pass whose features are SiLU's, as a YOLO's are.

    Most of those numbers lie near zero, and the few large ones are what a confident instance is
    made of. The least information is lost by giving up those: of 13 confident instances of a
    trained YOLOv5s-seg, 5 were lost, with the answers' layers wide.

    Raises:
        UsageError: it is asked for.
    """
    said = any(entry.key == ANSWERS for entry in model.metadata_props)
    if said and precision.is_quantised and method == "entropy" and _has_silu(model):
        raise UsageError(
            "method entropy gives up the few large numbers that a confident instance of such a "
            "network (YOLO, with SiLU behind its convolutions) is made of: use mse, the default, "
            "or minmax."
        )


def _has_silu(model: onnx.ModelProto) -> bool:
    """Whether some node multiplies numbers by their own sigmoid."""
    squashed = {n.output[0]: n.input[0] for n in model.graph.node if n.op_type == "Sigmoid"}
    return any(
        squashed.get(second) == first or squashed.get(first) == second
        for node in model.graph.node
        if node.op_type == "Mul"
        for first, second in [node.input]
    )


def _answering(model: onnx.ModelProto, graph: GraphIndex, layers: tuple[Layer, ...]) -> list[Layer]:
    """Return the layers between which and an answer there is no other layer but a mean."""
    said = next((e.value for e in model.metadata_props if e.key == ANSWERS), "")
    by_output = {layer.output: layer for layer in layers}
    waiting = [name for name in said.split(",") if name]
    seen: set[str] = set(waiting)
    found = []
    while waiting:
        name = waiting.pop()
        if name in by_output:
            found.append(by_output[name])
            if not _reads_softmax(graph, by_output[name]):
                continue  # else it is the mean of a distribution, which is an answer itself
        node = graph.producers.get(name)
        fresh = [n for n in (node.input if node is not None else ()) if n and n not in seen]
        seen.update(fresh)
        waiting += fresh
    return found


def _reads_softmax(graph: GraphIndex, layer: Layer) -> bool:
    """Whether a layer's data are probabilities, rearranged at most."""
    node = graph.producers.get(layer.data)
    while node is not None and moves_data(node):
        node = graph.producers.get(node.input[0])
    return node is not None and is_standard(node, "Softmax")


def _plain(graph: GraphIndex, layer: Layer) -> bool:
    """Whether a Gemm is `data @ weight + bias` without scaling or transposed data."""
    node = graph.producers[layer.output]
    factors = (attribute(node, "alpha", 1.0), attribute(node, "beta", 1.0))
    return factors == (1.0, 1.0) and not attribute(node, "transA", 0)


def _find_adds(graph: GraphIndex, layers: tuple[Layer, ...]) -> list[ResidualAdd]:
    """Return the sums whose two inputs are both features: results of layers or of other sums."""
    made = {name for layer in layers for name in (layer.output, layer.result)}
    depth = _depths(graph, {layer.output for layer in layers})
    features = set(made)
    adds = []
    for node in graph.nodes:
        if is_standard(node, *ACTIVATIONS, "MaxPool") or _upsamples(node):
            features.update(node.output if node.input and node.input[0] in features else ())
        elif is_standard(node, "Add") and set(node.input) <= features:
            features.update(node.output)
            skip, main = _branches(node, made, depth)
            result = fused_result(graph, node.output[0])
            adds.append(ResidualAdd(node.output[0], result, skip, main))
    return adds


def _branches(node: onnx.NodeProto, made: set[str], depth: dict[str, int]) -> tuple[str, str]:
    """Return `(skip, main)` of an Add: `main` comes from a layer, the deeper one if both do."""
    first, second = node.input
    rank = [(name in made, depth[name]) for name in (first, second)]
    return (first, second) if rank[0] < rank[1] else (second, first)


def _depths(graph: GraphIndex, outputs: set[str]) -> dict[str, int]:
    """Return the number of layers on the longest way from the input to each tensor."""
    depth: dict[str, int] = {}
    for node in graph.nodes:
        behind = max((depth.get(name, 0) for name in node.input), default=0)
        for name in node.output:
            depth[name] = behind + (name in outputs)
    return depth


def _find_groups(graph: GraphIndex, tensors: tuple[str, ...]) -> tuple[tuple[str, ...], ...]:
    """Join each quantised tensor with those it is only a rearrangement of."""
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        while leader.setdefault(name, name) != name:
            name = leader[name]
        return name

    for tensor in tensors:
        for source in rearranged_from(graph, tensor):
            leader[find(source)] = find(tensor)
    groups: dict[str, list[str]] = {}
    for tensor in tensors:
        groups.setdefault(find(tensor), []).append(tensor)
    return tuple(tuple(group) for group in groups.values() if len(group) > 1)


def rearranged_from(graph: GraphIndex, tensor: str) -> list[str]:
    """Return the tensors whose numbers `tensor` is made of, as far back as they only move."""
    found: list[str] = []
    waiting = [tensor]
    while waiting:
        node = graph.producers.get(waiting.pop())
        if node is None or not (moves_data(node) or is_standard(node, "Concat")):
            continue
        sources = list(node.input) if node.op_type == "Concat" else [node.input[0]]
        fresh = [name for name in sources if name not in found and name not in graph.constants]
        found += fresh
        waiting += fresh
    return found
