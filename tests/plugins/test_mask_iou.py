"""Every body of MaskIoU against counting pixels in NumPy, to the bit."""

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper

from maskrt.core import Precision, Target, UnsupportedModelError
from maskrt.plugins import OPERATORS, attach_functions
from maskrt.plugins.launch import Tensor
from maskrt.runtime.build import build_engine

from .bodies import every_body, one_node_model
from .host import run_every_way, run_on_host, run_sanitized

torch = pytest.importorskip("torch")

from maskrt.plugins.mask_iou.reference import mask_iou  # noqa: E402

pytestmark = pytest.mark.torch

OUTPUTS = {"iou": TensorProto.FLOAT, "area": TensorProto.FLOAT}
DTYPES = ("float32", "float16", "uint8")
THRESHOLDS = {"float32": 0.5, "float16": 0.25, "uint8": 127.0}
CASES = 700  # a type; three types


def _draw(generator: np.random.Generator, dtype: str, least: int = 0) -> np.ndarray:
    """Masks of any size, with empty, full, equal, infinite and NaN ones among them."""
    batch, count = int(generator.integers(1, 3)), int(generator.integers(least, 28))
    height, width = generator.integers(1, 14, 2)
    if generator.random() < 0.05:  # more pixels than a block compares at a time
        batch, count, height, width = 1, max(count // 5, least), height + 60, width * 9 + 70
    masks = generator.uniform(0, 1, (batch, count, height, width))
    masks = np.where(generator.random(masks.shape) < 0.1, 0.5, masks)  # on the threshold
    kind = generator.integers(0, 9, (batch, count))
    masks[kind == 0] = 0
    masks[kind == 1] = 1
    if count:
        masks[kind == 2] = masks[0, 0]
    if dtype == "uint8":
        return (masks * 254).astype(np.uint8)
    masks[kind == 3] = np.nan
    masks[kind == 4, :, ::2] = np.inf
    masks[kind == 5, ::2] = -np.inf
    return masks.astype(dtype)


def _expected(masks: np.ndarray, threshold: float) -> list[np.ndarray]:
    with np.errstate(invalid="ignore"):
        inside = masks.astype(np.float32) > np.float32(threshold)
    inside = inside.reshape(*masks.shape[:2], masks.shape[2] * masks.shape[3])
    shared = np.zeros((*masks.shape[:2], masks.shape[1]), np.int64)
    union = shared.copy()
    for b, i in np.ndindex(masks.shape[:2]):
        shared[b, i] = (inside[b, i] & inside[b]).sum(-1)
        union[b, i] = (inside[b, i] | inside[b]).sum(-1)
    iou = shared.astype(np.float32) / np.maximum(union, 1).astype(np.float32)
    return [iou, inside.sum(-1).astype(np.float32)]


def _assert_equal(found: list[np.ndarray], expected: list[np.ndarray], words: str = "") -> None:
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs, err_msg=words, strict=True)


def _model(masks: np.ndarray, threshold: float) -> onnx.ModelProto:
    model = one_node_model(
        "MaskIoU", {"masks": np.broadcast_to(np.float32(0), masks.shape)}, OUTPUTS,
        threshold=threshold,
    )  # fmt: skip
    kind = helper.np_dtype_to_tensor_dtype(masks.dtype)
    model.graph.input[0].type.tensor_type.elem_type = kind
    return model


def _check_onnx_bodies(masks: np.ndarray, threshold: float) -> None:
    expected = _expected(masks, threshold)
    for name, found in every_body(_model(masks, threshold), {"masks": masks}):
        _assert_equal(found, expected, name)


@pytest.mark.parametrize("dtype", DTYPES)
def test_every_onnx_body(dtype: str) -> None:
    generator = np.random.default_rng(0)
    for _ in range(5):
        _check_onnx_bodies(_draw(generator, dtype, least=1), THRESHOLDS[dtype])


@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(0, 10_000),
    st.sampled_from(DTYPES),
    st.one_of(st.sampled_from([0.0, -1.0, 0.1, 1e38, 254.0]), st.floats(-2, 260, width=32)),
)
def test_every_threshold(seed: int, dtype: str, threshold: float) -> None:
    masks = _draw(np.random.default_rng(seed), dtype, least=1)[:, :9]
    _check_onnx_bodies(masks, threshold)
    found = mask_iou(torch.from_numpy(masks), threshold=threshold)
    _assert_equal([value.numpy() for value in found], _expected(masks, threshold))


def test_reference() -> None:
    generator = np.random.default_rng(1)
    for case in range(150):
        dtype = DTYPES[case % 3]
        masks = _draw(generator, dtype)
        found = mask_iou(torch.from_numpy(masks), threshold=THRESHOLDS[dtype])
        expected = _expected(masks, THRESHOLDS[dtype])
        _assert_equal([value.numpy() for value in found], expected, f"case {case}")


def test_what_it_means() -> None:
    masks = np.array([[[[1, 1, 1, 0]], [[0, 1, 1, 1]], [[0, 0, 0, 0]]]], np.uint8)
    iou = np.array([[[1, 0.5, 0], [0.5, 1, 0], [0, 0, 0]]], np.float32)
    area = np.array([[3, 3, 0]], np.float32)
    for name, found in every_body(_model(masks, 0.5), {"masks": masks}):
        _assert_equal(found, [iou, area], name)
    _assert_equal(run_on_host("MaskIoU", {"threshold": 0.5}, [masks]), [iou, area], "kernel")


def test_the_largest_masks_are_counted_exactly() -> None:
    masks = np.ones((1, 2, 4096, 4096), np.uint8)
    masks[0, 1, 77, 1234] = 0
    area = np.array([[2**24, 2**24 - 1]], np.float32)
    apart = np.float32(2**24 - 1) / np.float32(2**24)
    iou = np.array([[[1, apart], [apart, 1]]], np.float32)
    for name, found in every_body(_model(masks, 0.5), {"masks": masks}):
        _assert_equal(found, [iou, area], name)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", DTYPES)
def test_kernel_on_drawn_cases(dtype: str) -> None:
    generator, a = np.random.default_rng(2), {"threshold": THRESHOLDS[dtype]}
    for case in range(CASES):
        masks = _draw(generator, dtype)
        found = run_on_host("MaskIoU", a, [masks])
        _assert_equal(found, _expected(masks, a["threshold"]), f"case {case}")


@pytest.mark.parametrize(
    "shape", [(1, 3, 300, 401), (1, 2, 64, 64), (1, 2, 17, 241), (1, 129, 3, 5), (0, 3, 4, 4),
              (2, 3, 0, 7), (2, 0, 5, 5)]
)  # fmt: skip
def test_kernel_on_sizes_at_its_edges(shape: tuple[int, ...]) -> None:
    masks = np.random.default_rng(3).uniform(0, 1, shape).astype(np.float32)
    found = run_on_host("MaskIoU", {"threshold": -0.25}, [masks])
    _assert_equal(found, _expected(masks, -0.25))
    found = run_on_host("MaskIoU", {"threshold": 0.25}, [masks])
    _assert_equal(found, _expected(masks, 0.25))


def test_kernel_in_any_order() -> None:
    generator, a = np.random.default_rng(4), {"threshold": 0.5}
    for _ in range(5):
        masks = _draw(generator, "float32")
        _assert_equal(run_every_way("MaskIoU", a, [masks]), _expected(masks, 0.5))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("dtype", "shape"), [("float32", (1, 18, 7, 19)), ("uint8", (2, 2, 65, 65))]
)
def test_sanitizers_find_nothing(dtype: str, shape: tuple[int, ...]) -> None:
    masks = (np.random.default_rng(5).uniform(0, 2, shape)).astype(dtype)
    found = run_sanitized("MaskIoU", {"threshold": 0.5}, [masks])
    _assert_equal(found, _expected(masks, 0.5))


@pytest.mark.rtx
@pytest.mark.parametrize("dtype", DTYPES)
def test_tensorrt_rtx_builds_it(dtype: str) -> None:
    masks = _draw(np.random.default_rng(6), dtype, least=3)
    model = _model(masks, 0.5)
    assert build_engine(model, Target.parse("rtx-89"), Precision.FP32).files["engine.trt"]


@pytest.mark.parametrize("threshold", [float("nan"), float("inf"), 1e39])
def test_illegal_thresholds_are_refused(threshold: float) -> None:
    with pytest.raises(UnsupportedModelError, match="threshold"):
        OPERATORS["MaskIoU"].schema.validate({"threshold": threshold}, 1)


def test_masks_that_cannot_be_counted_are_refused() -> None:
    shape, a = (1, 2, 4096, 4097), {"threshold": 0.5}
    model: Any = _model(np.broadcast_to(np.uint8(0), shape), **a)
    with pytest.raises(UnsupportedModelError, match="4096 x 4097"):
        attach_functions(model)
    with pytest.raises(UnsupportedModelError, match="4096 x 4097"):
        OPERATORS["MaskIoU"].launch(a, [Tensor(shape, "uint8")])
