"""What it takes to launch an operator's kernels: stages, grids, arguments, scratch tensors.

An operator's `launch.py` returns one `LaunchPlan` for given attributes and input tensors, and every
adapter (TensorRT `IPluginV3`, TensorRT AOT, PyTorch on CUDA, the host) launches exactly that. A
stage is one kernel, called with

    inputs…, int32 extras…, outputs…        (pointers, integers, pointers)

which is the order in which TensorRT's AOT plugins pass arguments. An operator of several kernels is
a chain of stages whose intermediate results are named tensors: scratch memory for `IPluginV3`,
further outputs of a plugin of its own for AOT.

Sizes may be integers or symbolic expressions of TensorRT's shapes, so a plan only adds, subtracts,
multiplies and floor-divides them, and calls `ceil_div` and `at_least_one`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..core import UnsupportedTargetError

__all__ = [
    "C_TYPES",
    "Dim",
    "LaunchPlan",
    "Stage",
    "Tensor",
    "at_least_one",
    "c_float",
    "c_floats",
    "ceil_div",
    "require_at_most",
]

Dim = Any  # int, or an expression with the same operators and a method `at_least_one()`

C_TYPES = {
    "float32": "float",
    "float16": "half_t",
    "int32": "int",
    "int8": "signed char",
    "uint8": "unsigned char",
}


@dataclass(frozen=True)
class Tensor:
    """Shape and element type (a NumPy name) of a kernel's input, output or scratch memory."""

    shape: tuple[Dim, ...]
    dtype: str

    @property
    def size(self) -> Dim:
        """Number of elements."""
        total: Dim = 1
        for extent in self.shape:
            total = extent if isinstance(total, int) and total == 1 else total * extent
        return total


@dataclass(frozen=True)
class Stage:
    """One kernel launch.

    Attributes:
        entry: the kernel's `extern "C"` name.
        inputs: names of the tensors that it reads, as its first arguments.
        extras: int32 arguments that follow.
        outputs: names of the tensors that it writes, as its last arguments.
        grid: blocks along x, y, z; each at least 1 even for empty tensors.
        block: threads a block, along x.
    """

    entry: str
    inputs: tuple[str, ...]
    extras: tuple[Dim, ...]
    outputs: tuple[str, ...]
    grid: tuple[Dim, Dim, Dim]
    block: int


@dataclass(frozen=True)
class LaunchPlan:
    """The stages of one operator.

    Attributes:
        source: the `.cu` file.
        defines: macros that bake attributes and types into the kernel.
        inputs: names of the operator's inputs, in order.
        outputs: names of the operator's outputs, in order.
        tensors: every tensor by name; those in neither list are scratch memory.
        stages: the kernels, in order.
    """

    source: Path
    defines: Mapping[str, str]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    tensors: Mapping[str, Tensor]
    stages: tuple[Stage, ...] = field(default=())

    @property
    def scratch(self) -> tuple[str, ...]:
        """Names of the tensors that are neither inputs nor outputs, in order of first use."""
        ends = {*self.inputs, *self.outputs}
        return tuple(
            dict.fromkeys(n for stage in self.stages for n in stage.outputs if n not in ends)
        )

    @property
    def working_stages(self) -> tuple[Stage, ...]:
        """The stages that write anything, of a plan whose sizes are integers.

        A grid is never empty, so a kernel without outputs must not be launched: its first block
        would write what is not there.
        """
        return tuple(
            stage for stage in self.stages if any(self.tensors[n].size for n in stage.outputs)
        )

    def signature(self, stage: Stage) -> str:
        """Return the C++ parameter types that the stage's kernel must have, comma separated."""
        reads = [f"{C_TYPES[self.tensors[n].dtype]} const*" for n in stage.inputs]
        writes = [f"{C_TYPES[self.tensors[n].dtype]}*" for n in stage.outputs]
        return ", ".join([*reads, *["int"] * len(stage.extras), *writes])


def ceil_div(numerator: Dim, denominator: int) -> Dim:
    """Return `numerator / denominator` rounded up."""
    return (numerator + (denominator - 1)) // denominator


def at_least_one(dim: Dim) -> Dim:
    """Return `dim`, or 1 where it is 0: a grid of no blocks is a launch error."""
    return max(dim, 1) if isinstance(dim, int) else dim.at_least_one()


def c_float(value: float) -> str:
    """Return a C literal that is exactly the float32 nearest to `value`."""
    return f"{float(np.float32(value)).hex()}f"


def c_floats(values: Sequence[float]) -> str:
    """Return a C initialiser list, without braces."""
    return ",".join(c_float(value) for value in values)


def require_at_most(limit: int, dim: Dim, what: str, remedy: str) -> None:
    """Raise `UnsupportedTargetError` if a size is known and above what a kernel is made for."""
    if isinstance(dim, int) and dim > limit:
        raise UnsupportedTargetError(
            f"the kernel takes at most {limit} {what}, and the graph has {dim}: {remedy}."
        )
