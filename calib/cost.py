"""What a layer costs at a precision on a machine: a roofline of operations and bytes, and launches.

    t(layer, p) = max(2 * MACs / peak(p),  bytes(p) / bandwidth) + launch

It says which layers are worth quantising on a device that is not here, and where INT8 is no use. It
is no prediction of milliseconds: it knows no kernel, no cache and no clock.

The peaks are of the GPU alone, dense, rounded from NVIDIA's data sheets (which mostly state them
with sparsity, and with the DLAs); FP32 is through TF32 from Ampere on. A launch is what a small
kernel takes at least.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

import onnx

from ..core import Precision, Target
from .graph import GraphIndex
from .layers import Layer
from .placement import place
from .recipe import Recipe

__all__ = [
    "MACHINES",
    "Machine",
    "Work",
    "layer_seconds",
    "layer_work",
    "machine_of",
    "recipe_seconds",
]

BITS = {
    Precision.FP32: 32, Precision.FP16: 16, Precision.BF16: 16, Precision.INT8: 8, Precision.FP8: 8
}  # fmt: skip


@dataclass(frozen=True)
class Machine:
    """What a roofline needs of a GPU.

    Attributes:
        name: which module or card the numbers are of.
        peaks: precision -> operations a second; a multiply-accumulate is two.
        bandwidth: bytes a second, of memory.
        launch: seconds that a kernel takes at least.
    """

    name: str
    peaks: Mapping[Precision, float]
    bandwidth: float
    launch: float = 4e-6


def _machine(name: str, int8: float, fp16: float, fp32: float, gb_s: float) -> Machine:
    """Take peaks in 10^12 operations a second."""
    peaks = {
        Precision.INT8: int8, Precision.FP8: int8, Precision.FP16: fp16, Precision.BF16: fp16,
        Precision.FP32: fp32,
    }  # fmt: skip
    return Machine(name, {p: value * 1e12 for p, value in peaks.items()}, gb_s * 1e9)


MACHINES = {
    "orin-nano": _machine("Jetson Orin Nano 4 GB", 10, 5, 2.5, 34),
    "orin-nx": _machine("Jetson Orin NX 8 GB", 25, 12.5, 6.25, 102.4),
    "agx-orin": _machine("Jetson AGX Orin 32 GB", 54, 27, 13.5, 204.8),
    "thor": _machine("Jetson T4000", 300, 150, 75, 273),
    "xavier": _machine("Jetson Xavier NX 8 GB", 12.3, 6.1, 0.8, 51.2),
    "gpu": _machine("a GeForce RTX 4060", 121, 60, 15, 272),
}


def machine_of(target: Target) -> Machine:
    """Return the smallest module of a Jetson; a small desktop GPU for what has many."""
    return MACHINES.get(target.name, MACHINES["gpu"])


def layer_seconds(
    model: onnx.ModelProto, machine: Machine = MACHINES["orin-nx"]
) -> dict[str, dict[Precision, float]]:
    """Return layer name -> precision -> modelled seconds, for every layer of a static graph."""
    graph = GraphIndex(model)
    return {layer.name: _seconds(graph, layer, machine) for layer in place(model).layers}


def recipe_seconds(recipe: Recipe, seconds: Mapping[str, Mapping[Precision, float]]) -> float:
    """Return the modelled seconds of all layers together."""
    return sum(seconds[name][choice.precision] for name, choice in recipe.layers.items())


@dataclass(frozen=True)
class Work:
    """What a layer has to do: operations, and elements of weights, data and result."""

    operations: int
    weight: int
    data: int
    result: int


def layer_work(graph: GraphIndex, layer: Layer) -> Work:
    """Return the work of one layer of a static graph."""
    weight = math.prod(graph.constants[layer.weight].dims)
    data, result = (math.prod(graph.shape(name)) for name in (layer.data, layer.output))
    return Work(2 * _multiplications(graph, layer, weight), weight, data, result)


def _seconds(graph: GraphIndex, layer: Layer, machine: Machine) -> dict[Precision, float]:
    work = layer_work(graph, layer)
    elements = work.weight + work.data + work.result
    return {
        precision: machine.launch
        + max(work.operations / machine.peaks[precision], elements * bits / 8 / machine.bandwidth)
        for precision, bits in BITS.items()
    }


def _multiplications(graph: GraphIndex, layer: Layer, weight: int) -> int:
    """Return the multiply-accumulates: each weight meets each position of the map that it scans."""
    scanned = layer.data if layer.op_type == "ConvTranspose" else layer.output
    shape = graph.shape(scanned)
    if layer.op_type in ("Conv", "ConvTranspose"):
        return weight * shape[0] * math.prod(shape[2:])
    return weight * math.prod(shape[:-1])
