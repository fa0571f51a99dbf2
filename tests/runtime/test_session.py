"""From a picture to its instances: batches, scales, clipping, empty results, odd pictures."""

import os
import pickle
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from maskrt.core import (
    Bundle,
    InputError,
    InputSpec,
    Precision,
    PrecisionError,
    Target,
    UsageError,
)
from maskrt.runtime import STAGES, NullBackend, Session, open_session
from maskrt.runtime.backends.cpu import CpuBackend
from maskrt.runtime.letterbox import Placement, letterbox

SPEC = InputSpec(64, 64, batch=2)
BOXES = [[8, 8, 24, 40], [50, 8, 64, 40], [30, 30, 62, 62]]
LABELS = [1, 2, 2]
MakeBundle = Callable[..., Bundle]


def full(count: int) -> np.ndarray:
    return np.ones((count, 28, 28), np.float32)


@pytest.fixture
def session(make_bundle: MakeBundle, make_engine: Callable[..., bytes]) -> Iterator[Session]:
    pytest.importorskip("onnxruntime")
    engine = {"engine.onnx": make_engine(SPEC, BOXES, LABELS, full(3))}
    with open_session(make_bundle({"cpu": engine}, spec=SPEC)) as opened:
        yield opened


def test_one_picture_gives_one_instances(session: Session) -> None:
    found = session.predict(np.full((64, 64, 3), 128, np.uint8))
    assert len(found) == 3
    np.testing.assert_array_equal(found.boxes, BOXES)
    np.testing.assert_array_equal(found.labels, LABELS)
    np.testing.assert_allclose(found.scores[0], 128 / 255, atol=1e-4)
    assert found.boxes.dtype == found.scores.dtype == np.float32
    assert found.labels.dtype == np.int64
    assert found.class_names == ("background", "disc", "square")
    assert found.image_size == (64, 64)


def test_a_letterbox_of_the_callers_own_is_used_by_streams_too(
    make_engine: Callable[..., bytes],
) -> None:
    pytest.importorskip("onnxruntime")
    engine = CpuBackend(make_engine(SPEC, BOXES, LABELS, full(3)), threads=1)

    def darkened(image: np.ndarray, spec: InputSpec) -> tuple[np.ndarray, Placement]:
        canvas, place = letterbox(image, spec)
        return canvas // 2, place

    pictures = [np.full((64, 64, 3), value, np.uint8) for value in (200, 100, 60)]
    with Session(engine, SPEC, letterbox_with=darkened) as session:
        alone = session.predict(pictures)
        streamed = [frame.result() for frame in session.predict_stream(pictures)]
    for found in (alone, streamed):
        scores = [instances.scores[0] for instances in found]
        np.testing.assert_allclose(scores, np.array([100, 50, 30]) / 255, atol=1e-4)


def test_boxes_and_masks_are_in_picture_pixels(session: Session) -> None:
    found = session.predict(np.zeros((32, 128, 3), np.uint8))  # half size, covers 16 x 64
    np.testing.assert_array_equal(found.boxes, [[16, 16, 48, 32], [100, 16, 128, 32]])
    assert found.masks is not None
    assert found.masks.shape == (2, 32, 128)
    assert found.masks.dtype == bool
    inside = found.masks[0][:, 16:48]
    assert inside[18:].all()
    assert not found.masks[0][:, :14].any()
    assert not found.masks[0][:14].any()


def test_a_box_on_the_filling_alone_is_dropped(session: Session) -> None:
    found = session.predict(np.zeros((64, 32, 3), np.uint8))  # covers columns 0 to 32
    np.testing.assert_array_equal(found.boxes, [[8, 8, 24, 40], [30, 30, 32, 62]])
    np.testing.assert_array_equal(found.labels, [1, 2])


def test_masks_keep_the_place_of_an_unclipped_box(
    make_bundle: MakeBundle, make_engine: Callable[..., bytes]
) -> None:
    """A mask whose left half is set, on a box cut in the middle: the set half is what stays."""
    pytest.importorskip("onnxruntime")
    half = np.zeros((1, 28, 28), np.float32)
    half[:, :, :14] = 1
    engine = {"engine.onnx": make_engine(SPEC, [[0, 0, 64, 32]], [1], half)}
    with open_session(make_bundle({"cpu": engine}, spec=SPEC)) as opened:
        found = opened.predict(np.zeros((64, 32, 3), np.uint8))
    np.testing.assert_array_equal(found.boxes, [[0, 0, 32, 32]])
    assert found.masks is not None
    assert found.masks[0, 2:30, 2:30].all()


@pytest.mark.parametrize("count", [0, 1, 2, 3, 5])
def test_lists_of_any_length_keep_their_order(session: Session, count: int) -> None:
    images = [np.full((64, 64, 3), 40 * i, np.uint8) for i in range(count)]
    found = session.predict(images)
    assert isinstance(found, list)
    np.testing.assert_allclose(
        [f.scores[0] for f in found], [40 * i / 255 for i in range(count)], atol=1e-4
    )


def test_files_and_arrays_mix(session: Session, tmp_path: Path) -> None:
    file = tmp_path / "a.png"
    Image.new("L", (90, 30), 255).save(file)
    found = session.predict([file, str(file), np.zeros((10, 20, 3), np.uint8)])
    assert [f.image_size for f in found] == [(30, 90), (30, 90), (10, 20)]
    assert found[0].scores[0] > found[2].scores[0]


@pytest.mark.parametrize("shape", [(1, 4000, 3), (4000, 1, 3), (1, 1, 3), (500, 300)])
def test_odd_pictures_are_predicted(session: Session, shape: tuple[int, ...]) -> None:
    found = session.predict(np.zeros(shape, np.uint8))
    assert found.image_size == shape[:2]
    assert found.masks is not None
    assert found.masks.shape == (len(found), *shape[:2])


def test_a_bad_picture_is_named(session: Session, tmp_path: Path) -> None:
    file = tmp_path / "cut.jpg"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (99, 99, 3), np.uint8)).save(file)
    file.write_bytes(file.read_bytes()[:900])
    with pytest.raises(InputError, match=r"cut\.jpg is truncated"):
        session.predict([np.zeros((4, 4, 3), np.uint8), file])
    with pytest.raises(InputError, match="float32"):
        session.predict(np.zeros((4, 4, 3), np.float32))


def test_zero_detections(make_bundle: MakeBundle) -> None:
    with open_session(make_bundle({}, spec=SPEC), Target("null", "null")) as opened:
        found = opened.predict(np.zeros((30, 50, 3), np.uint8))
    assert len(found) == 0
    assert found.boxes.shape == (0, 4)
    assert found.labels.dtype == np.int64
    assert found.masks is not None
    assert found.masks.shape == (0, 30, 50)
    assert found.masks.dtype == bool
    assert found.to_coco(1) == []


def test_a_box_only_model_has_no_masks(
    make_bundle: MakeBundle, make_engine: Callable[..., bytes]
) -> None:
    pytest.importorskip("onnxruntime")
    engine = {"engine.onnx": make_engine(SPEC, BOXES, LABELS)}
    with open_session(make_bundle({"cpu": engine}, spec=SPEC), "cpu", "fp32") as opened:
        assert opened.predict(np.zeros((64, 64, 3), np.uint8)).masks is None


def test_masks_are_pasted_on_first_use_and_survive_pickling(session: Session) -> None:
    found = session.predict(np.zeros((64, 64, 3), np.uint8))
    assert callable(found.masks_source)
    copy = pickle.loads(pickle.dumps(found))
    assert found.masks is found.masks
    np.testing.assert_array_equal(copy.masks, found.masks)


@pytest.mark.parametrize(
    ("box", "mask", "words"),
    [(float("nan"), 1, "returned boxes that"), (float("inf"), 1, "returned boxes that"),
     (0, float("nan"), "returned masks that"),
     (float("nan"), float("inf"), "boxes and masks that")],
)  # fmt: skip
def test_numbers_that_are_not_finite_are_refused(
    make_bundle: MakeBundle, make_engine: Callable[..., bytes], box: float, mask: float, words: str
) -> None:
    pytest.importorskip("onnxruntime")
    masks = full(2)
    masks[1, 27, 27] = mask
    boxes = [[8, 8, 24, 40], [0, 0, box or 20, 9]]
    engine = {"engine.onnx": make_engine(SPEC, boxes, [1, 2], masks)}
    with (
        open_session(make_bundle({"cpu": engine}, spec=SPEC)) as opened,
        pytest.raises(PrecisionError, match=f"{words} are not finite"),
    ):
        opened.predict(np.zeros((8, 8, 3), np.uint8))


def test_timings_split_the_last_call(session: Session) -> None:
    assert set(session.timings.values()) == {0.0}
    session.predict([np.zeros((64, 64, 3), np.uint8)] * 3)
    assert tuple(session.timings) == STAGES
    assert all(ms > 0 for ms in session.timings.values())
    session.predict([])
    assert set(session.timings.values()) == {0.0}


def test_run_takes_exactly_the_engines_shape(session: Session) -> None:
    assert session.run(np.zeros(SPEC.shape, np.uint8))["boxes"].shape == (2, 4, 4)
    for wrong in (np.zeros((1, 64, 64, 3), np.uint8), np.zeros(SPEC.shape, np.float32)):
        with pytest.raises(InputError, match=r"takes uint8 \[2, 64, 64, 3\]"):
            session.run(wrong)


def test_describe_and_attributes(session: Session) -> None:
    description = session.describe()
    assert description["backend"] == "onnxruntime"
    assert description["target"] == "cpu"
    assert description["precision"] == "fp32"
    assert session.target == Target.parse("cpu")
    assert session.precision is Precision.FP32


def test_a_closed_session_says_so(session: Session) -> None:
    session.close()
    session.close()
    with pytest.raises(UsageError, match="closed"):
        session.predict(np.zeros((4, 4, 3), np.uint8))


def test_a_session_stands_on_any_backend() -> None:
    outputs = {"boxes": (2, 4, 4), "scores": (2, 4), "labels": (2, 4), "count": (2,)}
    with Session(NullBackend(outputs), SPEC) as opened:
        assert opened.predict(np.zeros((4, 4, 3), np.uint8)).masks is None
        assert opened.describe()["target"] is None


def test_importing_the_runtime_imports_nothing_heavy(tmp_path: Path) -> None:
    heavy = ("onnxruntime", "onnx", "PIL", "pycocotools", "tensorrt_rtx", "cuda", "torch")
    code = (
        "import sys, maskrt.runtime, maskrt.runtime.check\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        env=dict(os.environ),
    )
    assert done.stdout.strip() == "[]"
