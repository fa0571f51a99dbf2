"""One suite over every backend: the same pictures give the same instances.

The reference is ONNX Runtime with one thread. The rest is every other way to the instances: the
GPU's, where there is one; and the GPU's code on the CPU always: frames whose kernels run on the
host, and the TensorRT backend with a stand-in for TensorRT that hands the picture to ONNX Runtime.
"""

from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

import maskrt
from maskrt.core import Bundle, InputSpec, Instances, Target
from maskrt.core.masks import MaskPaste
from maskrt.runtime import Session, open_session
from maskrt.runtime.backends import tensorrt
from maskrt.runtime.backends.cpu import CpuBackend
from maskrt.runtime.check.agreement import compare_instances
from maskrt.runtime.cuda import FrameSlots
from maskrt.runtime.cuda.host import HostCuda
from maskrt.runtime.cuda_device import can_run

from .backends.test_tensorrt import FakeEngine, on_host, stand_in
from .cuda.test_frame import OnnxEngine

pytestmark = [pytest.mark.slow, pytest.mark.torch]

SIZES = ((320, 320), (480, 640), (200, 333), (97, 250), (330, 150), (320, 320))
Predict = Callable[[list[np.ndarray]], list[Instances]]


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    """The demo model at FP32, two pictures a call."""
    from maskrt.demo import weights_path
    from maskrt.demo.run import MODEL, SIZE

    path = tmp_path_factory.mktemp("every") / "demo.maskrt"
    return maskrt.compile(MODEL, path, weights=weights_path(), input_size=SIZE, batch=2)


@pytest.fixture(scope="module")
def pictures() -> list[np.ndarray]:
    """Held-out scenes of several sizes."""
    from PIL import Image

    from maskrt.demo.scenes import scene

    drawn = [scene(index, split="val", size=(320, 320)).image for index in range(len(SIZES))]
    return [
        np.asarray(Image.fromarray(image).resize((width, height)))
        for image, (height, width) in zip(drawn, SIZES, strict=True)
    ]


@pytest.fixture(scope="module")
def expected(bundle: Bundle, pictures: list[np.ndarray]) -> list[Instances]:
    with open_session(bundle, "cpu", threads=1) as session:
        found = session.predict(pictures)
    assert sum(map(len, found)) > 20
    return found


def _engine(bundle: Bundle) -> bytes:
    return bundle.read(f"{bundle.engine_folder(Target.parse('cpu'))}/engine.onnx")


class _OnHost(CpuBackend):
    """ONNX Runtime behind frames whose kernels run on the CPU."""

    concurrent = False

    def __init__(self, engine: bytes) -> None:
        super().__init__(engine, threads=1)
        self._engine = engine

    def open_frames(self, spec: InputSpec, slots: int) -> FrameSlots:
        cuda = HostCuda()
        engine = OnnxEngine(cuda, self._engine, spec)
        return FrameSlots(cuda, engine, spec, slots=slots, paste=MaskPaste.TORCHVISION)


class _Relay(FakeEngine):
    """TensorRT's interface, with ONNX Runtime inside."""

    def __init__(self, cuda: HostCuda, engine: bytes, spec: InputSpec) -> None:
        super().__init__(on_host(cuda))
        self.backend = CpuBackend(engine, threads=1)
        first = self.backend.run(np.zeros(spec.shape, np.uint8))
        self.about = {"images": (spec.shape, np.dtype(np.uint8))}
        self.about |= {name: (value.shape, value.dtype) for name, value in first.items()}

    def compute(self, views: dict[str, np.ndarray]) -> None:
        for name, value in self.backend.run(views["images"].copy()).items():
            views[name][...] = value


def _stand_ins(bundle: Bundle, monkeypatch: pytest.MonkeyPatch) -> Session:
    cuda = HostCuda()
    stand_in(cuda, _Relay(cuda, _engine(bundle), bundle.manifest.input), monkeypatch)
    return Session(tensorrt.TensorRTBackend(b"plan"), bundle.manifest.input)


def _on_gpu(bundle: Bundle, target: str, *, on_device: bool) -> Session:
    if not can_run(Target.parse(target)):
        pytest.skip(f"no GPU that an engine for {target} runs on")
    maskrt.build(bundle, target)
    return open_session(bundle, target, on_device=on_device)


@pytest.fixture(
    params=["two threads", "frames on the host", "TensorRT's stand-ins",
            *(pytest.param(name, marks=[pytest.mark.gpu])
              for name in ("rtx", "rtx on the device", "gpu", "gpu on the device"))]
)  # fmt: skip
def session(
    request: pytest.FixtureRequest, bundle: Bundle, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Session]:
    target, _, device = request.param.partition(" on the ")
    if request.param == "two threads":
        opened = open_session(bundle, "cpu", threads=2)
    elif request.param == "frames on the host":
        opened = Session(_OnHost(_engine(bundle)), bundle.manifest.input)
    elif request.param == "TensorRT's stand-ins":
        opened = _stand_ins(bundle, monkeypatch)
    else:
        opened = _on_gpu(bundle, target, on_device=device == "device")
    with opened:
        yield opened


def _same(expected: list[Instances], found: list[Instances]) -> None:
    """All but instances on the edge of the score threshold are the same, within rounding."""
    for wanted, got in zip(expected, found, strict=True):
        assert got.image_size == wanted.image_size
        pairs = compare_instances(wanted, got)
        assert not pairs.changed
        edge = np.concatenate([pairs.missed, pairs.invented])
        assert (edge < 0.06).all(), edge  # the model drops what is below 0.05
        assert pairs.mask_iou is not None
        assert (pairs.box_iou > 0.98).all()
        assert (pairs.mask_iou > 0.95).all()
        assert (pairs.score_difference < 0.02).all()


def test_pictures_give_the_same_instances(
    session: Session, pictures: list[np.ndarray], expected: list[Instances]
) -> None:
    _same(expected, session.predict(pictures))
    _same(expected, [session.predict(picture) for picture in pictures])


def test_streams_give_the_same_instances(
    session: Session, pictures: list[np.ndarray], expected: list[Instances]
) -> None:
    with closing(session.predict_stream(pictures)) as frames:
        _same(expected, [frame.result() for frame in frames])


def test_files_give_the_same_instances(
    session: Session, pictures: list[np.ndarray], expected: list[Instances], tmp_path: Path
) -> None:
    from PIL import Image

    files = [tmp_path / f"{index}.png" for index in range(len(pictures))]
    for file, picture in zip(files, pictures, strict=True):
        Image.fromarray(picture).save(file)
    _same(expected, session.predict([str(file) for file in files]))


def test_the_comparison_can_fail(pictures: list[np.ndarray], expected: list[Instances]) -> None:
    fewer = [found.select(np.arange(1, len(found))) for found in expected]
    with pytest.raises(AssertionError):
        _same(expected, fewer)
    moved = [Instances(f.boxes + 3, f.scores, f.labels, f.image_size, None, f.masks)
             for f in expected]  # fmt: skip
    with pytest.raises(AssertionError):
        _same(expected, moved)
