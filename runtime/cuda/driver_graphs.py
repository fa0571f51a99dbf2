"""CUDA graphs by the driver itself, for pycuda, whose releases have none. Has not run on hardware.

A capture is the calling thread's own (`CU_STREAM_CAPTURE_MODE_THREAD_LOCAL`): in the global mode,
an allocation in any other thread of the process would break it. One that fails is ended and its
graph freed, and the error that made it fail is raised.

Source: CUDA Driver API, Stream and Graph Management; `cuGraphInstantiateWithFlags` is in CUDA 11.4.
"""

import contextlib
import ctypes
from collections.abc import Callable

from ...core import MissingDependencyError
from ...plugins.adapters.cuda_driver import call_driver, has_function

__all__ = ["can_capture", "capture", "drop", "replay"]

Handle = ctypes.c_void_p
_THREAD_LOCAL = 1


def can_capture() -> bool:
    """Whether the driver here has what is called."""
    try:
        return has_function("cuGraphInstantiateWithFlags")
    except MissingDependencyError:
        return False


def capture(work: Callable[[], None], stream: int) -> Handle:
    """Record what `work` queues on the stream of that handle.

    Raises:
        RuntimeError: the driver captures nothing, with its words.
    """
    graph, executable = Handle(), Handle()
    call_driver("cuStreamBeginCapture_v2", Handle(stream), _THREAD_LOCAL)
    try:
        work()
    except BaseException:
        with contextlib.suppress(RuntimeError):  # it says again that the capture failed
            call_driver("cuStreamEndCapture", Handle(stream), ctypes.byref(graph))
        _destroy(graph)
        raise
    call_driver("cuStreamEndCapture", Handle(stream), ctypes.byref(graph))
    try:
        call_driver(
            "cuGraphInstantiateWithFlags", ctypes.byref(executable), graph, ctypes.c_ulonglong(0)
        )
    finally:
        _destroy(graph)
    return executable


def replay(graph: Handle, stream: int) -> None:
    """Queue all of a graph."""
    call_driver("cuGraphLaunch", graph, Handle(stream))


def drop(graph: Handle) -> None:
    """Release what `capture` returned."""
    call_driver("cuGraphExecDestroy", graph)


def _destroy(graph: Handle) -> None:
    if graph.value:
        call_driver("cuGraphDestroy", graph)
