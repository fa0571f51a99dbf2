"""Symbolic sizes: every expression equals the same arithmetic on numbers."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from maskrt.core import UnsupportedTargetError
from maskrt.plugins.adapters.sizes import Algebra, Size, evaluate
from maskrt.plugins.launch import Tensor, at_least_one, ceil_div

from .expressions import Builder, Expression

B, N = Size.dimension("B"), Size.dimension("N")


def _number(dim: Any, **dimensions: int) -> int:
    """Evaluate as the TensorRT plugins do, by expressions that stand for TensorRT's."""
    names = ("SUM", "SUB", "PROD", "FLOOR_DIV", "MAX")
    operations = {name: type("Operation", (), {"name": name}) for name in names}
    builder = Builder()
    algebra = Algebra(
        builder.constant,
        lambda name: Expression("dimension", name),
        lambda name, a, b: builder.operation(operations[name], a, b),
    )
    return evaluate(dim, algebra).value(dimensions)


@given(st.integers(0, 9), st.integers(0, 10**6), st.integers(1, 999))
def test_arithmetic(b: int, n: int, k: int) -> None:
    def size(b: Any, n: Any) -> Any:
        return at_least_one(ceil_div(n * b + 3, k) * (2 * n) - (7 - b) + Tensor((b, 4, n), "").size)

    assert _number(size(B, N), B=b, N=n) == size(b, n)


def test_a_constant_is_a_constant() -> None:
    assert _number(12) == 12


@pytest.mark.parametrize(
    "decide",
    [
        lambda size: max(size, 1),
        lambda size: size > 3,
        lambda size: f"{size}",
        str,
        int,
        lambda size: range(size),
        lambda size: size / 2,
        lambda size: 2 / size,
        lambda size: "yes" if size else "no",
        lambda size: size % 4,
    ],
)
def test_a_plan_cannot_decide_by_a_size_that_is_not_known(decide: Any) -> None:
    with pytest.raises(UnsupportedTargetError, match="fixed sizes"):
        decide(N + 1)
