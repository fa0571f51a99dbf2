"""BatchedNMS's kernels, run on the host as a device would run them: exactly greedy, to the bit."""

from typing import Any

import numpy as np
import pytest

from maskrt.core import UnsupportedTargetError
from maskrt.plugins import OPERATORS
from maskrt.plugins.launch import Tensor

from .host import run_every_way, run_on_host, run_sanitized

BASE: dict[str, Any] = {
    "iou_threshold": 0.5,
    "score_threshold": 0.05,
    "max_outputs": 1000,
    "class_agnostic": 0,
}
VARIANTS: list[dict[str, Any]] = [
    {},
    {"class_agnostic": 1, "iou_threshold": 0.3},
    {"max_outputs": 5},
    {"iou_threshold": 0.0, "score_threshold": -1.0},
    {"score_threshold": 0.9, "max_outputs": 33},
    {"iou_threshold": 1.0, "max_outputs": 64},
]
CASES = 400  # a variant; six variants


def _draw(generator: np.random.Generator, least_batch: int = 0) -> list[np.ndarray]:
    """Candidates of every kind: on a grid, so that overlaps and scores tie often."""
    batch, count = int(generator.integers(least_batch, 4)), int(generator.integers(0, 140))
    reach = int(generator.integers(2, 60))
    start = generator.integers(0, reach, (batch, count, 2))
    boxes = np.concatenate([start, start + generator.integers(0, 12, start.shape)], -1)
    boxes = boxes.astype(np.float32)
    kind = generator.integers(0, 30, (batch, count))
    boxes[kind == 0, 2] -= 30  # of negative width
    boxes[kind == 1, 1] = np.nan
    boxes[kind == 2, 2:] = np.inf
    boxes[kind == 3] *= 1e30
    steps = generator.choice([1, 2, 10, 1000])  # 1: all scores are equal
    scores = (np.ceil(generator.uniform(0, steps, (batch, count))) / steps).astype(np.float32)
    scores[kind == 4] = np.nan
    scores[kind == 5] = np.inf
    scores[kind == 6] = -np.inf
    labels = generator.integers(0, generator.choice([1, 3, 80]), (batch, count))
    return [boxes, scores, labels.astype(np.int32)]


def _greedy(boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, a: dict[str, Any]) -> list:
    """The definition, one candidate after another; returns the kept indices."""
    order = [i for i in np.argsort(-scores, kind="stable") if scores[i] > a["score_threshold"]]
    area = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    alive, kept = dict.fromkeys(order), []
    for i in order:
        if i not in alive:
            continue
        kept.append(i)
        rest = np.array([j for j in alive if j != i], np.intp)
        low = np.maximum(boxes[i, :2], boxes[rest, :2])
        sides = np.maximum(np.minimum(boxes[i, 2:], boxes[rest, 2:]) - low, np.float32(0))
        shared = sides[:, 0] * sides[:, 1]
        struck = shared / (area[i] + area[rest] - shared) > np.float32(a["iou_threshold"])
        if not a["class_agnostic"]:
            struck &= labels[rest] == labels[i]
        alive = dict.fromkeys(rest[~struck])
    return kept[: a["max_outputs"]]


@np.errstate(all="ignore")
def _expected(inputs: list[np.ndarray], a: dict[str, Any]) -> list[np.ndarray]:
    boxes, scores, labels = inputs
    batch, most = len(boxes), a["max_outputs"]
    out = [
        np.zeros((batch, most, 4), np.float32),
        np.zeros((batch, most), np.float32),
        np.zeros((batch, most), np.int32),
        np.zeros((batch, most), np.int32),
        np.zeros(batch, np.int32),
    ]
    for b in range(batch):
        kept = np.array(_greedy(boxes[b], scores[b], labels[b], a), np.intp)
        for row, values in zip(out, (boxes[b], scores[b], labels[b]), strict=False):
            row[b, : len(kept)] = values[kept]
        out[3][b, : len(kept)] = kept
        out[4][b] = len(kept)
    return out


def _assert_equal(found: list[np.ndarray], expected: list[np.ndarray], words: str = "") -> None:
    for mine, theirs in zip(found, expected, strict=True):
        np.testing.assert_array_equal(mine, theirs, err_msg=words)


@pytest.mark.parametrize("change", VARIANTS, ids=str)
def test_drawn_cases_equal_brute_force(change: dict[str, Any]) -> None:
    a = {**BASE, **change}
    generator = np.random.default_rng(17)
    for case in range(CASES):
        inputs = _draw(generator)
        found = run_on_host("BatchedNMS", a, inputs)
        _assert_equal(found, _expected(inputs, a), f"case {case}")


@pytest.mark.torch
@pytest.mark.parametrize("count", [1000, 4096, 5000])
def test_thousands_equal_torchvision(count: int) -> None:
    torch = pytest.importorskip("torch")
    from torchvision.ops import nms

    generator = np.random.default_rng(count)
    start = generator.uniform(0, 200, (1, count, 2))
    boxes = np.concatenate([start, start + generator.uniform(5, 60, start.shape)], -1)
    inputs = [
        boxes.astype(np.float32),
        generator.uniform(0.1, 1, (1, count)).astype(np.float32),
        np.zeros((1, count), np.int32),
    ]
    kept = nms(torch.from_numpy(inputs[0][0]), torch.from_numpy(inputs[1][0]), 0.5).numpy()
    *_, indices, number = run_on_host("BatchedNMS", BASE, inputs)
    expected = kept[: BASE["max_outputs"]]
    assert number[0] == len(expected)
    np.testing.assert_array_equal(indices[0, : len(expected)], expected)


@pytest.mark.parametrize("count", [500, 4096])
def test_longest_chain_of_suppressions(count: int) -> None:
    """Each box strikes out the next alone: the last is decided by all before it."""
    x = np.arange(count, dtype=np.float32) * 4
    boxes = np.stack([x, np.zeros_like(x), x + 10, np.full_like(x, 10)], -1)[None]
    scores = np.linspace(1, 0.5, count, dtype=np.float32)[None]
    a = {**BASE, "iou_threshold": 0.4, "max_outputs": 4096}
    *_, indices, number = run_on_host(
        "BatchedNMS", a, [boxes, scores, np.zeros((1, count), np.int32)]
    )
    assert number[0] == count // 2
    np.testing.assert_array_equal(indices[0, : count // 2], np.arange(0, count, 2))


def test_order_of_threads_and_blocks_is_irrelevant() -> None:
    generator = np.random.default_rng(2)
    for _ in range(12):
        inputs = _draw(generator)
        _assert_equal(run_every_way("BatchedNMS", BASE, inputs), _expected(inputs, BASE))


@pytest.mark.slow
@pytest.mark.parametrize("change", VARIANTS[:3], ids=str)
def test_sanitizers_find_nothing(change: dict[str, Any]) -> None:
    a = {**BASE, **change}
    inputs = _draw(np.random.default_rng(6))
    _assert_equal(run_sanitized("BatchedNMS", a, inputs), _expected(inputs, a))


def test_too_many_candidates_are_refused() -> None:
    shapes = [(1, 20000, 4), (1, 20000), (1, 20000)]
    tensors = [Tensor(s, d) for s, d in zip(shapes, ("float32", "float32", "int32"), strict=True)]
    with pytest.raises(UnsupportedTargetError, match="16384 candidates"):
        OPERATORS["BatchedNMS"].launch(BASE, tensors)
