"""Kernels by the CUDA driver itself, which both packages leave room for (plugins' adapter)."""

from collections.abc import Mapping
from typing import Any

from ...plugins.adapters.cuda_driver import launch_stage
from ...plugins.adapters.cuda_driver import load_plan as load_in_driver
from ...plugins.launch import LaunchPlan
from .contract import driver_calls

__all__ = ["launch_plan", "load_plan"]


def load_plan(plan: LaunchPlan) -> Any:
    """Compile and load the kernels of a plan.

    Raises:
        UnsupportedTargetError: the driver does not take them.
    """
    with driver_calls("load a kernel"):
        return load_in_driver(plan)


def launch_plan(kernels: Any, plan: LaunchPlan, addresses: Mapping[str, int], stream: int) -> None:
    """Queue every stage of a plan on a stream's handle.

    Raises:
        UnsupportedTargetError: the driver does not launch it.
    """
    with driver_calls("launch a kernel"):
        for stage in plan.working_stages:
            launch_stage(kernels[stage.entry], stage, addresses, stream)
