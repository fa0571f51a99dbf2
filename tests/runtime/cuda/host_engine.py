"""A backend in the place of a GPU's engine: it reads and writes the addresses that are bound."""

import numpy as np

from maskrt.core import InputSpec
from maskrt.runtime import Backend
from maskrt.runtime.cuda import DeviceEngine
from maskrt.runtime.cuda.frame import EngineContext
from maskrt.runtime.cuda.host import HostCuda

__all__ = ["HostContext", "HostEngine"]


class HostEngine(DeviceEngine):
    def __init__(self, cuda: HostCuda, backend: Backend, spec: InputSpec) -> None:
        self.cuda, self.backend = cuda, backend
        outputs = backend.run(np.zeros(spec.shape, np.uint8))
        self.tensors = {"images": (spec.shape, np.dtype(np.uint8))}
        self.tensors |= {name: (value.shape, value.dtype) for name, value in outputs.items()}

    def context(self) -> "HostContext":
        return HostContext(self)


class HostContext(EngineContext):
    def __init__(self, engine: HostEngine) -> None:
        self.engine, self.addresses = engine, dict[str, int]()

    def bind(self, name: str, address: int) -> None:
        self.addresses[name] = address

    def enqueue(self, stream: int) -> None:
        self.engine.cuda.queue(self.run, stream, "engine")

    def run(self) -> None:
        views = {
            name: self.engine.cuda.view(self.addresses[name], *about)
            for name, about in self.engine.tensors.items()
        }
        for name, value in self.engine.backend.run(views["images"].copy()).items():
            views[name][...] = value
