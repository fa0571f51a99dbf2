"""Every body of Preprocess against Pillow, bit by bit, and against the runtime's letterbox."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto
from PIL import Image

from maskrt.core import (
    InputSpec,
    Precision,
    Target,
    UnsupportedModelError,
    UnsupportedTargetError,
)
from maskrt.plugins import attach_functions, lower
from maskrt.plugins.preprocess.resample import placed_size
from maskrt.runtime import letterbox
from maskrt.runtime.build import build_engine

from .bodies import every_body, one_node_model

torch = pytest.importorskip("torch")

from maskrt.plugins.preprocess.reference import preprocess  # noqa: E402

pytestmark = pytest.mark.torch

ATTRIBUTES: dict[str, Any] = {
    "height": 64, "width": 96, "pad_value": [124.0, 116.5, 104.0],
    "mean": [123.675, 116.28, 103.53], "std": [58.395, 57.12, 57.375], "half": 0,
}  # fmt: skip
PLAIN: dict[str, Any] = {**ATTRIBUTES, "mean": [0.0] * 3, "std": [1.0] * 3}


def noise(height: int, width: int, seed: int = 0) -> np.ndarray:
    generator = np.random.default_rng((seed, height, width))
    image = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
    image[generator.uniform(size=(height, width)) < 0.2] = generator.choice([0, 255])
    return image


def canvas_by_pillow(image: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the canvas, uint8 `[height, width, 3]`, and where the picture covers it, bool.

    One `resize` for each direction: left the choice, Pillow 13 resizes some tall pictures down
    first.
    """
    h, w = image.shape[:2]
    scale = min(height / h, width / w)
    rows, columns = (
        min(max(round(extent * scale), 1), limit) for extent, limit in ((h, height), (w, width))
    )
    across = Image.fromarray(image).resize((columns, h), Image.Resampling.BILINEAR)
    canvas, covered = np.zeros((height, width, 3), np.uint8), np.zeros((height, width), bool)
    canvas[:rows, :columns] = across.resize((columns, rows), Image.Resampling.BILINEAR)
    covered[:rows, :columns] = True
    return canvas, covered


def by_pillow(image: np.ndarray, attributes: Mapping[str, Any]) -> np.ndarray:
    """Return what Preprocess must make, `[1, 3, height, width]`, from Pillow and NumPy."""
    canvas, covered = canvas_by_pillow(image, attributes["height"], attributes["width"])
    pad, mean, std = (np.array(attributes[n], np.float32) for n in ("pad_value", "mean", "std"))
    pixels = np.where(covered[..., None], canvas.astype(np.float32), pad)
    tensor = ((pixels - mean) / std).transpose(2, 0, 1)[None]
    return tensor.astype(np.float16) if attributes["half"] else tensor


def _model(image: np.ndarray, attributes: Mapping[str, Any]) -> onnx.ModelProto:
    kind = TensorProto.FLOAT16 if attributes["half"] else TensorProto.FLOAT
    inputs = {"image": image.astype(np.int32)}
    model = one_node_model("Preprocess", inputs, {"tensor": kind}, **attributes)
    model.graph.input[0].type.tensor_type.elem_type = TensorProto.UINT8
    return model


def _check(image: np.ndarray, attributes: Mapping[str, Any]) -> None:
    """The reference and all bodies equal Pillow in every bit."""
    expected = by_pillow(image, attributes)
    reference = preprocess(torch.from_numpy(image), **attributes).numpy()
    assert reference.dtype == expected.dtype
    np.testing.assert_array_equal(reference, expected)
    for name, (found,) in every_body(_model(image, attributes), {"image": image}):
        assert found.dtype == expected.dtype
        np.testing.assert_array_equal(found, expected, err_msg=name)


SIZES = [
    (64, 96), (64, 50), (20, 96),  # fit
    (1, 1), (1, 7), (9, 1), (2, 3), (31, 40),  # are enlarged
    (65, 97), (128, 192), (300, 200), (200, 300), (1000, 37), (37, 1000),  # are shrunk
    (1, 4000), (4000, 1), (3, 50_000), (2500, 1900), (63, 97), (64, 97), (65, 96),
]  # fmt: skip


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_every_body_equals_pillow(size: tuple[int, int]) -> None:
    _check(noise(*size), ATTRIBUTES)


@pytest.mark.parametrize("half", [0, 1])
@pytest.mark.parametrize("canvas", [(320, 320), (100, 333), (512, 64), (600, 800)], ids=str)
def test_photographs(photos: list[np.ndarray], canvas: tuple[int, int], half: int) -> None:
    for photo in photos:
        _check(photo, {**ATTRIBUTES, "height": canvas[0], "width": canvas[1], "half": half})


def test_halves_go_to_even() -> None:
    for height, rows in ((5, 2), (7, 4)):
        assert placed_size((height, 6), (4, 3)) == (rows, 3)
        _check(noise(height, 6), {**ATTRIBUTES, "height": 4, "width": 3})


def _down_first(size: tuple[int, int], placed: tuple[int, int]) -> bool:
    """Whether Pillow 13 resizes down before across (ImagingResampleInner)."""
    fewer_rows, fewer_columns = size[0] - placed[0], size[1] - placed[1]
    return fewer_rows > 0 and fewer_rows > 2 * fewer_columns


def test_equals_the_runtime() -> None:
    """Bit by bit, whatever order Pillow prefers for the picture's shape."""
    generator = np.random.default_rng(0)
    spec = InputSpec(64, 96, pad_value=(1, 2, 3))
    attributes = {**PLAIN, "pad_value": [1.0, 2.0, 3.0]}
    kinds = set()
    for _ in range(150):
        size = (int(generator.integers(1, 400)), int(generator.integers(1, 400)))
        image = noise(*size)
        canvas, placement = letterbox(image, spec)
        assert placed_size(size, (64, 96)) == placement.canvas_size
        found = preprocess(torch.from_numpy(image), **attributes)[0].permute(1, 2, 0).numpy()
        kind = _down_first(size, placement.canvas_size)
        kinds.add(kind)
        np.testing.assert_array_equal(found, canvas)
    assert kinds == {False, True}


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    size=st.tuples(st.integers(1, 300), st.integers(1, 300)),
    canvas=st.tuples(st.integers(1, 90), st.integers(1, 90)),
    half=st.sampled_from([0, 1]),
)
def test_drawn_sizes(size: tuple[int, int], canvas: tuple[int, int], half: int) -> None:
    attributes = {**ATTRIBUTES, "height": canvas[0], "width": canvas[1], "half": half}
    _check(noise(*size), attributes)


@pytest.mark.parametrize("value", [0, 255])
def test_flat_pictures_stay_flat(value: int) -> None:
    for size in ((1001, 777), (3, 5)):
        image = np.full((*size, 3), value, np.uint8)
        found = preprocess(torch.from_numpy(image), **{**PLAIN, "pad_value": [float(value)] * 3})
        assert (found == value).all()
        _check(image, ATTRIBUTES)


def test_an_extreme_shrink_takes_more_parts_and_then_is_refused() -> None:
    for width in (300, 3000, 30_000, 90_000):
        _check(noise(1, width), {**ATTRIBUTES, "height": 1, "width": 4})
    model = _model(noise(1, 400_000), {**ATTRIBUTES, "height": 1, "width": 1})
    for form in ("function", "pluginless"):
        with pytest.raises(UnsupportedTargetError, match="sums are not exact"):
            lower(model, form)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"height": 0}, "height"),
        ({"width": 9000}, "width"),
        ({"pad_value": [0.0, 256.0, 0.0]}, "pad_value"),
        ({"mean": [1.0, 2.0]}, "mean"),
        ({"std": [1.0, 0.0, 1.0]}, "std"),
        ({"std": [1.0, float("nan"), 1.0]}, "std"),
        ({"half": 2}, "half"),
    ],
)
def test_illegal_attributes_are_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(UnsupportedModelError, match=words):
        attach_functions(_model(noise(9, 9), {**ATTRIBUTES, **change}))


@pytest.mark.rtx
@pytest.mark.parametrize("size", [(480, 640), (64, 50), (10, 30)], ids=str)
def test_tensorrt_rtx_builds_it(size: tuple[int, int]) -> None:
    for half in (0, 1):
        model = _model(noise(*size), {**ATTRIBUTES, "half": half})
        shape = model.graph.output[0].type.tensor_type.shape
        for extent in (1, 3, 64, 96):
            shape.dim.add().dim_value = extent
        assert build_engine(model, Target.parse("rtx-89"), Precision.FP32).files["engine.trt"]


def test_weights_survive_tf32() -> None:
    """What TensorRT may round the operands of a product to: 11 significant bits."""
    model = lower(_model(noise(480, 640), ATTRIBUTES), "pluginless")
    constants = {
        node.output[0]: onnx.numpy_helper.to_array(node.attribute[0].t)
        for node in model.graph.node
        if node.op_type == "Constant"
    }
    read = [constants[n.input[1]] for n in model.graph.node if n.op_type == "MatMul"]
    assert len(read) == 2
    for weights in read:
        mantissa, _ = np.frexp(weights)
        np.testing.assert_array_equal(mantissa * 2048, np.round(mantissa * 2048))
        # every sum of products is an integer that float32 holds
        assert (weights == weights.round()).all()
        assert 255 * weights.sum(axis=1).max() < 2**24
