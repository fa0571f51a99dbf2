"""The demo model's TensorRT-RTX program: what it launches and moves, and that it means the same."""

from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest

import maskrt
from maskrt.calib.bundled import read_model
from maskrt.core import Bundle, Precision, Target
from maskrt.core.bundle import RECIPE
from maskrt.demo import weights_path
from maskrt.demo.scenes import scene, write_coco
from maskrt.pipeline import export_bundle
from maskrt.plugins import lower
from maskrt.runtime import Session
from maskrt.runtime.backends.cpu import CpuBackend
from maskrt.runtime.check import CocoDataset, evaluate

pytest.importorskip("torch")
pytestmark = [pytest.mark.torch, pytest.mark.slow]

SIZE = (320, 320)
COUNTED_WITH = "1.7.1.116"  # the version of TensorRT-RTX whose programs were counted
COUNTED = {
    Precision.FP16: {"heavy": 52, "other": 44, "bytes": 74.6e6, "memory": 34.4e6},
    Precision.INT8: {"heavy": 52, "other": 45, "bytes": 71.2e6, "memory": 34.4e6},
}


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Bundle:
    path = tmp_path_factory.mktemp("demo") / "demo.maskrt"
    bundle = export_bundle("maskrt:maskrcnn_scenes", path, weights=weights_path(), input_size=SIZE)
    pictures = [scene(index, size=SIZE).image for index in range(4)]
    return maskrt.calibrate(bundle, pictures, precision="int8")


@pytest.mark.rtx
@pytest.mark.parametrize("precision", list(COUNTED))
def test_the_program_stays_as_small_as_it_is(demo: Bundle, precision: Precision) -> None:
    found = pytest.importorskip("tensorrt_rtx").__version__
    if found != COUNTED_WITH:
        pytest.skip(f"its programs were counted with {COUNTED_WITH}, and this is {found}")
    assert version("tensorrt-rtx") == found
    maskrt.build(demo, "rtx", precision=precision)
    folder = Bundle.open(demo).engine_folder(Target.parse("rtx"), precision)
    info, expected = Bundle.open(demo).read_json(f"{folder}/engine.json"), COUNTED[precision]
    kernels, moved = info["kernels"], info["traffic_bytes"]
    assert kernels["convolution"] + kernels["gemm"] == expected["heavy"]
    assert kernels["other"] == pytest.approx(expected["other"], rel=0.05)
    assert moved["frame"] == pytest.approx(expected["bytes"], rel=0.05)
    assert info["device_memory_bytes"] == pytest.approx(expected["memory"], rel=0.05)
    assert moved["floor"] < moved["frame"]
    if precision is Precision.INT8:
        assert info["layers"]["int8"] == 2
        assert info["payoff"]["int8_ms"] <= info["payoff"]["fp16_ms"]
        recipe = Bundle.open(demo).read_json(f"{folder}/{RECIPE}")
        assert recipe["weight_scales"] == "tensor"
        narrow = [n for n, layer in recipe["layers"].items() if layer["precision"] == "int8"]
        assert [n for n, got in info["layer_precisions"].items() if got == "int8"] == narrow


def test_the_graph_without_plugins_has_the_same_ap(demo: Bundle, tmp_path: Path) -> None:
    annotations = write_coco(tmp_path / "scenes", 24, split="val", size=SIZE)
    dataset = CocoDataset.load(annotations.parent / "images", annotations)
    found = []
    for form in ("function", "pluginless"):
        backend = CpuBackend(lower(read_model(demo), form).SerializeToString())
        spec, names = demo.manifest.input, demo.manifest.class_names
        with Session(backend, spec, class_names=names) as session:
            found.append(evaluate(session.predict, dataset).metrics)
    for kind in ("box", "mask"):
        assert found[0][kind]["AP"] > 40
        # the last bits of a coordinate may put a pixel of a mask on the other side
        np.testing.assert_allclose(found[1][kind]["AP"], found[0][kind]["AP"], atol=0.05)
