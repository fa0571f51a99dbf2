"""The packaged graph and configuration fit nvinfer, and find what a `Session` finds."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

import maskrt
from maskrt.compiling.stages import write_recipe
from maskrt.core import (
    Bundle,
    InputSpec,
    Manifest,
    Precision,
    StorageError,
    UnsupportedModelError,
    UnsupportedTargetError,
    UsageError,
    silent,
)
from maskrt.core.bundle import MODEL
from maskrt.core.masks import MaskFrame, MaskPaste
from maskrt.packaging import deepstream
from maskrt.packaging.deepstream import PARSER, package_deepstream
from maskrt.precision.request import RecipeRequest
from maskrt.runtime.build.canvas_to_boxes import lay_over_boxes
from maskrt.runtime.build.nvinfer_graph import suit_nvinfer

from .nvinfer_configuration import read_configuration
from .parser import SPEC, Found, Parse


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

    from ...export.detectors import enliven, tiny_mask_rcnn

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
    """Pictures that nobody scales, beside which nvinfer's letterbox is black, and ours is not."""
    runtime = pytest.importorskip("onnxruntime")
    engine = runtime.InferenceSession(
        packaged / "ds/model.onnx", providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in engine.get_outputs()]
    labels = (packaged / "ds/labels.txt").read_text().splitlines()
    total = 0
    with maskrt.load(packaged / "tiny.maskrt", "cpu") as session:
        assert tuple(labels) == tuple(session.class_names or ())
        for photo, (height, width) in itertools.product(photos, [(128, 160), (128, 133)]):
            picture = np.ascontiguousarray(photo[40 : 40 + height, 60 : 60 + width])
            planes = np.zeros((1, 3, 128, 160), np.float32)
            planes[0, :, :height, :width] = picture.transpose(2, 0, 1)
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
        write_recipe(bundle, graph, RecipeRequest(), silent)
    return package_deepstream(
        tmp_path / "tiny.maskrt", tmp_path / "ds", target="orin-nx", min_score=0.25
    )


@pytest.mark.parametrize(
    ("precision", "mode"), [("fp32", "0"), ("fp16", "2"), ("bf16", "3"), ("fp8", None)]
)
def test_every_precision_of_the_target_has_a_network_mode(
    by_hand: Path, precision: str, mode: str | None
) -> None:
    bundle, folder = by_hand.parent / "tiny.maskrt", by_hand.parent / "other"
    if mode is None:
        with pytest.raises(UnsupportedTargetError, match="FP8 cannot be had on target orin-nx"):
            package_deepstream(bundle, folder, target="orin-nx", precision=precision)
        return
    package_deepstream(bundle, folder, target="orin-nx", precision=precision)
    found = read_configuration((folder / "config_infer_primary.txt").read_text())
    assert found["property"]["network-mode"] == mode


def test_the_network_modes_cover_all_precisions() -> None:
    assert set(deepstream._NETWORK_MODES) == set(Precision)


def test_a_failure_leaves_no_half_of_a_folder(
    by_hand: Path, fill_disk: Callable[[str], None]
) -> None:
    fill_disk("Makefile")
    with pytest.raises(StorageError, match="No space left"):
        package_deepstream(by_hand.parent / "tiny.maskrt", by_hand.parent / "x", target="gpu")
    assert sorted(p.name for p in by_hand.parent.iterdir()) == ["ds", "tiny.maskrt"]


def test_the_configuration_has_nvinfers_keys_and_fits_the_graph(by_hand: Path) -> None:
    text = (by_hand / "config_infer_primary.txt").read_text()
    found = read_configuration(text)
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
        read_configuration(text.replace(old, new))


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


def _bundle(
    path: Path, masks: bool, names: tuple[str, ...] | None, spec: InputSpec = SPEC
) -> Bundle:
    outputs: dict[str, tuple[int, ...]] = {"boxes": (1, 4, 4), "count": (1,)}
    if masks:
        outputs["masks"] = (1, 4, 28, 28)
    with Bundle.create(path, Manifest("test", spec, outputs, names)):
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
    several = InputSpec(SPEC.height, SPEC.width, batch=4)
    bundle = _bundle(tmp_path / "d.maskrt", True, ("background", "disc"), several)
    with pytest.raises(UnsupportedModelError, match=r"4 pictures a call, .* --batch 1"):
        package_deepstream(bundle, tmp_path / "ds")
    assert not (tmp_path / "ds").exists()


def test_the_readme_says_how_outlines_differ(by_hand: Path) -> None:
    assert "torchvision's rule, which maskrt follows" in (by_hand / "README.md").read_text()
    bundle = Bundle.open(by_hand.parent / "tiny.maskrt")
    with bundle.edit() as staged:
        staged.update(mask_paste=MaskPaste.DETECTRON2)
    other = package_deepstream(bundle, by_hand.parent / "other", target="orin-nx")
    text = (other / "README.md").read_text()
    assert "detectron2's rule, which maskrt follows" in text
    assert "torchvision" not in text


def _canvas_graph(boxes: np.ndarray, masks: np.ndarray) -> onnx.ModelProto:
    """A graph that finds the same in every picture; its masks are over the canvas."""
    value, constant = helper.make_tensor_value_info, numpy_helper.from_array
    count = np.array([len(boxes)], np.int32)
    made = {
        "boxes": boxes[None], "masks": masks[None], "count": count,
        "scores": np.full((1, len(boxes)), 0.9, np.float32),
        "labels": np.ones((1, len(boxes)), np.int32),
    }  # fmt: skip
    nodes = [
        helper.make_node("Cast", ["images"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("ReduceMin", ["float"], ["least"], keepdims=0),
        helper.make_node("Mul", ["least", "zero"], ["nothing"]),
        helper.make_node("Cast", ["nothing"], ["none"], to=TensorProto.INT32),
    ]
    for name, array in made.items():
        zero = "none" if array.dtype == np.int32 else "nothing"
        nodes.append(helper.make_node("Add", [f"{name}.known", zero], [name]))
    known = [constant(array, f"{name}.known") for name, array in made.items()]
    known.append(constant(np.float32(0), "zero"))
    kinds = {name: helper.np_dtype_to_tensor_dtype(array.dtype) for name, array in made.items()}
    outputs = [value(name, kinds[name], array.shape) for name, array in made.items()]
    images = value("images", TensorProto.UINT8, list(SPEC.shape))
    graph = helper.make_graph(nodes, "canvas", [images], outputs, known)
    opsets = [helper.make_opsetid("", 19)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def _sampled(mask: np.ndarray, box: np.ndarray, side: int, kind: MaskFrame) -> np.ndarray:
    """Bilinear samples of one canvas mask at the centres of `side` x `side` cells of a box."""
    found = np.zeros((side, side))
    for row in range(side):
        for column in range(side):
            at = []
            for place, (index, extent) in enumerate(
                ((row, mask.shape[0]), (column, mask.shape[1]))
            ):
                first, last = box[1 - place], box[3 - place]
                pixel = first + (index + 0.5) / side * (last - first)
                even = extent / (SPEC.height, SPEC.width)[place]
                element = {
                    MaskFrame.CANVAS: pixel / 4 - 0.5,
                    MaskFrame.CANVAS_LATE: (pixel - 2.5) / 4,
                    MaskFrame.CANVAS_EVEN: pixel * even - 0.5,
                    MaskFrame.CANVAS_BOXED: pixel * even - 0.5,
                }[kind]
                at.append(min(max(element, 0), extent - 1))
            (top, left), (down, across) = np.floor(at).astype(int), np.mod(at, 1)
            under, right = min(top + 1, mask.shape[0] - 1), min(left + 1, mask.shape[1] - 1)
            above = mask[top, left] * (1 - across) + mask[top, right] * across
            below = mask[under, left] * (1 - across) + mask[under, right] * across
            found[row, column] = above * (1 - down) + below * down
    return found


@pytest.mark.parametrize("frame", [frame for frame in MaskFrame if frame is not MaskFrame.BOX])
def test_masks_over_the_canvas_are_laid_over_their_boxes(
    tmp_path: Path, parse: Parse, frame: MaskFrame
) -> None:
    """As YOLACT, SOLO and CondInst have them; compared with samples taken one by one."""
    runtime = pytest.importorskip("onnxruntime")
    rng = np.random.default_rng(0)
    boxes = np.array([[3.5, 8, 60, 90], [0, 0, 128, 96], [100.25, 70.5, 127.5, 95]], np.float32)
    more = (
        3 if frame in (MaskFrame.CANVAS_EVEN, MaskFrame.CANVAS_BOXED) else 0
    )  # as many prototypes as there are
    sides = (SPEC.height // 4 + more, SPEC.width // 4 + more)
    masks = rng.uniform(0, 1, (3, *sides)).astype(np.float32)
    graph = _canvas_graph(boxes, masks)
    outputs = {o.name: tuple(d.dim_value for d in o.type.tensor_type.shape.dim)
               for o in graph.graph.output}  # fmt: skip
    names = ("background", "disc")
    manifest = Manifest("test", SPEC, outputs, names, mask_frame=frame)
    with Bundle.create(tmp_path / "canvas.maskrt", manifest) as bundle:
        bundle.write(MODEL, graph.SerializeToString())
        write_recipe(bundle, graph, RecipeRequest(), silent)
    folder = package_deepstream(tmp_path / "canvas.maskrt", tmp_path / "ds", target="agx-orin")
    engine = runtime.InferenceSession(folder / "model.onnx", providers=["CPUExecutionProvider"])
    given = np.ones((1, 3, SPEC.height, SPEC.width), np.float32)
    names_of = [output.name for output in engine.get_outputs()]
    shown = dict(zip(names_of, (v[0] for v in engine.run(None, {"images": given})), strict=True))
    found = parse(shown, SPEC, classes=2)
    assert isinstance(found, Found)
    np.testing.assert_allclose(found.boxes, boxes, atol=1e-5)
    assert found.masks.shape == (3, 64, 64)
    for mask, box, got in zip(masks, boxes, found.masks, strict=True):
        np.testing.assert_allclose(got, _sampled(mask, box, 64, frame), atol=1e-5)
    text = (folder / "README.md").read_text()
    assert "masks cover the whole picture" in text
    assert "/usr/src/tensorrt/bin/trtexec --onnx" in text


@pytest.mark.rtx
def test_tensorrt_takes_masks_over_the_canvas() -> None:
    trt = pytest.importorskip("tensorrt_rtx")
    graph = _canvas_graph(np.ones((3, 4), np.float32), np.ones((3, 24, 32), np.float32))
    lay_over_boxes(graph, MaskFrame.CANVAS, (SPEC.height, SPEC.width))
    suit_nvinfer(graph)
    builder = trt.Builder(trt.Logger(trt.Logger.ERROR))
    network = builder.create_network()
    parser = trt.OnnxParser(network, builder.logger)
    assert parser.parse(graph.SerializeToString()), parser.get_error(0)
    assert tuple(network.get_output(1).shape) == (1, 3, 64, 64)
    assert builder.build_serialized_network(network, builder.create_builder_config()) is not None
