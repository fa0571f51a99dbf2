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
from maskrt.runtime.build.rtx_rewrites import spare_kernels
from maskrt.runtime.check import CocoDataset, evaluate

pytest.importorskip("torch")
pytestmark = [pytest.mark.torch, pytest.mark.slow]

SIZE = (320, 320)
SCENES = 24
LEAST_AP = {  # that the trained models have at least, of boxes and of masks
    "maskrcnn_scenes": 45.0,
    "condinst_scenes": 40.0,
    "yolact_scenes": 35.0,
    "solov2_scenes": 25.0,
    "solo_scenes": 30.0,
}
COUNTED_WITH = "1.7.1.116"  # the version of TensorRT-RTX whose programs were counted
COUNTED = {
    Precision.FP16: {"heavy": 52, "other": 30, "bytes": 71.4e6, "memory": 35.1e6},
    Precision.INT8: {"heavy": 52, "other": 31, "bytes": 68.0e6, "memory": 35.1e6},
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


@pytest.mark.parametrize("name", list(LEAST_AP))
def test_the_graph_without_plugins_has_the_same_ap(name: str, tmp_path: Path) -> None:
    """On 24 scenes; `benchmarks/rtx_accuracy.py` does it on 200, and at every precision."""
    weights = weights_path(name)
    bundle = export_bundle(f"maskrt:{name}", tmp_path / "m", weights=weights, input_size=SIZE)
    annotations = write_coco(tmp_path / "scenes", SCENES, split="val", size=SIZE)
    dataset = CocoDataset.load(annotations.parent / "images", annotations)
    model, found = read_model(bundle), []
    without_plugins = lower(model, "pluginless")
    spare_kernels(without_plugins)  # as the builder does
    for graph in (lower(model, "function"), without_plugins):
        backend = CpuBackend(graph.SerializeToString())
        spec, names = bundle.manifest.input, bundle.manifest.class_names
        frame = bundle.manifest.mask_frame
        with Session(backend, spec, class_names=names, mask_frame=frame) as session:
            found.append(evaluate(session.predict, dataset).metrics)
    for kind in ("box", "mask"):
        assert found[0][kind]["AP"] > LEAST_AP[name]
        # the last bits of a coordinate may put a pixel of a mask on the other side
        np.testing.assert_allclose(found[1][kind]["AP"], found[0][kind]["AP"], atol=0.05)
