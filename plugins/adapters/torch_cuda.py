"""Every operator as `torch.ops.maskrt.<folder>`: kernels on CUDA, the reference elsewhere.

    register_operators()
    torch.ops.maskrt.batched_nms(boxes, scores, labels, iou_threshold=0.5, …)

The signature is made of the operator's schema: its inputs in order (repeated ones as a list), then
its attributes by name. Shapes for tracing and `torch.compile` come from the launch plan, so all
bodies agree on them. A launch uses PyTorch's current stream and allocator, and neither synchronises
nor copies, so it can be captured in a CUDA graph once the kernels are compiled.
"""

import itertools
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import torch

from ..bodies import OPERATORS
from ..launch import LaunchPlan, Stage
from ..launch import Tensor as TensorSpec
from ..operator import DOMAIN, Attribute, Operator, Port
from .cuda_driver import launch_stage, load_plan

__all__ = ["register_operators", "run_plan_on"]

Launch = Callable[[LaunchPlan, Stage, Mapping[str, int]], None]

_TYPES = {int: "int", float: "float", str: "str", tuple: "float[]"}


@lru_cache
def register_operators() -> torch.library.Library:
    """Define `torch.ops.maskrt.*`, once a process; returns the library that holds them."""
    library = torch.library.Library(DOMAIN, "DEF")
    for operator in OPERATORS.values():
        library.define(f"{operator.folder}{_signature(operator)}")
        library.impl(operator.folder, _by_reference(operator), "CPU")
        library.impl(operator.folder, _by_kernels(operator), "CUDA")
        torch.library.register_fake(
            f"{DOMAIN}::{operator.folder}", _shapes_alone(operator), lib=library
        )
    return library


def run_plan_on(
    plan: LaunchPlan, inputs: Sequence[torch.Tensor], launch: Launch
) -> list[torch.Tensor]:
    """Allocate what `plan` writes beside its inputs, launch its stages, and return its outputs."""
    tensors = dict(zip(plan.inputs, (value.contiguous() for value in inputs), strict=True))
    for name in (*plan.scratch, *plan.outputs):
        tensors[name] = _empty(plan.tensors[name], inputs[0].device)
    addresses = {name: tensor.data_ptr() for name, tensor in tensors.items()}
    for stage in plan.working_stages:
        launch(plan, stage, addresses)
    return [tensors[name] for name in plan.outputs]


def _launch_on_current_stream(plan: LaunchPlan, stage: Stage, addresses: Mapping[str, int]) -> None:
    stream = torch.cuda.current_stream().cuda_stream
    launch_stage(load_plan(plan)[stage.entry], stage, addresses, stream)


def _by_kernels(operator: Operator) -> Callable[..., Any]:
    def run(*arguments: Any, **attributes: Any) -> Any:
        inputs = _flat(arguments)
        plan = _plan(operator, inputs, _checked(operator, arguments, attributes))
        with torch.cuda.device(inputs[0].device):
            return _result(run_plan_on(plan, inputs, _launch_on_current_stream))

    return run


def _by_reference(operator: Operator) -> Callable[..., Any]:
    def run(*arguments: Any, **attributes: Any) -> Any:
        return operator.reference(*arguments, **_checked(operator, arguments, attributes))

    return run


def _shapes_alone(operator: Operator) -> Callable[..., Any]:
    def run(*arguments: Any, **attributes: Any) -> Any:
        inputs = _flat(arguments)
        plan = _plan(operator, inputs, _checked(operator, arguments, attributes))
        return _result([_empty(plan.tensors[name], inputs[0].device) for name in plan.outputs])

    return run


def _plan(
    operator: Operator, inputs: Sequence[torch.Tensor], attributes: Mapping[str, Any]
) -> LaunchPlan:
    specs = [
        TensorSpec(tuple(value.shape), str(value.dtype).removeprefix("torch.")) for value in inputs
    ]
    return operator.launch(attributes, specs)


def _checked(
    operator: Operator, arguments: Sequence[Any], attributes: Mapping[str, Any]
) -> dict[str, Any]:
    """Return attributes as the schema has them: PyTorch hands over lists for tuples."""
    values = {k: tuple(v) if isinstance(v, list) else v for k, v in attributes.items()}
    operator.schema.validate(values, len(_flat(arguments)))
    return operator.schema.filled(values)


def _empty(spec: TensorSpec, device: torch.device) -> torch.Tensor:
    return torch.empty(spec.shape, dtype=getattr(torch, spec.dtype), device=device)


def _flat(arguments: Sequence[Any]) -> list[torch.Tensor]:
    lists = (a if isinstance(a, (list, tuple)) else [a] for a in arguments)
    return list(itertools.chain.from_iterable(lists))


def _result(outputs: list[torch.Tensor]) -> Any:
    return outputs[0] if len(outputs) == 1 else tuple(outputs)


def _signature(operator: Operator) -> str:
    schema = operator.schema
    inputs = [_port(port) for port in schema.inputs]
    attributes = [_attribute(attribute) for attribute in schema.attributes]
    keywords = ["*", *attributes] if attributes else []
    results = ", ".join("Tensor" for _ in schema.outputs)
    returned = results if len(schema.outputs) == 1 else f"({results})"
    return f"({', '.join([*inputs, *keywords])}) -> {returned}"


def _port(port: Port) -> str:
    return f"Tensor{'[]' if port.repeat != (1, 1) else ''} {port.name}"


def _attribute(attribute: Attribute) -> str:
    default = "" if attribute.default is None else f"={attribute.default!r}"
    return f"{_TYPES[attribute.kind]} {attribute.name}{default}"
