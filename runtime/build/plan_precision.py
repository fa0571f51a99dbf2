"""What each layer of a TensorRT-RTX engine computes in, from the plan's text and the network.

A convolution or GEMM computes in the type of its data and weights, which are its first two inputs.
In TensorRT-RTX an INT8 layer that is not really INT8 stands in the plan as a float convolution,
with a kernel before it that rounds and one that widens the weights: nothing in the network tells.
The other way round a network that is wider than its graph shows in the network alone. So both are
asked, and the wider answer counts.

A GEMM of one row may become a generated kernel. Such a kernel computes in the type of its weights,
unless they are INT8 and it reads no INT8 data: then it widens them, and computes in what it reads.
"""

from ...core import Precision
from .engine import Found
from .layers import WIDTH_BITS
from .plan_text import Argument, Kernel, Plan

__all__ = ["found_precisions"]

_OF_TYPE = {
    "int8": Precision.INT8,
    "half": Precision.FP16,
    "bf16": Precision.BF16,
    "fp8_e4m3": Precision.FP8,
    "float": Precision.FP32,
}
_HEAVY = ("convolution", "gemm")


def found_precisions(plan: Plan | None, names: list[str], network: dict[str, Precision]) -> Found:
    """Return what each layer of `names` computes in.

    Args:
        plan: the engine's program; None where it could not be read, so that all is unknown.
        names: layers, by the names of their ONNX nodes.
        network: layer → type of its input in the strongly typed network.

    Returns:
        name → precision; None where the plan does not tell.
    """
    return {name: _widest(_in_plan(plan, name), network.get(name)) for name in names}


def _widest(plan: Precision | None, network: Precision | None) -> Precision | None:
    """Return the wider answer; without the plan's there is none."""
    if plan is None or network is None:
        return plan
    return max(plan, network, key=WIDTH_BITS.__getitem__)


def _in_plan(plan: Plan | None, name: str) -> Precision | None:
    if plan is None:
        return None
    statements = (*plan.kernels, *plan.bodies)
    heavy = [k for k in statements if k.kind != "runtime_fusion" and k.category in _HEAVY]
    own = [k for k in heavy if k.name == name] or [k for k in heavy if name in k.layers]
    if own:
        found = [_of_operands(kernel.inputs[:2]) for kernel in own]
    else:
        found = [_of_generated(kernel) for kernel in _with_weights(plan.kernels, name)]
    if not found or None in found:
        return None
    return max((f for f in found if f is not None), key=WIDTH_BITS.__getitem__)


def _of_operands(operands: tuple[Argument, ...]) -> Precision | None:
    """Return the wider type of data and weights."""
    types = [_OF_TYPE.get(argument.type or "") for argument in operands]
    known = [t for t in types if t is not None]
    if len(known) < 2:
        return None
    return max(known, key=WIDTH_BITS.__getitem__)


def _with_weights(kernels: tuple[Kernel, ...], name: str) -> list[Kernel]:
    """Return the generated kernel of the layer that reads the most constants: its weights."""
    mine = [k for k in kernels if name in k.layers and _weights(k).constant_bytes]
    return sorted(mine, key=lambda kernel: _weights(kernel).constant_bytes)[-1:]


def _weights(kernel: Kernel) -> Argument:
    return max(kernel.inputs, key=lambda a: a.constant_bytes, default=Argument("", None, 0))


def _of_generated(kernel: Kernel) -> Precision | None:
    weights = _weights(kernel)
    found = _OF_TYPE.get(weights.type or "")
    if found is not Precision.INT8:
        return found
    data = [_OF_TYPE.get(a.type or "") for a in kernel.inputs if not a.constant_bytes]
    if Precision.INT8 in data:
        return Precision.INT8
    return max((d for d in data if d is not None), key=WIDTH_BITS.__getitem__, default=None)
