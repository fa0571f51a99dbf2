"""Every body of MaskIoU against counting pixels in NumPy."""

import numpy as np
import pytest
from onnx import TensorProto

from maskrt.core import Precision, Target
from maskrt.runtime.build import build_engine

from .bodies import every_body, one_node_model
from .host import run_every_way, run_on_host, run_sanitized

torch = pytest.importorskip("torch")

from maskrt.plugins.mask_iou.reference import mask_iou  # noqa: E402

pytestmark = pytest.mark.torch

OUTPUTS = {"iou": TensorProto.FLOAT, "area": TensorProto.FLOAT}
CASES = 700  # a type; three types


def _draw(generator: np.random.Generator, dtype: str, least: int = 0) -> np.ndarray:
    """Masks of any size, with empty, full, equal and NaN ones among them."""
    batch, count = int(generator.integers(1, 3)), int(generator.integers(least, 36))
    size = generator.integers(1, 14, 2)
    masks = generator.uniform(0, 1, (batch, count, *size))
    kind = generator.integers(0, 8, (batch, count))
    masks[kind == 0] = 0
    masks[kind == 1] = 1
    if count:
        masks[kind == 2] = masks[0, 0]
    if dtype == "uint8":
        return (masks * 255).astype(np.uint8)
    masks[kind == 3] = np.nan
    return masks.astype(dtype)


def _threshold(dtype: str) -> float:
    return 127.0 if dtype == "uint8" else 0.5


def _expected(masks: np.ndarray, threshold: float) -> list[np.ndarray]:
    with np.errstate(invalid="ignore"):
        inside = masks.astype(np.float32) > threshold
    inside = inside.reshape(*masks.shape[:2], masks.shape[2] * masks.shape[3])
    shared = (inside[:, :, None] & inside[:, None]).sum(-1)
    union = (inside[:, :, None] | inside[:, None]).sum(-1)
    iou = np.where(union > 0, shared / np.maximum(union, 1), 0).astype(np.float32)
    return [iou, inside.sum(-1).astype(np.float32)]


def _assert_equal(found: list[np.ndarray], expected: list[np.ndarray], words: str = "") -> None:
    np.testing.assert_allclose(found[0], expected[0], rtol=1e-7, atol=0, err_msg=words)
    np.testing.assert_array_equal(found[1], expected[1], err_msg=words)


def test_every_onnx_body() -> None:
    generator = np.random.default_rng(0)
    for case in range(5):
        masks = _draw(generator, "float32", least=3)
        model = one_node_model("MaskIoU", {"masks": masks}, OUTPUTS, threshold=0.5)
        for name, found in every_body(model, {"masks": masks}):
            _assert_equal(found, _expected(masks, 0.5), f"{name} case {case}")


def test_reference() -> None:
    generator = np.random.default_rng(1)
    for case in range(50):
        masks = _draw(generator, "float32")
        found = mask_iou(torch.from_numpy(masks), threshold=0.5)
        _assert_equal([value.numpy() for value in found], _expected(masks, 0.5), f"case {case}")


@pytest.mark.parametrize("dtype", ["float32", "float16", "uint8"])
def test_kernel_on_drawn_cases(dtype: str) -> None:
    generator, a = np.random.default_rng(2), {"threshold": _threshold(dtype)}
    for case in range(CASES):
        masks = _draw(generator, dtype)
        found = run_on_host("MaskIoU", a, [masks])
        _assert_equal(found, _expected(masks, a["threshold"]), f"case {case}")


def test_kernel_on_a_large_mask() -> None:
    masks = np.random.default_rng(3).uniform(0, 1, (1, 3, 300, 401)).astype(np.float32)
    found = run_on_host("MaskIoU", {"threshold": 0.25}, [masks])
    _assert_equal(found, _expected(masks, 0.25))


def test_kernel_in_any_order_and_under_sanitizers() -> None:
    generator, a = np.random.default_rng(4), {"threshold": 0.5}
    for _ in range(5):
        masks = _draw(generator, "float32")
        _assert_equal(run_every_way("MaskIoU", a, [masks]), _expected(masks, 0.5))
    masks = _draw(generator, "float32", least=17)[:1, :18]
    _assert_equal(run_sanitized("MaskIoU", a, [masks]), _expected(masks, 0.5))


@pytest.mark.rtx
def test_tensorrt_rtx_builds_it() -> None:
    masks = _draw(np.random.default_rng(5), "float32", least=3)
    model = one_node_model("MaskIoU", {"masks": masks}, OUTPUTS, threshold=0.5)
    assert build_engine(model, Target.parse("rtx-89"), Precision.FP32).files["engine.trt"]
