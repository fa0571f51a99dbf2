"""The CUDA layer: one contract, and whole frames on the device.

    contract.py     what is needed of CUDA: memory, pinned memory, streams, graphs, kernels
    runtime_api.py  by cuda-python;  driver_api.py  by pycuda, which Jetsons have,
                    with graphs by the driver itself (driver_graphs.py)
    host.py         the same on the CPU, and stricter: what a device would forgive, it refuses
    buffer.py       device memory and its page-locked twin
    frame.py        a batch of pictures: upload → preprocess → engine → paste → download
    kernel.cu       the two small kernels between the operators;  plans.py  how they are launched

`open_cuda` takes whichever of the two packages is installed. The TensorRT backend runs on it, too.
"""

from .buffer import Buffer
from .contract import Cuda, Graph, Pinned, open_cuda
from .frame import DeviceEngine, EngineContext, FrameSlots

__all__ = [
    "Buffer", "Cuda", "DeviceEngine", "EngineContext", "FrameSlots", "Graph", "Pinned", "open_cuda",
]  # fmt: skip
