"""Every body of MatrixNMS against the procedure that SOLOv2 publishes."""

from typing import Any

import numpy as np
import pytest
from onnx import TensorProto

from maskrt.core import Precision, Target, UnsupportedModelError
from maskrt.plugins import attach_functions
from maskrt.runtime.build import build_engine

from .bodies import every_body, one_node_model
from .host import run_every_way, run_on_host, run_sanitized

torch = pytest.importorskip("torch")

from maskrt.plugins.matrix_nms.reference import matrix_nms  # noqa: E402

pytestmark = pytest.mark.torch

NAMES = ("iou", "scores", "labels")
OUTPUTS = {"decayed": TensorProto.FLOAT}
BASE: dict[str, Any] = {"method": "gaussian", "sigma": 2.0, "class_agnostic": 0}
VARIANTS: list[dict[str, Any]] = [
    {},
    {"method": "linear"},
    {"method": "linear", "class_agnostic": 1},
    {"class_agnostic": 1, "sigma": 0.5},
]
CASES = 550  # a variant; four variants


def _draw(generator: np.random.Generator, least: int = 0) -> list[np.ndarray]:
    """IoU matrices with exact duplicates, and scores that tie."""
    batch, count = int(generator.integers(1, 4)), int(generator.integers(least, 80))
    iou = generator.uniform(0, 1, (batch, count, count)) ** 2
    iou = np.maximum(iou, iou.transpose(0, 2, 1))
    iou[iou > 0.98] = 1.0
    steps = generator.choice([1, 4, 1000])
    scores = np.ceil(generator.uniform(0, steps, (batch, count))) / steps
    labels = generator.integers(0, generator.choice([1, 3, 80]), (batch, count))
    return [iou.astype(np.float32), scores.astype(np.float32), labels.astype(np.int32)]


def _published(inputs: list[np.ndarray], a: dict[str, Any]) -> np.ndarray:
    """Sort, take upper triangles, compensate, decay: matrix NMS as SOLOv2's authors wrote it.

    Terms whose denominator is zero (exact duplicates) are left out, which theirs are not.
    """
    result = np.zeros_like(inputs[1])
    for b, (iou, scores, labels) in enumerate(zip(*inputs, strict=True)):
        order = np.argsort(-scores, kind="stable")
        same = labels[order][:, None] == labels[order][None]
        same = np.ones_like(same) if a["class_agnostic"] else same
        overlap = np.triu(iou[order][:, order] * same, 1).astype(np.float64)
        worst = overlap.max(0, initial=0)[:, None] * np.ones_like(overlap)
        if a["method"] == "linear":
            above, below = 1 - overlap, 1 - worst
        else:
            above, below = (np.exp(-a["sigma"] * x**2) for x in (overlap, worst))
        terms = np.divide(above, below, out=np.ones_like(above), where=below != 0)
        result[b, order] = scores[order] * terms.min(0, initial=1)
    return result


@pytest.mark.parametrize("change", VARIANTS, ids=str)
def test_every_onnx_body(change: dict[str, Any]) -> None:
    generator, a = np.random.default_rng(0), {**BASE, **change}
    for case in range(4):
        inputs = _draw(generator, least=1)
        named = dict(zip(NAMES, inputs, strict=True))
        model = one_node_model("MatrixNMS", named, OUTPUTS, **a)
        for name, (found,) in every_body(model, named):
            np.testing.assert_allclose(
                found, _published(inputs, a), rtol=1e-5, err_msg=f"{name} case {case}"
            )


@pytest.mark.parametrize("change", VARIANTS, ids=str)
def test_reference(change: dict[str, Any]) -> None:
    generator, a = np.random.default_rng(1), {**BASE, **change}
    for case in range(40):
        inputs = _draw(generator)
        found = matrix_nms(*(torch.from_numpy(value) for value in inputs), **a).numpy()
        np.testing.assert_allclose(found, _published(inputs, a), rtol=1e-5, err_msg=str(case))


@pytest.mark.parametrize("change", VARIANTS, ids=str)
def test_kernel_on_drawn_cases(change: dict[str, Any]) -> None:
    generator, a = np.random.default_rng(2), {**BASE, **change}
    for case in range(CASES):
        inputs = _draw(generator)
        (found,) = run_on_host("MatrixNMS", a, inputs)
        np.testing.assert_allclose(found, _published(inputs, a), rtol=1e-5, err_msg=str(case))


@pytest.mark.parametrize("method", ["linear", "gaussian"])
def test_numbers_that_are_none(method: str) -> None:
    """NaN scores decay nothing and stay; NaN overlaps count as none; infinite scores decay."""
    inputs = _draw(np.random.default_rng(3), least=40)
    iou, scores, _ = inputs
    iou[:, 3, :] = np.nan
    scores[:, 5], scores[:, 6] = np.nan, np.inf
    a = {**BASE, "method": method, "class_agnostic": 1}
    clean = [np.nan_to_num(iou, nan=0), np.where(np.isnan(scores), -1, scores), inputs[2]]
    expected = np.where(np.isnan(scores), np.nan, _published(clean, a))
    named = dict(zip(NAMES, inputs, strict=True))
    model = one_node_model("MatrixNMS", named, OUTPUTS, **a)
    everything = [(name, found) for name, (found,) in every_body(model, named)]
    everything.append(("kernel", run_on_host("MatrixNMS", a, inputs)[0]))
    reference = matrix_nms(*(torch.from_numpy(value) for value in inputs), **a).numpy()
    for name, found in [*everything, ("reference", reference)]:
        np.testing.assert_allclose(found, expected, rtol=1e-5, err_msg=name)


def test_kernel_in_any_order_and_under_sanitizers() -> None:
    generator = np.random.default_rng(4)
    for _ in range(5):
        run_every_way("MatrixNMS", BASE, _draw(generator))
    inputs = _draw(generator, least=34)
    (found,) = run_sanitized("MatrixNMS", BASE, inputs)
    np.testing.assert_allclose(found, _published(inputs, BASE), rtol=1e-5)


@pytest.mark.rtx
@pytest.mark.parametrize("change", VARIANTS[:2], ids=str)
def test_tensorrt_rtx_builds_it(change: dict[str, Any]) -> None:
    named = dict(zip(NAMES, _draw(np.random.default_rng(5), least=9), strict=True))
    model = one_node_model("MatrixNMS", named, OUTPUTS, **{**BASE, **change})
    assert build_engine(model, Target.parse("rtx-89"), Precision.FP32).files["engine.trt"]


@pytest.mark.parametrize(
    ("change", "words"), [({"method": "step"}, "method"), ({"sigma": 0.0}, "sigma")]
)
def test_illegal_attributes_are_refused(change: dict[str, Any], words: str) -> None:
    named = dict(zip(NAMES, _draw(np.random.default_rng(6), least=9), strict=True))
    model = one_node_model("MatrixNMS", named, OUTPUTS, **{**BASE, **change})
    with pytest.raises(UnsupportedModelError, match=words):
        attach_functions(model)
