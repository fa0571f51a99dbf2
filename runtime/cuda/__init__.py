"""The CUDA layer: one contract, and whole frames on the device.

    contract.py     what is needed of CUDA: memory, pinned memory, streams, graphs, kernels
    open.py         a device, by whichever of the two packages is installed
    runtime_api.py  by cuda-python;  driver_api.py  by pycuda, which Jetsons have,
                    with graphs by the driver itself (driver_graphs.py)
    host.py         the same on the CPU, and stricter: what a device would forgive, it refuses
    buffer.py       device memory and its page-locked twin
    frame.py        a batch of pictures: upload → preprocess → engine → paste → download
    kernel.cu       the two small kernels between the operators;  plans.py  how they are launched

The TensorRT backend runs on it, too.
"""

from .buffer import Buffer
from .contract import Cuda, Graph, Pinned
from .frame import DeviceEngine, EngineContext, FrameSlots
from .open import open_cuda

__all__ = [
    "Buffer", "Cuda", "DeviceEngine", "EngineContext", "FrameSlots", "Graph", "Pinned", "open_cuda",
]  # fmt: skip
