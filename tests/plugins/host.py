"""Runs an operator's kernels on the host as a device would launch them, and tries its nerves."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from maskrt.plugins import OPERATORS
from maskrt.plugins.adapters.host import run_plan, sanitize_plan
from maskrt.plugins.launch import LaunchPlan, Tensor


def plan_of(name: str, attributes: Mapping[str, Any], inputs: Sequence[np.ndarray]) -> LaunchPlan:
    """Return the launch plan of an operator for arrays."""
    tensors = [Tensor(value.shape, str(value.dtype)) for value in inputs]
    return OPERATORS[name].launch(attributes, tensors)


def run_on_host(
    name: str, attributes: Mapping[str, Any], inputs: Sequence[np.ndarray], order: int = 0
) -> list[np.ndarray]:
    """Run an operator's kernels; memory holds NaNs before."""
    return run_plan(plan_of(name, attributes, inputs), inputs, order=order)


def run_every_way(
    name: str, attributes: Mapping[str, Any], inputs: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Run in every order of threads and blocks, with two fillings of memory; all must agree."""
    plan = plan_of(name, attributes, inputs)
    first = run_plan(plan, inputs)
    for order, pattern in ((0, 0x00), (1, 0x7F), (2, 0xFF), (3, 0x00)):
        for expected, found in zip(
            first, run_plan(plan, inputs, order=order, pattern=pattern), strict=True
        ):
            np.testing.assert_array_equal(found, expected, err_msg=f"order {order}")
    return first


def run_sanitized(
    name: str, attributes: Mapping[str, Any], inputs: Sequence[np.ndarray]
) -> list[np.ndarray]:
    """Run under the address, undefined-behaviour and thread sanitizers; all must agree."""
    plan = plan_of(name, attributes, inputs)
    first = sanitize_plan(plan, inputs, "address,undefined")
    for expected, found in zip(first, sanitize_plan(plan, inputs, "thread"), strict=True):
        np.testing.assert_array_equal(found, expected)
    return first
