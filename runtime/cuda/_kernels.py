"""Kernels by the CUDA driver itself, which both packages leave room for (plugins' adapter)."""

from collections.abc import Mapping
from typing import Any

from ...plugins.adapters.cuda_driver import launch_stage, load_plan
from ...plugins.launch import LaunchPlan

__all__ = ["launch_plan", "load_plan"]


def launch_plan(kernels: Any, plan: LaunchPlan, addresses: Mapping[str, int], stream: int) -> None:
    """Queue every stage of a plan on a stream's handle."""
    for stage in plan.working_stages:
        launch_stage(kernels[stage.entry], stage, addresses, stream)
