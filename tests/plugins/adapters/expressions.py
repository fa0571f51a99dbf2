"""What stands in for TensorRT's shape expressions, which only its builder makes.

An `Expression` is a constant, a dimension of a network input, or an operation on two others; it is
evaluated when the dimensions are known, as TensorRT does before it enqueues.
"""

import operator
from collections.abc import Mapping
from typing import Any

_MEANING = {
    "SUM": operator.add,
    "SUB": operator.sub,
    "PROD": operator.mul,
    "FLOOR_DIV": operator.floordiv,
    "CEIL_DIV": lambda a, b: -(-a // b),
    "MAX": max,
    "MIN": min,
    "EQUAL": lambda a, b: int(a == b),
    "LESS": lambda a, b: int(a < b),
}


class Expression:
    """As `tensorrt.IDimensionExpr`."""

    def __init__(self, operation: str, *operands: Any) -> None:
        self.operation, self.operands = operation, operands

    def is_constant(self) -> bool:
        return self.operation == "constant"

    def get_constant_value(self) -> int:
        assert self.is_constant()
        return self.operands[0]

    def is_size_tensor(self) -> bool:
        return False

    def value(self, dimensions: Mapping[str, int]) -> int:
        if self.operation == "constant":
            return self.operands[0]
        if self.operation == "dimension":
            return dimensions[self.operands[0]]
        return _MEANING[self.operation](*(part.value(dimensions) for part in self.operands))


class Builder:
    """As `tensorrt.IExprBuilder`; it folds constants, as that does."""

    def constant(self, value: int) -> Expression:
        assert isinstance(value, int)
        return Expression("constant", value)

    def operation(self, op: Any, first: Expression, second: Expression) -> Expression:
        made = Expression(op.name, first, second)
        if first.is_constant() and second.is_constant():
            return Expression("constant", made.value({}))
        return made


class Dims(list):
    """As `tensorrt.DimsExprs`: as many places as are asked for."""

    def __init__(self, length: int) -> None:
        super().__init__([None] * length)


def dims_of(name: str, shape: tuple[int, ...], dynamic: tuple[bool, ...]) -> Dims:
    """Return the shape of a network input: a dimension `name.axis` where it is dynamic."""
    dims = Dims(len(shape))
    for axis, extent in enumerate(shape):
        free = Expression("dimension", f"{name}.{axis}")
        dims[axis] = free if dynamic[axis] else Expression("constant", extent)
    return dims
