"""Which layers of an INT8 recipe are INT8 in TensorRT-RTX: those that gain by its own kernels.

What its convolutions and GEMMs write was read out of plans of TensorRT-RTX 1.7:

* With a scale for each output channel they write float, and scale, bias, activation function and
  rounding are a further kernel. With one scale for all of a weight a convolution writes FP16, bias
  and activation function inside. So the weights get one scale each.
* Neither writes INT8. What rounds its data is a kernel, shared by all its readers, that reads FP16
  and writes INT8; behind RoIAlign, whose kernel is generated, it is a part of that.
* A GEMM in INT8 leaves bias and activation function to a further kernel.

With a roofline of the machine (`cost.py`), a layer in INT8 costs

    t8 = launch + max(operations / peak8, (weights + data + 2 · result) / bandwidth)
         (+ launch + 4 · result / bandwidth for a GEMM),

and in FP16 what that file says. The layers that read one tensor are INT8 if those of them that gain
gain more than the tensor's rounding costs. Those that move fewer bytes than FP16 are taken first,
then the others in order of seconds gained by the byte, as long as all together move no more bytes
than FP16 would. So the modelled time never is above FP16's, and the bytes are not either.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

import onnx

from ..core import Precision
from ..core.operator_names import operator_of
from .cost import Machine, Work, layer_work
from .graph import GraphIndex, is_standard
from .improved import improved
from .layers import Layer
from .placement import place
from .recipe import PER_TENSOR, LayerChoice, Recipe

__all__ = ["suit_tensorrt_rtx"]

_MOVES = ("Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")
_GEMMS = ("Gemm", "MatMul")
_NO_GAIN = "INT8 gains less than its rounding costs in TensorRT-RTX"


@dataclass(frozen=True)
class _Change:
    """What it changes to compute some readers of one tensor in INT8 instead of FP16."""

    layers: tuple[str, ...]
    seconds: float  # gained
    bytes: float  # moved in addition


def suit_tensorrt_rtx(model: onnx.ModelProto, recipe: Recipe, machine: Machine) -> Recipe:
    """Return `recipe` with INT8 where it pays in TensorRT-RTX, and FP16 for the rest.

    Args:
        model: the canonical FP32 graph.
        recipe: of any precision; one without INT8 layers is returned as it is.
        machine: what the engine is to run on.
    """
    narrow = set(recipe.narrow_layers())
    if not narrow:
        return recipe
    graph = GraphIndex(improved(model, recipe))
    found = [layer for layer in place(graph.model).layers if layer.name in narrow]
    kept = set(_chosen(_changes(graph, found, machine)))
    layers = {name: _choice(choice, name in kept) for name, choice in recipe.layers.items()}
    return replace(recipe, layers=layers, rest=Precision.FP16, weight_scales=PER_TENSOR)


def _choice(choice: LayerChoice, kept: bool) -> LayerChoice:
    """Return FP16 instead of INT8 that is not kept, and of FP32 that only INT8 was refused for."""
    if kept or Precision.FP16 in choice.refuses:
        return (
            choice
            if kept or choice.precision is not Precision.INT8
            else replace(choice, precision=Precision.FP32, reason=choice.refuses[Precision.FP16])
        )
    if choice.precision is Precision.INT8:
        return replace(choice, precision=Precision.FP16, reason=_NO_GAIN)
    if choice.reason == choice.refuses.get(Precision.INT8):
        return replace(choice, precision=Precision.FP16)
    return choice


def _chosen(changes: Iterable[_Change]) -> list[str]:
    """Return the layers of the changes that pay, within the bytes of FP16."""
    paying = [change for change in changes if change.seconds > 0]
    paying.sort(key=lambda change: change.seconds / max(change.bytes, 1.0), reverse=True)
    budget = 0.0
    names: list[str] = []
    for change in sorted(paying, key=lambda change: change.bytes > 0):
        if change.bytes <= 0 or budget + change.bytes <= 0:
            budget += change.bytes
            names += change.layers
    return names


def _changes(graph: GraphIndex, layers: list[Layer], machine: Machine) -> list[_Change]:
    by_data: dict[str, list[Layer]] = {}
    for layer in layers:
        by_data.setdefault(layer.data, []).append(layer)
    return [_change(graph, data, readers, machine) for data, readers in by_data.items()]


def _change(graph: GraphIndex, data: str, readers: list[Layer], machine: Machine) -> _Change:
    """Return what INT8 changes for those readers of `data` that gain by it."""
    works = {layer.name: layer_work(graph, layer) for layer in readers}
    gains = {layer.name: _gain(works[layer.name], layer, machine) for layer in readers}
    gaining = [layer for layer in readers if gains[layer.name] > 0]
    if not gaining:
        return _Change((), 0.0, 0.0)
    moved = sum(_bytes_more(works[layer.name], layer) for layer in gaining)
    elements = works[gaining[0].name].data
    alone = len(gaining) == len(_readers(graph, data))
    if _is_made_by_roialign(graph, data):
        rounding, launches = (-elements if alone else elements), 0
    else:
        rounding, launches = 3 * elements, 1
    seconds = sum(gains[layer.name] for layer in gaining)
    seconds -= launches * machine.launch + rounding / machine.bandwidth
    return _Change(tuple(layer.name for layer in gaining), seconds, moved + rounding)


def _gain(work: Work, layer: Layer, machine: Machine) -> float:
    """Return the seconds that INT8 saves in the layer itself, rounding of its data aside."""
    half = 2 * (work.weight + work.data + work.result)
    int8 = work.weight + work.data + 2 * work.result
    peaks = machine.peaks
    before = max(work.operations / peaks[Precision.FP16], half / machine.bandwidth)
    after = max(work.operations / peaks[Precision.INT8], int8 / machine.bandwidth)
    if layer.op_type in _GEMMS:
        after += machine.launch + 4 * work.result / machine.bandwidth
    return before - after


def _bytes_more(work: Work, layer: Layer) -> int:
    behind = 4 * work.result if layer.op_type in _GEMMS else 0
    return behind - work.weight - work.data


def _readers(graph: GraphIndex, data: str) -> list[onnx.NodeProto]:
    return graph.consumers.get(data, [])


def _is_made_by_roialign(graph: GraphIndex, name: str) -> bool:
    """Whether `name` is what a RoIAlign pooled, moved at most, and nothing else reads it before."""
    producer = graph.producers.get(name)
    while producer is not None and is_standard(producer, *_MOVES):
        if graph.only_consumer(producer.input[0]) is None:
            return False
        producer = graph.producers.get(producer.input[0])
    return producer is not None and operator_of(producer.op_type) == "MultilevelRoIAlign"
