"""Every body of MatrixNMS against the procedure that SOLOv2 publishes, and against loops."""

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
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


def _draw(generator: np.random.Generator, least: int = 0, most: int = 70) -> list[np.ndarray]:
    """IoU matrices with exact duplicates, and scores that tie."""
    batch, count = int(generator.integers(1, 4)), int(generator.integers(least, most))
    iou = generator.uniform(0, 1, (batch, count, count)) ** 2
    iou = np.maximum(iou, iou.transpose(0, 2, 1))
    iou[iou > 0.98] = 1.0
    steps = generator.choice([1, 4, 1000])
    scores = np.ceil(generator.uniform(0, steps, (batch, count))) / steps
    labels = generator.integers(0, generator.choice([1, 3, 80]), (batch, count))
    return [iou.astype(np.float32), scores.astype(np.float32), labels.astype(np.int32)]


def _draw_numbers_that_are_none(generator: np.random.Generator) -> list[np.ndarray]:
    """The same, not symmetric, with what no overlap and no score should be."""
    iou, scores, labels = _draw(generator, least=1)
    odd = np.array([np.nan, np.inf, -np.inf, -0.5, 1.5, -0.0, 1.0, 1e-30], np.float32)
    where = generator.random(iou.shape) < 0.2
    iou[where] = generator.choice(odd, int(where.sum()))
    odd = np.array([np.nan, np.inf, -np.inf, -1.0, 0.0, -0.0, 1e-42], np.float32)
    where = generator.random(scores.shape) < 0.3
    scores[where] = generator.choice(odd, int(where.sum()))
    return [iou, scores, labels - 1]


def _published(inputs: list[np.ndarray], a: dict[str, Any]) -> np.ndarray:
    """Sort, take upper triangles, compensate, decay: matrix NMS as SOLOv2's authors wrote it.

    Terms whose denominator is zero (exact duplicates) count as 1; theirs are infinite or NaN.
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


def _by_loops(inputs: list[np.ndarray], a: dict[str, Any]) -> np.ndarray:
    """The schema's words, one candidate after another, in float32: exact where it is linear."""
    one, result = np.float32(1), np.zeros_like(inputs[1])
    for b, (iou, scores, labels) in enumerate(zip(*inputs, strict=True)):
        cut = np.where(np.isnan(iou), np.float32(0), np.clip(iou, 0, one))
        places = range(len(scores))
        better = [
            [i for i in places
             if (a["class_agnostic"] or labels[i] == labels[j])
             and (scores[i] > scores[j] or (scores[i] == scores[j] and i < j))]
            for j in places
        ]  # fmt: skip
        worst = [max((cut[k, i] for k in better[i]), default=np.float32(0)) for i in places]
        for j in places:
            terms = [one]
            for i in better[j]:
                if a["method"] == "gaussian":
                    squares = float(cut[i, j]) ** 2 - float(worst[i]) ** 2
                    terms.append(np.exp(min(-a["sigma"] * squares, 0)))
                elif worst[i] < 1:
                    terms.append((one - cut[i, j]) / (one - worst[i]))
            with np.errstate(invalid="ignore"):  # infinity times 0
                result[b, j] = scores[j] * np.float32(min(terms))
    return result


def _assert_close(found: np.ndarray, expected: np.ndarray, a: dict[str, Any], words: str) -> None:
    """Linear to the bit; the exponent is off by some float32 steps of sigma, and exp by some."""
    assert found.dtype == np.float32
    rtol = 0 if a["method"] == "linear" else 4e-7 * (1 + a["sigma"])
    np.testing.assert_allclose(found, expected, rtol=rtol, atol=1e-37, err_msg=words)


def _onnx_bodies(inputs: list[np.ndarray], a: dict[str, Any]) -> list[tuple[str, np.ndarray]]:
    named = dict(zip(NAMES, inputs, strict=True))
    model = one_node_model("MatrixNMS", named, OUTPUTS, **a)
    return [(name, found) for name, (found,) in every_body(model, named)]


def _reference(inputs: list[np.ndarray], a: dict[str, Any]) -> np.ndarray:
    return matrix_nms(*(torch.from_numpy(value) for value in inputs), **a).numpy()


def _kernel(inputs: list[np.ndarray], a: dict[str, Any]) -> np.ndarray:
    return run_on_host("MatrixNMS", a, inputs)[0]


@pytest.mark.parametrize("change", VARIANTS, ids=str)
def test_every_onnx_body(change: dict[str, Any]) -> None:
    generator, a = np.random.default_rng(0), {**BASE, **change}
    for case in range(4):
        inputs = _draw(generator, least=1)
        for name, found in _onnx_bodies(inputs, a):
            _assert_close(found, _by_loops(inputs, a), a, f"{name} case {case}")
            np.testing.assert_allclose(found, _published(inputs, a), rtol=1e-5, err_msg=name)


@settings(max_examples=30, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(
    st.integers(0, 10_000), st.sampled_from(["linear", "gaussian"]),
    st.sampled_from([1e-3, 0.5, 2.0, 300.0, 1e6]), st.sampled_from([0, 1]), st.booleans(),
)  # fmt: skip
def test_every_onnx_body_and_the_reference_on_anything(
    seed: int, method: str, sigma: float, class_agnostic: int, odd: bool
) -> None:
    generator = np.random.default_rng(seed)
    inputs = _draw_numbers_that_are_none(generator) if odd else _draw(generator, least=1)
    inputs = [value[..., :30] for value in (inputs[0][:, :30], *inputs[1:])]
    a = {"method": method, "sigma": sigma, "class_agnostic": class_agnostic}
    expected = _by_loops(inputs, a)
    for name, found in [*_onnx_bodies(inputs, a), ("reference", _reference(inputs, a))]:
        _assert_close(found, expected, a, name)


@pytest.mark.slow
@pytest.mark.parametrize("change", VARIANTS, ids=str)
def test_kernel_and_reference_on_drawn_cases(change: dict[str, Any]) -> None:
    generator, a = np.random.default_rng(2), {**BASE, **change}
    for case in range(CASES):
        inputs = _draw(generator)
        expected = _published(inputs, a)
        np.testing.assert_allclose(_kernel(inputs, a), expected, rtol=1e-5, err_msg=str(case))
        if case % 10 == 0:
            np.testing.assert_allclose(_reference(inputs, a), expected, rtol=1e-5)


@pytest.mark.parametrize("change", [*VARIANTS, {"sigma": 300.0}], ids=str)
def test_numbers_that_are_none(change: dict[str, Any]) -> None:
    generator, a = np.random.default_rng(3), {**BASE, **change}
    for case in range(25):
        inputs = _draw_numbers_that_are_none(generator)
        expected = _by_loops(inputs, a)
        _assert_close(_kernel(inputs, a), expected, a, f"kernel case {case}")
        _assert_close(_reference(inputs, a), expected, a, f"reference case {case}")


@pytest.mark.parametrize("change", VARIANTS[:3], ids=str)
@pytest.mark.parametrize("count", [1, 8, 9, 1501])
def test_kernel_on_counts_at_its_edges(count: int, change: dict[str, Any]) -> None:
    generator, a = np.random.default_rng(count), {**BASE, **change}
    inputs = [value[:1] for value in _draw(generator, count, count + 1)]
    np.testing.assert_allclose(_kernel(inputs, a), _published(inputs, a), rtol=1e-5)


@pytest.mark.parametrize("method", ["linear", "gaussian"])
def test_no_candidate_is_overlooked(method: str) -> None:
    """Each overlaps one other alone, so that one pair that is not seen is one wrong score."""
    generator, count, a = np.random.default_rng(8), 700, {**BASE, "method": method}
    one, other = generator.permutation(count).reshape(2, -1)
    iou = np.zeros((1, count, count), np.float32)
    iou[0, one, other] = iou[0, other, one] = generator.uniform(0.1, 0.9, count // 2)
    scores = generator.uniform(0.1, 1, (1, count)).astype(np.float32)
    inputs = [iou, scores, np.zeros((1, count), np.int32)]
    expected = _published(inputs, a)
    assert (expected < scores).sum() == count // 2
    np.testing.assert_allclose(_kernel(inputs, a), expected, rtol=2e-6)


def test_decay_by_hand() -> None:
    """The second duplicates the first, the third overlaps both; the fourth has another label."""
    iou = np.array([[1, 1, 0.5, 0.5], [1, 1, 0.5, 0.5], [0.5, 0.5, 1, 0.5], [0.5, 0.5, 0.5, 1]])
    inputs = [
        iou[None].astype(np.float32),
        np.array([[0.8, 0.8, 0.4, 0.2]], np.float32),
        np.array([[7, 7, 7, 9]], np.int32),
    ]
    linear = {**BASE, "method": "linear"}
    expected = np.array([[0.8, 0.0, 0.2, 0.2]], np.float32)
    for name, found in [*_onnx_bodies(inputs, linear), ("kernel", _kernel(inputs, linear))]:
        np.testing.assert_array_equal(found, expected, err_msg=name)
    expected = np.array([[0.8, 0.8 * np.exp(-2), 0.4 * np.exp(-0.5), 0.2]])
    for name, found in [*_onnx_bodies(inputs, BASE), ("kernel", _kernel(inputs, BASE))]:
        np.testing.assert_allclose(found, expected, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("method", ["linear", "gaussian"])
def test_exponentials_that_vanish_are_not_divided_by(method: str) -> None:
    """With sigma = 300, published code has 0 / 0 for the last in float32; here it stays."""
    iou = np.ones((1, 3, 3), np.float32)
    iou[0, 1, 2] = iou[0, 2, 1] = 0.875
    iou[0, 0, 2] = iou[0, 2, 0] = 0.0
    inputs = [iou, np.array([[3, 2, 1]], np.float32), np.zeros((1, 3), np.int32)]
    a = {**BASE, "method": method, "sigma": 300.0}
    expected = np.array([[3, 0, 1]], np.float32)
    for name, found in [
        *_onnx_bodies(inputs, a), ("kernel", _kernel(inputs, a)), ("", _reference(inputs, a)),
    ]:  # fmt: skip
        np.testing.assert_allclose(found, expected, atol=1e-37, rtol=0, err_msg=name)


@pytest.mark.parametrize("change", VARIANTS, ids=str)
def test_from_masks_as_published(change: dict[str, Any]) -> None:
    """MaskIoU and MatrixNMS in a row are what SOLOv2's code makes of masks, scores and labels."""
    generator, a = np.random.default_rng(7), {**BASE, **change}
    y, x = np.mgrid[:48, :64]
    cy, cx, radius = generator.uniform(8, 40, (3, 60, 1, 1))
    masks = ((y - cy) ** 2 + (x - cx) ** 2 < radius**2).astype(np.float32)[None]
    scores = generator.uniform(0.1, 1, (1, 60)).astype(np.float32)
    labels = generator.integers(0, 3, (1, 60)).astype(np.int32)
    flat = masks.reshape(60, -1).astype(np.float64)
    shared, area = flat @ flat.T, flat.sum(1)
    published = (shared / (area[:, None] + area - shared))[None]
    assert 0.3 < (published > 0).mean() < 1
    iou, _ = run_on_host("MaskIoU", {"threshold": 0.5}, [masks])
    found = _kernel([iou, scores, labels], a)
    expected = _published([published, scores, labels], a)
    assert (expected < 0.9 * scores).any()
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_kernel_in_any_order() -> None:
    generator = np.random.default_rng(4)
    for change in VARIANTS[:3]:
        inputs, a = _draw_numbers_that_are_none(generator), {**BASE, **change}
        _assert_close(run_every_way("MatrixNMS", a, inputs)[0], _by_loops(inputs, a), a, "")


@pytest.mark.slow
@pytest.mark.parametrize("change", VARIANTS[1:2] + VARIANTS[3:], ids=str)
def test_sanitizers_find_nothing(change: dict[str, Any]) -> None:
    inputs = [value[:1] for value in _draw(np.random.default_rng(5), 9, 12)]
    a = {**BASE, **change}
    _assert_close(run_sanitized("MatrixNMS", a, inputs)[0], _by_loops(inputs, a), a, "")


@pytest.mark.rtx
@pytest.mark.parametrize("change", VARIANTS, ids=str)
def test_tensorrt_rtx_builds_it(change: dict[str, Any]) -> None:
    named = dict(zip(NAMES, _draw(np.random.default_rng(5), least=9), strict=True))
    model = one_node_model("MatrixNMS", named, OUTPUTS, **{**BASE, **change})
    assert build_engine(model, Target.parse("rtx-89"), Precision.FP32).files["engine.trt"]


@pytest.mark.parametrize(
    ("change", "words"),
    [({"method": "step"}, "method"), ({"sigma": 0.0}, "sigma"), ({"sigma": 1e30}, "sigma"),
     ({"class_agnostic": 2}, "class_agnostic")],
)  # fmt: skip
def test_illegal_attributes_are_refused(change: dict[str, Any], words: str) -> None:
    named = dict(zip(NAMES, _draw(np.random.default_rng(6), least=9), strict=True))
    model = one_node_model("MatrixNMS", named, OUTPUTS, **{**BASE, **change})
    with pytest.raises(UnsupportedModelError, match=words):
        attach_functions(model)
