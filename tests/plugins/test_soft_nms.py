"""Every body of SoftNMS against the paper's pseudo-code, one candidate after another in NumPy."""

from typing import Any

import numpy as np
import pytest

from maskrt.core import Precision, Target, UnsupportedModelError
from maskrt.plugins import attach_functions
from maskrt.runtime.build import build_engine

from .bodies import NMS_OUTPUTS as OUTPUTS
from .bodies import every_body, one_node_model
from .host import run_every_way, run_on_host, run_sanitized

torch = pytest.importorskip("torch")

from maskrt.plugins.soft_nms.reference import soft_nms  # noqa: E402

pytestmark = pytest.mark.torch

BASE: dict[str, Any] = {
    "method": "gaussian",
    "iou_threshold": 0.3,
    "sigma": 0.5,
    "score_threshold": 0.05,
    "max_outputs": 20,
    "class_agnostic": 0,
}
VARIANTS: list[dict[str, Any]] = [
    {},
    {"method": "linear"},
    {"method": "linear", "class_agnostic": 1, "iou_threshold": 0.0, "max_outputs": 32},
    {"class_agnostic": 1, "sigma": 0.1, "score_threshold": 0.3, "max_outputs": 3},
]
CASES = 550  # a variant; four variants


def _draw(generator: np.random.Generator, least: int = 0, least_batch: int = 1) -> list[np.ndarray]:
    """Candidates of every kind; scores are powers of two, so that many tie, or spread."""
    batch, count = (
        int(generator.integers(least_batch, 4)),
        int(generator.integers(least, max(least + 5, 45))),
    )
    start = generator.integers(0, int(generator.integers(2, 60)), (batch, count, 2))
    boxes = np.concatenate([start, start + generator.integers(0, 12, start.shape)], -1)
    boxes = boxes.astype(np.float32)
    kind = generator.integers(0, 30, (batch, count))
    boxes[kind == 0, 2] -= 30
    boxes[kind == 1, 1] = np.nan
    boxes[kind == 2, 2:] = np.inf
    if generator.random() < 0.4:
        scores = np.exp2(-generator.integers(0, 4, (batch, count))).astype(np.float32)
    else:
        scores = generator.uniform(0, 1, (batch, count)).astype(np.float32)
    scores[kind == 4] = np.nan
    scores[kind == 5] = -np.inf
    labels = generator.integers(0, generator.choice([1, 3, 80]), (batch, count))
    return [boxes, scores, labels.astype(np.int32)]


def _iou(box: np.ndarray, others: np.ndarray) -> np.ndarray:
    sides = np.minimum(box[2:], others[:, 2:]) - np.maximum(box[:2], others[:, :2])
    sides = np.maximum(sides, np.float32(0))
    shared = sides[:, 0] * sides[:, 1]
    area = (others[:, 2] - others[:, 0]) * (others[:, 3] - others[:, 1])
    return shared / ((box[2] - box[0]) * (box[3] - box[1]) + area - shared)


@np.errstate(all="ignore")
def _expected(inputs: list[np.ndarray], a: dict[str, Any]) -> list[np.ndarray]:
    boxes, scores, labels = inputs
    batch, most = len(boxes), a["max_outputs"]
    out = [np.zeros((batch, most, 4), np.float32), np.zeros((batch, most), np.float32),
           np.zeros((batch, most), np.int32), np.zeros((batch, most), np.int32),
           np.zeros(batch, np.int32)]  # fmt: skip
    for b in range(batch):
        left = {i: s for i, s in enumerate(scores[b]) if s > a["score_threshold"]}
        for place in range(most):
            if not left:
                break
            best = max(left, key=lambda i: (left[i], -i))
            score = left.pop(best)
            out[0][b, place], out[1][b, place] = boxes[b, best], score
            out[2][b, place], out[3][b, place] = labels[b, best], best
            out[4][b] = place + 1
            others = np.array(list(left), np.intp)
            for i, o in zip(others, _iou(boxes[b, best], boxes[b, others]), strict=True):
                if not a["class_agnostic"] and labels[b, i] != labels[b, best]:
                    continue
                if a["method"] == "linear":
                    left[i] *= np.float32(1) - o if o > np.float32(a["iou_threshold"]) else 1
                elif not np.isnan(o):
                    left[i] *= np.exp(-(o * o) / np.float32(a["sigma"]))
            left = {i: s for i, s in left.items() if s > a["score_threshold"]}
    return out


def _assert_equal(found: list[np.ndarray], expected: list[np.ndarray], words: str) -> None:
    """Scores to a few float32 steps (exponentials differ by that), all else exactly."""
    for index, (mine, theirs) in enumerate(zip(found, expected, strict=True)):
        if index == 1:
            np.testing.assert_allclose(mine, theirs, rtol=2e-6, err_msg=words)
        else:
            np.testing.assert_array_equal(mine, theirs, err_msg=words)


@pytest.mark.parametrize("change", VARIANTS, ids=str)
def test_every_onnx_body(change: dict[str, Any]) -> None:
    generator = np.random.default_rng(1)
    for case in range(4):
        inputs = _draw(generator, least=33)
        a = {**BASE, **change}
        named = dict(zip(("boxes", "scores", "labels"), inputs, strict=True))
        model = one_node_model("SoftNMS", named, OUTPUTS, **a)
        for name, found in every_body(model, named):
            _assert_equal(found, _expected(inputs, a), f"{name} case {case}")


@pytest.mark.parametrize("change", VARIANTS, ids=str)
def test_reference(change: dict[str, Any]) -> None:
    generator = np.random.default_rng(2)
    for case in range(20):
        inputs, a = _draw(generator), {**BASE, **change}
        found = soft_nms(*(torch.from_numpy(value) for value in inputs), **a)
        _assert_equal([value.numpy() for value in found], _expected(inputs, a), f"case {case}")


@pytest.mark.slow
@pytest.mark.parametrize("change", VARIANTS, ids=str)
def test_kernel_on_drawn_cases(change: dict[str, Any]) -> None:
    generator, a = np.random.default_rng(3), {**BASE, **change}
    for case in range(CASES):
        inputs = _draw(generator, least_batch=0)
        _assert_equal(run_on_host("SoftNMS", a, inputs), _expected(inputs, a), f"case {case}")


def test_kernel_on_thousands_of_overlapping_candidates() -> None:
    generator = np.random.default_rng(4)
    start = generator.uniform(0, 20, (1, 4096, 2))
    boxes = np.concatenate([start, start + generator.uniform(20, 40, start.shape)], -1)
    inputs = [
        boxes.astype(np.float32),
        generator.uniform(0, 1, (1, 4096)).astype(np.float32),
        np.zeros((1, 4096), np.int32),
    ]
    a = {**BASE, "method": "linear", "score_threshold": 0.001}
    _assert_equal(run_on_host("SoftNMS", a, inputs), _expected(inputs, a), "")


@pytest.mark.slow
def test_kernel_in_any_order_and_under_sanitizers() -> None:
    generator, a = np.random.default_rng(5), {**BASE, "method": "linear"}
    for _ in range(5):
        inputs = _draw(generator)
        _assert_equal(run_every_way("SoftNMS", a, inputs), _expected(inputs, a), "")
    inputs = _draw(generator, least=40)
    _assert_equal(run_sanitized("SoftNMS", a, inputs), _expected(inputs, a), "")


@pytest.mark.rtx
@pytest.mark.parametrize("method", ["linear", "gaussian"])
def test_tensorrt_rtx_builds_it(method: str) -> None:
    named = dict(zip(("boxes", "scores", "labels"), _draw(np.random.default_rng(6), 33),
                     strict=True))  # fmt: skip
    model = one_node_model("SoftNMS", named, OUTPUTS, **{**BASE, "method": method})
    assert build_engine(model, Target.parse("rtx-89"), Precision.FP32).files["engine.trt"]


@pytest.mark.parametrize(
    ("change", "words"),
    [({"method": "cubic"}, "method"), ({"sigma": 0.0}, "sigma"), ({"max_outputs": 0}, "max_out")],
)
def test_illegal_attributes_are_refused(change: dict[str, Any], words: str) -> None:
    named = dict(zip(("boxes", "scores", "labels"), _draw(np.random.default_rng(7), 33),
                     strict=True))  # fmt: skip
    model = one_node_model("SoftNMS", named, OUTPUTS, **{**BASE, **change})
    with pytest.raises(UnsupportedModelError, match=words):
        attach_functions(model)
