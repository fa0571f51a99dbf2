"""The compiled parser finds what a `Session` finds, and refuses what another engine gives."""

from typing import Any

import numpy as np
import pytest

from maskrt.runtime import Backend, Session, paste_masks

from .parser import CLASSES, HALF, SPEC, Found, Outputs, Parse

SLOTS, SIDE = 12, 28


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
