"""The prepared bundle on a device as bare as a Jetson: Python, numpy, onnx and TensorRT, no more.

`tensorrt-lean` plays JetPack's TensorRT: its registry and `plugin` package are the real ones, its
builder is missing, and there is no GPU. So the command that `prepared.json` gives for the device
gets as far as registered plugins, and says in one sentence what it lacks.
"""

import importlib.util
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import maskrt
from maskrt.calib import make_recipe
from maskrt.core import Bundle, InputSpec, Manifest, Precision
from maskrt.core.bundle import MODEL, RECIPE

ROOT = Path(__file__).resolve().parents[3]
ADAPTERS = ROOT / "tests/plugins/adapters"
LEAN = ROOT / "build/lean"
VERSIONS = ("10.16.1.11", "11.4.0.106")
NEEDED = ("numpy", "onnx", "click", "rich", "PIL")
THEIR_OWN = (
    "google", "ml_dtypes", "typing_extensions", "markdown_it", "mdurl", "pygments", "numpy.libs",
    "pillow.libs",
)  # fmt: skip
ABSENT = ("torch", "onnxruntime", "tensorrt_rtx", "pycocotools", "cv2", "skimage")
NMS = {"iou_threshold": 0.5, "score_threshold": 0.1, "max_outputs": 5, "class_agnostic": 0}


def _model() -> onnx.ModelProto:
    """A layer, then BatchedNMS."""
    info = helper.make_tensor_value_info
    nodes = [
        helper.make_node("MatMul", ["boxes", "weight"], ["moved"], "head"),
        helper.make_node("BatchedNMS", ["moved", "scores", "labels"], ["b", "s", "l", "i", "n"],
                         "nms", domain="maskrt", **NMS),
        helper.make_node("Sigmoid", ["s"], ["out"], "last"),
    ]  # fmt: skip
    graph = helper.make_graph(
        nodes, "g",
        [info("boxes", TensorProto.FLOAT, [1, 9, 4]), info("scores", TensorProto.FLOAT, [1, 9]),
         info("labels", TensorProto.INT32, [1, 9])],
        [info("out", TensorProto.FLOAT, [1, 5]), info("n", TensorProto.INT32, [1])],
        [numpy_helper.from_array(np.eye(4, dtype=np.float32), "weight")],
        value_info=[info("s", TensorProto.FLOAT, [1, 5]),
                    info("moved", TensorProto.FLOAT, [1, 9, 4])],
    )  # fmt: skip
    opsets = [helper.make_opsetid("", 19), helper.make_opsetid("maskrt", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


@pytest.fixture
def prepared(tmp_path: Path) -> Bundle:
    model = _model()
    manifest = Manifest("test", InputSpec(32, 32), {"out": (1, 5)})
    with Bundle.create(tmp_path / "b.maskrt", manifest) as bundle:
        bundle.write(MODEL, model.SerializeToString())
        bundle.write(RECIPE, make_recipe(model, Precision.FP32, None).to_json())
    return maskrt.build(tmp_path / "b.maskrt", "orin-nx")


def _device(folder: Path, version: str) -> Path:
    """Make the packages of a device: the wheel's, what it needs, and TensorRT as the lean one."""
    if not (LEAN / version).is_dir():
        pytest.skip(f"TensorRT's registry is not here: run `make build/lean/{version}`")
    folder.mkdir()
    for name in NEEDED:
        place = Path(importlib.util.find_spec(name).origin).parent
        (folder / name).symlink_to(place)
        for other in THEIR_OWN:
            found = [p for p in (place.parent / other, place.parent / f"{other}.py") if p.exists()]
            for path in found:
                if not (folder / path.name).exists():
                    (folder / path.name).symlink_to(path)
    for path in (LEAN / version).glob("tensorrt_lean*"):
        (folder / path.name).symlink_to(path)
    (folder / "tensorrt").mkdir()
    (folder / "tensorrt/__init__.py").write_text("from lean_as_tensorrt import registry\n")
    (folder / "lean_as_tensorrt").mkdir()
    (folder / "lean_as_tensorrt/__init__.py").write_text("")
    for name in ("registry.py", "expressions.py"):
        shutil.copy(ADAPTERS / name, folder / "lean_as_tensorrt" / name)
    shutil.copytree(ROOT / "maskrt", folder / "maskrt")
    for name in ("core", "export", "calib", "plugins", "runtime"):
        shutil.copytree(ROOT / name, folder / "maskrt" / name)
    return folder


def _run(site: Path, *words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-S", *words], capture_output=True, text=True, check=False,
        cwd=site.parent, env={"PYTHONPATH": str(site), "HOME": str(site.parent), "PATH": ""},
    )  # fmt: skip


@pytest.mark.rtx
@pytest.mark.parametrize("version", VERSIONS)
def test_the_build_stops_where_it_needs_the_gpu(
    prepared: Bundle, tmp_path: Path, version: str
) -> None:
    site = _device(tmp_path / "site", version)
    look = f"import importlib.util as u\nprint([n for n in {ABSENT!r} if u.find_spec(n)])"
    absent = _run(site, "-c", look)
    assert absent.stdout.strip() == "[]", absent.stderr
    words = prepared.read_json("engines/orin-nx/prepared.json")["commands"]["build"].split()
    assert words[:2] == ["~/maskrt/bin/maskrt", "build"]
    before = {p: p.read_bytes() for p in prepared.path.rglob("*") if p.is_file()}
    done = _run(site, "-m", "maskrt", *words[1:])
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(
        "error: target orin-nx cannot be built here, because this machine has no"
    )
    assert f"TensorRT {version} has registered the graph's 3 plugins" in last
    assert "Traceback" not in done.stderr
    assert {p: p.read_bytes() for p in prepared.path.rglob("*") if p.is_file()} == before


@pytest.mark.rtx
def test_without_here_it_would_only_be_prepared_again(prepared: Bundle) -> None:
    assert prepared.read_json("engines/orin-nx/prepared.json")["commands"]["build"].endswith(
        "--here"
    )


def test_here_without_tensorrt_says_where_it_is_built(monkeypatch: pytest.MonkeyPatch) -> None:
    from maskrt.core import MissingDependencyError, UnsupportedTargetError
    from maskrt.runtime.build import BuildOptions, build_engine, tensorrt

    if importlib.util.find_spec("tensorrt") is not None:
        pytest.skip("TensorRT is installed")
    target = maskrt.Target.parse("orin-nx")
    with pytest.raises(UnsupportedTargetError, match="the device itself, a Jetson Orin NX: copy"):
        build_engine(_model(), target, Precision.FP32, BuildOptions(here=True))
    monkeypatch.setattr(tensorrt, "is_jetson", lambda: True)
    with pytest.raises(MissingDependencyError, match="tensorrt is needed to build engines"):
        build_engine(_model(), target, Precision.FP32, BuildOptions(here=True))
