"""Whole frames on a real GPU, under CUDA graph capture: all of them but TensorRT.

The engine is copies on the device: its outputs lie there beforehand, and the canvas that it was
given comes back as one more output. So both adapters, the kernels, the graphs and the two frames in
flight are real where there is a GPU, and no TensorRT is needed; without one, the same runs on the
host's.
"""

import ctypes
import importlib.util
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from maskrt.core import InputSpec
from maskrt.core.masks import MaskPaste
from maskrt.plugins.adapters.cuda_driver import call_driver
from maskrt.runtime import letterbox, paste_masks
from maskrt.runtime.cuda import Buffer, Cuda, DeviceEngine, FrameSlots
from maskrt.runtime.cuda.frame import EngineContext, Frames
from maskrt.runtime.cuda.host import HostCuda
from maskrt.runtime.cuda_device import compute_capabilities

from .test_frame import pictures

SPEC = InputSpec(96, 160, batch=2)
DETECTIONS = 10
PACKAGES = {"cuda-python": "cuda.bindings", "pycuda": "pycuda"}


def _outputs() -> dict[str, np.ndarray]:
    """Return smooth masks over boxes of every size, some of which reach outside the canvas."""
    generator = np.random.default_rng(0)
    y, x = np.mgrid[:28, :28]
    cy, cx, radius = generator.uniform(6, 22, (3, SPEC.batch, DETECTIONS, 1, 1))
    masks = 1 / (1 + np.exp(np.hypot(y - cy, x - cx) - radius))
    centre = generator.uniform(0, (160, 96), (SPEC.batch, DETECTIONS, 2))
    half = generator.uniform(2, 60, (SPEC.batch, DETECTIONS, 2))
    return {
        "boxes": np.concatenate([centre - half, centre + half], 2).astype(np.float32),
        "scores": generator.uniform(0, 1, (SPEC.batch, DETECTIONS)).astype(np.float32),
        "labels": np.ones((SPEC.batch, DETECTIONS), np.int32),
        "masks": masks.astype(np.float32),
        "count": np.full(SPEC.batch, DETECTIONS, np.int32),
    }


class CopyEngine(DeviceEngine):
    """An engine whose outputs are known."""

    def __init__(self, cuda: Cuda, outputs: dict[str, np.ndarray]) -> None:
        self.cuda, self.known = cuda, dict[str, Buffer]()
        canvas = (SPEC.shape, np.dtype(np.uint8))
        self.tensors = {"images": canvas, "canvas": canvas}
        self.tensors |= {name: (value.shape, value.dtype) for name, value in outputs.items()}
        with cuda.active():
            stream = cuda.stream()
            for name, value in outputs.items():
                self.known[name] = buffer = Buffer(cuda, pinned=True)
                buffer.reserve(value.nbytes)
                buffer.array(0, value.nbytes)[:] = value.reshape(-1).view(np.uint8)
                cuda.upload(buffer.address, buffer.array(0, value.nbytes), stream)
            cuda.synchronise(stream)
            cuda.close_stream(stream)

    def context(self) -> EngineContext:
        return CopyContext(self)

    def copy(self, target: int, source: int, size: int, stream: int) -> None:
        if isinstance(self.cuda, HostCuda):
            self.cuda.queue(lambda: ctypes.memmove(target, source, size) and None, stream, "engine")
            return
        call_driver(
            "cuMemcpyDtoDAsync_v2", ctypes.c_uint64(target), ctypes.c_uint64(source),
            ctypes.c_size_t(size), ctypes.c_void_p(stream),
        )  # fmt: skip

    def close(self) -> None:
        with self.cuda.active():
            for buffer in self.known.values():
                buffer.release()


class CopyContext(EngineContext):
    def __init__(self, engine: CopyEngine) -> None:
        self.engine, self.bound = engine, dict[str, int]()

    def bind(self, name: str, address: int) -> None:
        self.bound[name] = address

    def enqueue(self, stream: int) -> None:
        for name, buffer in self.engine.known.items():
            self.engine.copy(self.bound[name], buffer.address, buffer.size, stream)
        size = int(np.prod(SPEC.shape))
        self.engine.copy(self.bound["canvas"], self.bound["images"], size, stream)


@pytest.fixture(params=["host", *(pytest.param(name, marks=pytest.mark.gpu) for name in PACKAGES)])
def cuda(request: pytest.FixtureRequest) -> Iterator[Cuda]:
    if request.param == "host":
        made = HostCuda()
        yield made
        made.close()
        return
    if not compute_capabilities():
        pytest.skip("no CUDA device")
    if importlib.util.find_spec(PACKAGES[request.param].partition(".")[0]) is None:
        pytest.skip(f"{request.param} is not installed")
    if request.param == "pycuda":
        from maskrt.runtime.cuda.driver_api import DriverApiCuda

        yield DriverApiCuda()
    else:
        from maskrt.runtime.cuda.runtime_api import RuntimeApiCuda

        yield RuntimeApiCuda()


@pytest.fixture
def engine(cuda: Cuda) -> Iterator[CopyEngine]:
    made = CopyEngine(cuda, _outputs())
    yield made
    made.close()


def _check(frames: Frames, shown: list[np.ndarray], known: dict[str, np.ndarray]) -> None:
    for name, value in known.items():
        np.testing.assert_array_equal(frames.outputs[name], value)
    for index, picture in enumerate(shown):
        canvas, place = letterbox(picture, SPEC)
        assert frames.places[index] == place
        np.testing.assert_array_equal(frames.outputs["canvas"][index], canvas)
        boxes = place.to_picture(known["boxes"][index], clip=False)
        expected = paste_masks(known["masks"][index], boxes, place.image_size)
        packed: Any = frames.masks[index]
        found = packed()
        assert expected.any()
        assert found.shape == expected.shape
        assert (found != expected).mean() < 1e-4  # products are rounded as the CPU's BLAS does


def test_frames_in_graphs_are_the_cpus(cuda: Cuda, engine: CopyEngine) -> None:
    """Two frames in flight, of sizes that repeat, change, and grow beyond the buffers."""
    known = _outputs()
    sizes = [[(97, 133), (96, 160)]] * 5 + [[(64, 64)]] * 4 + [[(60, 300), (281, 90)]] * 4
    slots = FrameSlots(cuda, engine, SPEC, paste=MaskPaste.TORCHVISION)
    waiting: list[list[np.ndarray]] = []
    for seed, size in enumerate(sizes):
        if len(waiting) == 2:
            _check(slots.collect(), waiting.pop(0), known)
        waiting.append(pictures(*size, seed=seed))
        slots.submit(waiting[-1])
    for shown in waiting:
        _check(slots.collect(), shown, known)
    slots.close()
    assert engine.no_graph == ""
    assert engine.captured
