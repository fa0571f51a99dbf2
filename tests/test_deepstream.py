"""DeepStream: the parser gives `Session`'s instances, and the graph and configuration fit nvinfer.

nvinfer itself is not here: the parser is compiled against its published structures
(`deepstream/nvdsinfer_custom_impl.h`) and called as it calls parsers (`deepstream/driver.cpp`).
"""

import configparser
import ctypes
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import maskrt
from maskrt.core import (
    Bundle,
    InputSpec,
    Manifest,
    Precision,
    UnsupportedModelError,
    UnsupportedTargetError,
    UsageError,
    silent,
)
from maskrt.core.bundle import MODEL
from maskrt.deepstream import PARSER, package_deepstream
from maskrt.plugins.adapters.host import host_compiler
from maskrt.runtime import Backend, Session, paste_masks
from maskrt.runtime.build.nvinfer_graph import suit_nvinfer
from maskrt.stages import write_recipe

HERE = Path(__file__).parent / "deepstream"
SPEC = InputSpec(96, 128)
SLOTS, SIDE, CLASSES = 12, 28, 4
FLOAT, HALF, INT32 = 0, 1, 3
Outputs = dict[str, np.ndarray]

# Section "Gst-nvinfer File Configuration Specifications" of the DeepStream developer guide, and
# gstnvinfer_property_parser.cpp: key → values that it takes, for the keys that are written here.
_PROPERTY: dict[str, Callable[[str], bool]] = {
    "gpu-id": str.isdigit,
    "gie-unique-id": lambda v: int(v) > 0,
    "process-mode": lambda v: v in ("1", "2"),
    "interval": str.isdigit,
    "batch-size": lambda v: 1 <= int(v) <= 1024,
    "model-engine-file": bool,
    "network-mode": lambda v: v in ("0", "1", "2", "3"),
    "labelfile-path": bool,
    "num-detected-classes": lambda v: int(v) > 0,
    "infer-dims": lambda v: [int(n) > 0 for n in v.split(";")] == [True] * 3,
    "network-input-order": lambda v: v in ("0", "1", "2"),
    "model-color-format": lambda v: v in ("0", "1", "2"),
    "net-scale-factor": lambda v: float(v) > 0,
    "maintain-aspect-ratio": lambda v: v in ("0", "1"),
    "symmetric-padding": lambda v: v in ("0", "1"),
    "scaling-filter": lambda v: 0 <= int(v) <= 5,
    "network-type": lambda v: v in ("0", "1", "2", "3", "100"),
    "cluster-mode": lambda v: v in ("0", "1", "2", "3", "4"),
    "output-instance-mask": lambda v: v in ("0", "1"),
    "segmentation-threshold": lambda v: 0 <= float(v) <= 1,
    "custom-lib-path": bool,
    "parse-bbox-instance-mask-func-name": bool,
}
_CLASS: dict[str, Callable[[str], bool]] = {
    "pre-cluster-threshold": lambda v: float(v) >= 0,
    "topk": lambda v: int(v) >= -1,
}


def _read(text: str) -> configparser.ConfigParser:
    """Read a configuration, or raise ValueError for what nvinfer does not know."""
    found = configparser.ConfigParser(delimiters="=", comment_prefixes="#", interpolation=None)
    found.read_string(text)
    for section in found.sections():
        known = {"property": _PROPERTY, "class-attrs-all": _CLASS}[section]
        for key, value in found[section].items():
            if key not in known or not known[key](value):
                raise ValueError(f"{key}={value}")
    return found


class Found(NamedTuple):
    """What the parser found: xyxy boxes, scores, labels, masks `[N, M, M]`."""

    boxes: np.ndarray
    scores: np.ndarray
    labels: np.ndarray
    masks: np.ndarray


class _Layer(ctypes.Structure):
    _fields_ = (
        ("name", ctypes.c_char_p), ("type", ctypes.c_int), ("dims", ctypes.c_uint * 3),
        ("num_dims", ctypes.c_uint), ("buffer", ctypes.c_void_p),
    )  # fmt: skip


Parse = Callable[..., Found | int]


@pytest.fixture(scope="module")
def parse(tmp_path_factory: pytest.TempPathFactory) -> Parse:
    """Compile the parser without a warning, and return a function that calls it on one frame."""
    folder = tmp_path_factory.mktemp("parser")
    source = Path(maskrt.__file__).with_name("nvdsinfer_maskrt.cpp")
    for file, name in ((source, "libnvdsinfer_maskrt.so"), (HERE / "driver.cpp", "driver.so")):
        subprocess.run(
            [host_compiler(), "-std=c++17", "-O1", "-Wall", "-Wextra", "-Werror", "-shared",
             "-fPIC", f"-I{HERE}", "-o", str(folder / name), str(file), "-ldl"],
            check=True,
        )  # fmt: skip
    driver = ctypes.CDLL(str(folder / "driver.so"))

    def call(
        outputs: Outputs,
        spec: InputSpec = SPEC,
        *,
        classes: int = CLASSES,
        threshold: float = 0.0,
        types: dict[str, int] | None = None,
    ) -> Found | int:
        layers = (_Layer * len(outputs))()
        kept = []
        for layer, (name, value) in zip(layers, outputs.items(), strict=True):
            kept.append(np.ascontiguousarray(value))
            layer.name, layer.num_dims = name.encode(), value.ndim
            layer.dims[: value.ndim] = value.shape
            layer.type = (types or {}).get(name, INT32 if value.dtype == np.int32 else FLOAT)
            layer.buffer = kept[-1].ctypes.data
        numbers = np.zeros((256, 9), np.float32)
        side = outputs["masks"].shape[-1] if "masks" in outputs else 1
        masks = np.zeros((256, side, side), np.float32)
        count = driver.parse(
            str(folder / "libnvdsinfer_maskrt.so").encode(), PARSER.encode(), layers, len(layers),
            spec.height, spec.width, classes, ctypes.c_float(threshold),
            numbers.ctypes.data_as(ctypes.c_void_p), masks.ctypes.data_as(ctypes.c_void_p),
        )  # fmt: skip
        if count < 0:
            return int(count)
        rows = numbers[:count]
        assert (rows[:, 6:] == (side, side, side * side * 4)).all()
        boxes = np.concatenate([rows[:, 1:3], rows[:, 1:3] + rows[:, 3:5]], axis=1)
        return Found(boxes, rows[:, 5], rows[:, 0].astype(np.int64), masks[:count])

    return call


class _Given(Backend):
    """An engine that returns what it was given."""

    def __init__(self, outputs: Outputs) -> None:
        self._outputs = {name: value[None] for name, value in outputs.items()}
        self._outputs["count"] = outputs["count"]

    def run(self, images: np.ndarray) -> Outputs:
        return self._outputs

    def describe(self) -> dict[str, Any]:
        return {"backend": "given", "version": "1"}

    def close(self) -> None:
        pass


def _outputs(seed: int) -> Outputs:
    """Draw an engine's outputs for one frame as nvinfer shows them: no batch, and count `[1]`."""
    draw = np.random.default_rng(seed)
    count = int(draw.integers(0, SLOTS + 1))
    corners = draw.uniform(-10, [140, 105] * 2, (SLOTS, 4))  # some outside, some turned over
    boxes = np.sort(corners.reshape(-1, 2, 2), axis=1).reshape(-1, 4)
    boxes[::5, 2:] = boxes[::5, :2]  # empty ones
    real = np.arange(SLOTS) < count
    return {
        "boxes": (boxes * real[:, None]).astype(np.float32),
        "scores": (np.sort(draw.uniform(0.05, 1, SLOTS))[::-1] * real).astype(np.float32),
        "labels": (draw.integers(1, CLASSES, SLOTS) * real).astype(np.int32),
        "masks": draw.uniform(0, 1, (SLOTS, SIDE, SIDE)).astype(np.float32),
        "count": np.array([count], np.int32),
    }


def _equal(found: Found | int, outputs: Outputs, picture: np.ndarray, session: Session) -> int:
    """Compare the parser's instances with the session's; return how many there are."""
    expected = session.predict(picture)
    assert isinstance(found, Found)
    np.testing.assert_allclose(found.boxes, expected.boxes, atol=2e-5)  # left + width is rounded
    np.testing.assert_array_equal(found.scores, expected.scores)
    np.testing.assert_array_equal(found.labels, expected.labels)
    at = [
        int(np.flatnonzero((outputs["masks"] == mask).all(axis=(1, 2)))[0]) for mask in found.masks
    ]
    pasted = paste_masks(found.masks, outputs["boxes"][at], expected.image_size)
    np.testing.assert_array_equal(pasted, expected.masks)
    return len(expected)


@pytest.mark.parametrize("seed", range(20))
def test_the_parser_gives_the_instances_of_a_session(parse: Parse, seed: int) -> None:
    outputs = _outputs(seed)
    with Session(_Given(outputs), SPEC) as session:
        found = parse(outputs)
        _equal(found, outputs, np.zeros((SPEC.height, SPEC.width, 3), np.uint8), session)


def test_what_lies_below_the_threshold_or_beyond_the_classes_is_left_out(parse: Parse) -> None:
    outputs = _outputs(3)
    every = parse(outputs)
    some = parse(outputs, threshold=0.5)
    assert isinstance(every, Found)
    assert isinstance(some, Found)
    assert 0 < len(some.scores) < len(every.scores)
    np.testing.assert_array_equal(some.scores, every.scores[every.scores >= 0.5])
    fewer = parse(outputs, classes=2)
    assert isinstance(fewer, Found)
    np.testing.assert_array_equal(fewer.scores, every.scores[every.labels < 2])


def test_numbers_that_are_not_finite_are_no_instances(parse: Parse) -> None:
    outputs = _outputs(3)
    every = parse(outputs)
    outputs["boxes"][1, 2] = np.nan
    rest = parse(outputs)
    assert isinstance(every, Found)
    assert isinstance(rest, Found)
    assert len(rest.scores) == len(every.scores) - 1


@pytest.mark.parametrize(("count", "found"), [(99, SLOTS), (-1, 0), (0, 0)])
def test_a_count_beyond_the_slots_reads_no_further(parse: Parse, count: int, found: int) -> None:
    outputs = _outputs(3)
    outputs["boxes"][:] = [1, 2, 30, 40]
    outputs["labels"][:] = 1
    outputs["count"][:] = count
    all_of_them = parse(outputs)
    assert isinstance(all_of_them, Found)
    assert len(all_of_them.scores) == found


def test_outputs_of_another_engine_are_refused(parse: Parse, capfd: Any) -> None:
    outputs = _outputs(0)
    for name in outputs:
        assert parse({k: v for k, v in outputs.items() if k != name}) == -1
        assert f"has no output {name}" in capfd.readouterr().err
    assert parse(outputs, types={"masks": HALF}) == -1
    assert "output masks has type 1" in capfd.readouterr().err
    assert parse({**outputs, "boxes": outputs["boxes"].ravel()}) == -1
    assert "1 dimensions, not 0 and 2" in capfd.readouterr().err


def _tiny_graph() -> onnx.ModelProto:
    """Cast, an empty detector, and a count: the interface of a standard graph."""
    float_, int_, shape = TensorProto.FLOAT, TensorProto.INT32, list(SPEC.shape)
    value = helper.make_tensor_value_info
    return helper.make_model(
        helper.make_graph(
            [
                helper.make_node("Cast", ["images"], ["float"], to=float_),
                helper.make_node("ReduceMax", ["float"], ["boxes"], axes=[1, 2], keepdims=1),
                helper.make_node("ReduceSum", ["boxes"], ["sum"], keepdims=0),
                helper.make_node("Cast", ["sum"], ["whole"], to=int_),
                helper.make_node("Reshape", ["whole", "one"], ["count"]),
                helper.make_node("Add", ["count", "count"], ["sum of two"]),
                helper.make_node("Reshape", ["sum of two", "square"], ["twice"]),
            ],
            "tiny", [value("images", TensorProto.UINT8, shape)],
            [value("boxes", float_, [1, 1, 1, 3]), value("count", int_, [1]),
             value("twice", int_, [1, 1])],
            [helper.make_tensor("one", TensorProto.INT64, [1], [1]),
             helper.make_tensor("square", TensorProto.INT64, [2], [1, 1])],
        ),
        opset_imports=[helper.make_opsetid("", 17)], ir_version=9,
    )  # fmt: skip


def test_the_graph_computes_the_same_from_planes_of_floats() -> None:
    runtime = pytest.importorskip("onnxruntime")
    graph = _tiny_graph()
    picture = np.random.default_rng(0).integers(0, 256, SPEC.shape, np.uint8)
    given = ["CPUExecutionProvider"]
    before = runtime.InferenceSession(graph.SerializeToString(), providers=given)
    expected = before.run(None, {"images": picture})
    suit_nvinfer(graph)
    after = runtime.InferenceSession(graph.SerializeToString(), providers=given)
    planes = np.ascontiguousarray(picture.transpose(0, 3, 1, 2).astype(np.float32))
    boxes, count, twice = after.run(None, {"images": planes})
    np.testing.assert_array_equal(boxes, expected[0])
    np.testing.assert_array_equal(count, expected[1][:, None])
    np.testing.assert_array_equal(twice, expected[2])


def test_a_graph_that_computes_in_uint8_is_refused() -> None:
    graph = _tiny_graph()
    graph.graph.node.insert(0, helper.make_node("Add", ["images", "images"], ["bright"]))
    with pytest.raises(UnsupportedTargetError, match="in Add before"):
        suit_nvinfer(graph)


@pytest.fixture(scope="module")
def packaged(tmp_path_factory: pytest.TempPathFactory, photos: list[np.ndarray]) -> Path:
    """A small Mask R-CNN, compiled at FP32, and packaged in the folder `ds`."""
    torch = pytest.importorskip("torch")

    from .export.detectors import enliven, tiny_mask_rcnn

    folder = tmp_path_factory.mktemp("deepstream")
    torch.manual_seed(0)
    model = enliven(tiny_mask_rcnn(), photos)
    names = ["background", *(f"class {n}" for n in range(1, _classes(model)))]
    maskrt.compile(model, folder / "tiny.maskrt", input_size=(128, 160), class_names=names)
    package_deepstream(folder / "tiny.maskrt", folder / "ds", target="orin-nx", min_score=0.25)
    return folder


def _classes(model: Any) -> int:
    return int(model.roi_heads.box_predictor.cls_score.out_features)


@pytest.mark.slow
@pytest.mark.torch
def test_a_packaged_model_finds_what_its_session_finds(
    packaged: Path, parse: Parse, photos: list[np.ndarray]
) -> None:
    """Pictures as large as the input, so that neither side letterboxes or scales."""
    runtime = pytest.importorskip("onnxruntime")
    engine = runtime.InferenceSession(
        packaged / "ds/model.onnx", providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in engine.get_outputs()]
    labels = (packaged / "ds/labels.txt").read_text().splitlines()
    total = 0
    with maskrt.load(packaged / "tiny.maskrt", "cpu") as session:
        assert tuple(labels) == tuple(session.class_names or ())
        for photo in photos:
            picture = np.ascontiguousarray(photo[40:168, 60:220])
            planes = picture.transpose(2, 0, 1)[None].astype(np.float32)
            outputs = dict(zip(names, engine.run(names, {"images": planes}), strict=True))
            frame = {name: value[0] for name, value in outputs.items()}
            found = parse(frame, session.spec, classes=len(labels))
            expected = session.predict(picture)
            assert isinstance(found, Found)
            np.testing.assert_array_equal(found.labels, expected.labels)
            np.testing.assert_allclose(found.boxes, expected.boxes, atol=1e-2)
            np.testing.assert_allclose(found.scores, expected.scores, atol=1e-4)
            total += len(expected)
    assert total > 10


@pytest.fixture
def by_hand(tmp_path: Path) -> Path:
    """The tiny graph in a bundle, packaged in the folder `ds`."""
    graph = _tiny_graph()
    outputs: dict[str, tuple[int, ...]] = {"boxes": (1, 4, 4), "masks": (1, 4, 28, 28)}
    manifest = Manifest("test", SPEC, {**outputs, "count": (1,)}, ("background", "disc"))
    with Bundle.create(tmp_path / "tiny.maskrt", manifest) as bundle:
        bundle.write(MODEL, graph.SerializeToString())
        write_recipe(bundle, graph, Precision.FP32, None, silent)
    return package_deepstream(
        tmp_path / "tiny.maskrt", tmp_path / "ds", target="orin-nx", min_score=0.25
    )


def test_the_configuration_has_nvinfers_keys_and_fits_the_graph(by_hand: Path) -> None:
    text = (by_hand / "config_infer_primary.txt").read_text()
    found = _read(text)
    graph = onnx.load(by_hand / "model.onnx").graph
    dims = [d.dim_value for d in graph.input[0].type.tensor_type.shape.dim]
    assert ";".join(map(str, dims[1:])) == found["property"]["infer-dims"] == "3;96;128"
    assert dims[0] == int(found["property"]["batch-size"])
    assert graph.input[0].type.tensor_type.elem_type == TensorProto.FLOAT
    # nvinfer stops at an output without a dimension beside the batch, and knows these types.
    for output in graph.output:
        assert len(output.type.tensor_type.shape.dim) >= 2
        assert output.type.tensor_type.elem_type in (TensorProto.FLOAT, TensorProto.INT32)
    assert found["property"]["parse-bbox-instance-mask-func-name"] == PARSER
    assert PARSER in (by_hand / "nvdsinfer_maskrt.cpp").read_text()
    assert found["property"]["custom-lib-path"] in (by_hand / "Makefile").read_text()
    assert "onnx-file" not in found["property"]
    assert found["class-attrs-all"]["pre-cluster-threshold"] == "0.25"
    labels = (by_hand / "labels.txt").read_text().splitlines()
    assert len(labels) == int(found["property"]["num-detected-classes"])


@pytest.mark.parametrize(
    ("old", "new"),
    [("cluster-mode=4", "cluster-mode=7"), ("network-type", "network-kind"), ("3;96", "96")],
)
def test_the_check_of_keys_refuses_what_nvinfer_does(by_hand: Path, old: str, new: str) -> None:
    text = (by_hand / "config_infer_primary.txt").read_text()
    with pytest.raises(ValueError, match="="):
        _read(text.replace(old, new))


@pytest.mark.slow
@pytest.mark.rtx
@pytest.mark.torch
def test_tensorrt_parses_the_graph(packaged: Path) -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    logger = trt.Logger(trt.Logger.ERROR)
    builder = trt.Builder(logger)
    network = builder.create_network()
    parser = trt.OnnxParser(network, logger)
    assert parser.parse((packaged / "ds/model.onnx").read_bytes()), parser.get_error(0)
    assert network.get_input(0).dtype == trt.float32
    assert tuple(network.get_input(0).shape) == (1, 3, 128, 160)
    outputs = [network.get_output(i) for i in range(network.num_outputs)]
    assert {o.name: len(o.shape) for o in outputs}["count"] == 2


def _bundle(path: Path, masks: bool, names: tuple[str, ...] | None) -> Bundle:
    outputs: dict[str, tuple[int, ...]] = {"boxes": (1, 4, 4), "count": (1,)}
    if masks:
        outputs["masks"] = (1, 4, 28, 28)
    with Bundle.create(path, Manifest("test", SPEC, outputs, names)):
        pass
    return Bundle.open(path)


def test_what_nvinfer_cannot_show_is_refused(tmp_path: Path) -> None:
    named = _bundle(tmp_path / "a.maskrt", True, ("background", "disc"))
    for target in ("cpu", "rtx", "xavier"):
        with pytest.raises(UnsupportedTargetError, match=f"target {target} has none"):
            package_deepstream(named, tmp_path / "ds", target=target)
    with pytest.raises(UnsupportedModelError, match="has no masks"):
        package_deepstream(_bundle(tmp_path / "b.maskrt", False, ("a", "b")), tmp_path / "ds")
    with pytest.raises(UnsupportedModelError, match="--class-names"):
        package_deepstream(_bundle(tmp_path / "c.maskrt", True, None), tmp_path / "ds")
    with pytest.raises(UsageError, match="exists"):
        package_deepstream(named, tmp_path)
    assert not (tmp_path / "ds").exists()
