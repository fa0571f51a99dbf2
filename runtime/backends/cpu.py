"""ONNX Runtime on the CPU: executes `engine.onnx`.

The engine is a graph in standard operators that ONNX Runtime optimises while it loads. Its only
provider is named, so nothing can fall back to another one. INT8 weights are given to it in the form
whose kernels are exact on this CPU (`runtime/integer_kernels.py`), so INT8 is the same integers
everywhere.
"""

import os
from typing import Any

import numpy as np

from ...core import BundleError, UnsupportedTargetError, UsageError, require
from ..integer_kernels import stored_form, with_suited_weights
from .base import Backend

__all__ = ["CpuBackend"]

_NEEDED_OUTPUTS = ("boxes", "scores", "labels", "count")
_MOVES_SCALES = ("ConvMulFusion", "ConvAddFusion", "MatMulScaleFusion")
_FATAL_ONLY = 4  # errors (3) are raised as well, and their lines hold names from the graph


class CpuBackend(Backend):
    """A loaded ONNX Runtime session, whose `Run` any number of threads may call.

    Attributes:
        input_shape: of `images`, `[B, H, W, 3]`.
    """

    concurrent = True

    def __init__(self, engine: bytes, *, threads: int | None = None, exact: bool = False) -> None:
        """Load an engine.

        Args:
            engine: content of `engine.onnx`.
            exact: run Q/DQ as they are written, in floats, without integer kernels; for a graph of
                `runtime/build/exact.py`.
            threads: how many threads one operator may use; None is one for each physical core that
                this process may use.

        Raises:
            UsageError: `threads` is not a positive number.
            MissingDependencyError: onnxruntime is not installed.
            BundleError: ONNX Runtime does not accept the engine.
            UnsupportedTargetError: the engine has INT8 layers, and ONNX Runtime computes them
                inexactly on this CPU.
        """
        self._runtime = require("onnxruntime", "run engines for target cpu")
        options = self._runtime.SessionOptions()
        options.intra_op_num_threads = self._threads = _thread_count(threads)
        options.log_severity_level = _FATAL_ONLY
        # Its other format is read without a look at domains (`core/data_graphs.py`).
        options.add_session_config_entry("session.load_model_format", "ONNX")
        # A planned block comes on top of what the first run took: twice the memory from the second.
        options.enable_mem_pattern = False
        more: dict[str, Any] = {"providers": ["CPUExecutionProvider"]}
        if exact:
            options.add_session_config_entry("session.disable_quant_qdq", "1")
            more["disabled_optimizers"] = list(_MOVES_SCALES)
        try:
            engine = engine if exact else with_suited_weights(engine)
            self._weights = None if exact else stored_form(engine)
            self._session = self._runtime.InferenceSession(engine, options, **more)
        except UnsupportedTargetError:
            raise
        except Exception as error:  # ONNX Runtime's own errors share no narrower base
            raise BundleError(
                f"ONNX Runtime {self._runtime.__version__} does not load engine.onnx "
                f"({' '.join(str(error).split())}): build the engine again on this machine."
            ) from error
        self._outputs = [output.name for output in self._session.get_outputs()]
        _check_interface(self._session.get_inputs(), self._outputs)
        self.input_shape: tuple[Any, ...] = tuple(self._session.get_inputs()[0].shape)

    def run(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Return the outputs for one batch, uint8 `[B, H, W, 3]`.

        Raises:
            UsageError: the engine is closed.
            UnsupportedTargetError: ONNX Runtime failed, as it does where memory ends.
        """
        session = self._session  # another thread may close
        if session is None:
            raise UsageError("the engine is closed: open another session with maskrt.load.")
        try:
            found = session.run(None, {"images": images})
        except Exception as error:  # ONNX Runtime's own errors share no narrower base
            raise UnsupportedTargetError(
                f"ONNX Runtime could not run engine.onnx on a batch of {list(images.shape)} "
                f"({' '.join(str(error).split())}): check the free memory of this machine, or "
                "compile the model for a smaller batch or input."
            ) from error
        return dict(zip(self._outputs, found, strict=True))

    def describe(self) -> dict[str, Any]:
        """Return ONNX Runtime's version, the threads, and the form of 8-bit weights if there are.

        0 threads is ONNX Runtime's own choice.
        """
        version = self._runtime.__version__
        about = {"backend": "onnxruntime", "version": version, "threads": self._threads}
        return {**about, "weights": self._weights} if self._weights else about

    def close(self) -> None:
        """Release the session."""
        self._session = None


def _check_interface(inputs: list[Any], outputs: list[str]) -> None:
    """Refuse a graph that is no engine of maskrt's before a picture is given to it."""
    taken = [f"{tensor.name} ({tensor.type})" for tensor in inputs]
    missing = [name for name in _NEEDED_OUTPUTS if name not in outputs]
    if taken != ["images (tensor(uint8))"] or missing:
        lacks = f" and lacks the output {missing[0]}" if missing else ""
        raise BundleError(
            f"engine.onnx takes {', '.join(taken) or 'nothing'}{lacks}, so it is no engine of "
            "maskrt: build the engine again."
        )


def _thread_count(threads: int | None) -> int:
    """Resolve `None`: 0, which is ONNX Runtime's physical cores, unless some are not for us.

    ONNX Runtime binds its threads to cores, and complains on standard error about each core that
    the process may not use (a container's cpuset, taskset); with a number given it binds none.
    """
    if threads is not None:
        if threads < 1:
            raise UsageError(f"threads is {threads}, and must be at least 1.")
        return threads
    if not hasattr(os, "sched_getaffinity"):
        return 0
    allowed = len(os.sched_getaffinity(0))
    return 0 if allowed == os.cpu_count() else allowed
