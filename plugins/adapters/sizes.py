"""Sizes that only TensorRT knows: expressions over dimensions of an operator's inputs.

A launch plan made of `Size`s is made once and read twice: its structure tells which kernels there
are, and `evaluate` turns each of its sizes into TensorRT's own expressions. The operations bear the
names of `tensorrt.DimensionOperation`.

    count = Size.dimension("N")
    ceil_div(count, 32)          # FLOOR_DIV(SUM(N, 31), 32)
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NoReturn

from ...core import UnsupportedTargetError
from ..launch import Dim

__all__ = ["Algebra", "Size", "evaluate"]


@dataclass(frozen=True)
class Size:
    """An extent that is an expression; `DIM` names a dimension, the others have two operands."""

    operation: str
    operands: tuple[Any, ...]

    @classmethod
    def dimension(cls, name: str) -> "Size":
        """Return the dimension that is called `name`."""
        return cls("DIM", (name,))

    def __add__(self, other: Dim) -> "Size":
        """Return the sum."""
        return Size("SUM", (self, other))

    def __radd__(self, other: Dim) -> "Size":
        """Return the sum."""
        return Size("SUM", (other, self))

    def __sub__(self, other: Dim) -> "Size":
        """Return the difference."""
        return Size("SUB", (self, other))

    def __rsub__(self, other: Dim) -> "Size":
        """Return the difference."""
        return Size("SUB", (other, self))

    def __mul__(self, other: Dim) -> "Size":
        """Return the product."""
        return Size("PROD", (self, other))

    def __rmul__(self, other: Dim) -> "Size":
        """Return the product."""
        return Size("PROD", (other, self))

    def __floordiv__(self, other: Dim) -> "Size":
        """Return the quotient, rounded down."""
        return Size("FLOOR_DIV", (self, other))

    def at_least_one(self) -> "Size":
        """Return the size, or 1 where it is 0."""
        return Size("MAX", (self, 1))

    def _refuse(self, *_: Any) -> NoReturn:
        raise UnsupportedTargetError(
            f"{self!r} must be known when the graph is lowered: export the model with fixed sizes."
        )

    # What a plan may not do with a size that is not known yet: decide by it, or write it down.
    __bool__ = __int__ = __index__ = __float__ = __str__ = _refuse
    __lt__ = __le__ = __gt__ = __ge__ = __truediv__ = __rtruediv__ = __mod__ = _refuse


@dataclass(frozen=True)
class Algebra:
    """How to turn a size into something else.

    Attributes:
        constant: from an integer.
        dimension: from a dimension's name.
        apply: from an operation's name and two operands.
    """

    constant: Callable[[int], Any]
    dimension: Callable[[str], Any]
    apply: Callable[[str, Any, Any], Any]


def evaluate(dim: Dim, algebra: Algebra) -> Any:
    """Return what `algebra` makes of a size, which may also be an integer."""
    if not isinstance(dim, Size):
        return algebra.constant(int(dim))
    if dim.operation == "DIM":
        return algebra.dimension(*dim.operands)
    return algebra.apply(dim.operation, *(evaluate(part, algebra) for part in dim.operands))
