"""The host: kernels compiled by the C++ compiler and run on the CPU, block by block.

The launch plan, the argument order and the buffer sizes are those of a device; see `shim.h` for
what is looked for on the way.
"""

from .build import Sanitizer, host_compiler
from .run import KernelFaultError, launch_stage_on_host, run_plan, sanitize_plan

__all__ = [
    "KernelFaultError",
    "Sanitizer",
    "host_compiler",
    "launch_stage_on_host",
    "run_plan",
    "sanitize_plan",
]
