"""Stand-ins of ONNX Runtime, of CUDA on the host and of Pillow that fail when they are told to."""

import contextlib
import struct
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from maskrt.core import UnsupportedTargetError
from maskrt.runtime.cuda.contract import failure
from maskrt.runtime.cuda.host import HostCuda

__all__ = ["CALLS", "OPENING", "Faults", "FaultyCuda", "FaultyOnnx", "faulty_decoder"]

DECODER = (  # made anew each time: one that is raised again keeps all its tracebacks
    lambda: OSError(5, "Input/output error"), MemoryError, lambda: struct.error("unpack"),
    SyntaxError,
)  # fmt: skip
CALLS = ("allocate", "pin", "stream", "upload", "download", "launch", "capture", "replay",
         "synchronise")  # fmt: skip
OPENING = ("allocate", "pin", "stream")


@dataclass
class Faults:
    """What is to fail next, and what did.

    Attributes:
        armed: the fault that waits for its place to be reached, or "".
        struck: of each fault, how often it did.
        lost: the device is, until another session is opened.
    """

    armed: str = ""
    struck: Counter[str] = field(default_factory=Counter)
    lost: bool = False

    def strikes(self, name: str) -> bool:
        """Whether the fault `name` happens here and now; once."""
        if self.armed != name:
            return False
        self.armed = ""
        self.struck[name] += 1
        return True


class FaultyOnnx:
    """ONNX Runtime's session, which fails when it is told to."""

    def __init__(self, session: Any, faults: Faults) -> None:
        self._session, self._faults = session, faults

    def run(self, *given: Any) -> list[np.ndarray]:
        if self._faults.strikes("inference fails"):
            raise RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate\n")
        if self._faults.strikes("inference out of memory"):
            raise MemoryError
        found: list[np.ndarray] = self._session.run(*given)
        if self._faults.strikes("inference returns no numbers"):
            found[0] = np.full_like(found[0], np.nan)
        return found


class FaultyCuda(HostCuda):
    """The host, whose calls fail when they are told to; once it is lost, all of them."""

    def __init__(self, faults: Faults) -> None:
        super().__init__()
        self._faults = faults

    def _strike(self, name: str) -> None:
        faults = self._faults
        faults.lost = faults.lost or faults.strikes("device lost")
        if faults.lost or faults.strikes(name):
            reason = "cudaErrorDevicesUnavailable" if faults.lost else "cudaErrorUnknown"
            raise UnsupportedTargetError(failure(name, reason))

    def synchronise(self, stream: Any) -> None:
        del self.calls[64:]  # a list of all calls would be measured, too
        try:
            self._strike("synchronise")
        except UnsupportedTargetError:
            stream.queued.clear()
            raise
        super().synchronise(stream)


def _failing(name: str) -> Callable[..., Any]:
    kept = getattr(HostCuda, name)

    def call(self: FaultyCuda, *given: Any, **named: Any) -> Any:
        self._strike(name)
        return kept(self, *given, **named)

    return call


for _name in (*CALLS, "free", "unpin", "close_stream", "drop_graph"):
    if _name != "synchronise":
        setattr(FaultyCuda, _name, _failing(_name))


@contextlib.contextmanager
def faulty_decoder(faults: Faults) -> Iterator[None]:
    """Let Pillow fail when it is told to."""
    from PIL import Image

    kept, turn = Image.open, iter(range(1 << 40))

    def opened(*given: Any, **named: Any) -> Any:
        if faults.strikes("decoder"):
            raise DECODER[next(turn) % len(DECODER)]()
        return kept(*given, **named)

    Image.open = opened
    try:
        yield
    finally:
        Image.open = kept
