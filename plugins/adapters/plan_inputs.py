"""An operator's inputs as its launch plan takes them: from a schema, with sizes known or not."""

from collections.abc import Mapping, Sequence

from ..launch import LaunchPlan, Tensor
from ..operator import AttributeValue, Operator, Port, Schema
from .sizes import Size

__all__ = ["input_tensors", "ports_of_inputs", "probe_plan"]

_PROBE = 4  # any extent that every operator takes


def ports_of_inputs(schema: Schema, count: int) -> list[tuple[Port, tuple[str | int, ...]]]:
    """Return the port and the symbolic shape of each of an operator's `count` inputs.

    A symbol that only a repeated port has stands for another dimension in each repetition, so the
    repetition's number is appended to it.
    """
    spare = count - sum(port.repeat[0] for port in schema.inputs)
    single = [port for port in schema.inputs if port.repeat == (1, 1)]
    common = {symbol for port in single for symbol in port.shape}
    found: list[tuple[Port, tuple[str | int, ...]]] = []
    for port in schema.inputs:
        if port in single:
            found.append((port, port.shape))
            continue
        for index in range(port.repeat[0] + spare):
            shape = (s if s in common or isinstance(s, int) else f"{s}{index}" for s in port.shape)
            found.append((port, tuple(shape)))
        spare = 0
    return found


def input_tensors(
    schema: Schema, shapes: Sequence[Sequence[int]], dtypes: Sequence[str]
) -> list[Tensor]:
    """Return an operator's inputs for its launch plan: a `Size` where a shape has -1."""
    tensors = []
    ports = ports_of_inputs(schema, len(shapes))
    for (_, symbols), shape, dtype in zip(ports, shapes, dtypes, strict=True):
        extents = (
            Size.dimension(str(symbol)) if extent < 0 else int(extent)
            for symbol, extent in zip(symbols, shape, strict=True)
        )
        tensors.append(Tensor(tuple(extents), dtype))
    return tensors


def probe_plan(
    operator: Operator, attributes: Mapping[str, AttributeValue], dtypes: Sequence[str]
) -> LaunchPlan:
    """Return a launch plan for inputs of some size, to learn types and ranks of its outputs."""
    tensors = []
    for (_, symbols), dtype in zip(
        ports_of_inputs(operator.schema, len(dtypes)), dtypes, strict=True
    ):
        shape = tuple(extent if isinstance(extent, int) else _PROBE for extent in symbols)
        tensors.append(Tensor(shape, dtype))
    return operator.launch(attributes, tensors)
