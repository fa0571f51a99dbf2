"""Pictures in the middle of the canvas, squashed, and resized without antialiasing; and back."""

from pathlib import Path

import numpy as np
import pytest

from maskrt.core import Bundle, BundleError, InputSpec, Manifest, Placing, Resampling, UsageError
from maskrt.core.masks import MaskFrame
from maskrt.runtime import open_session
from maskrt.runtime.canvas_masks import crop_canvas_masks, paste_canvas_masks
from maskrt.runtime.check.definitions import defined_canvas_paste, defined_letterbox
from maskrt.runtime.letterbox import Placement, letterbox
from maskrt.runtime.postprocess import instances_of

SIZES = [(48, 64), (33, 21), (64, 64), (5, 200), (1, 3), (150, 190)]
GREY = (114, 114, 114)


def _spec(placing: Placing, resampling: Resampling = Resampling.BILINEAR) -> InputSpec:
    return InputSpec(64, 96, 1, GREY, placing, resampling)


def _picture(size: tuple[int, int]) -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (*size, 3)).astype(np.uint8)


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("placing", Placing)
@pytest.mark.parametrize("resampling", Resampling)
def test_a_canvas_is_its_definition(
    size: tuple[int, int], placing: Placing, resampling: Resampling
) -> None:
    spec = _spec(placing, resampling)
    canvas, place = letterbox(_picture(size), spec)
    expected, defined = defined_letterbox(_picture(size), spec)
    assert place == defined
    assert (canvas == expected).all()


@pytest.mark.parametrize("size", SIZES)
def test_the_middle_is_opencvs(size: tuple[int, int]) -> None:
    cv2 = pytest.importorskip("cv2")
    canvas, _ = letterbox(_picture(size), _spec(Placing.CENTRE))
    gain = min(64 / size[0], 96 / size[1])
    rows, columns = max(round(size[0] * gain), 1), max(round(size[1] * gain), 1)
    resized = cv2.resize(_picture(size), (columns, rows), interpolation=cv2.INTER_LINEAR)
    down, across = (64 - rows) / 2, (96 - columns) / 2
    expected = cv2.copyMakeBorder(
        resized, round(down - 0.1), round(down + 0.1), round(across - 0.1), round(across + 0.1),
        cv2.BORDER_CONSTANT, value=GREY,
    )  # fmt: skip
    # OpenCV's vector code rounds twice on the way, and so is a grey level off now and then.
    assert np.abs(canvas.astype(int) - expected).max() <= 1


@pytest.mark.parametrize("placing", Placing)
def test_boxes_come_back(placing: Placing) -> None:
    _, place = letterbox(_picture((150, 190)), _spec(placing))
    top, left, rows, columns = _spec(placing).area_of(150, 190)
    corners = np.array([[left, top, left + columns, top + rows]], np.float32)
    assert place.to_picture(corners).tolist() == [[0, 0, 190, 150]]
    middle = np.array([[left + columns / 2, top, left + columns, top + rows / 2]], np.float32)
    assert np.allclose(place.to_picture(middle), [[95, 0, 190, 75]], atol=1e-4)


@pytest.mark.parametrize("placing", Placing)
@pytest.mark.parametrize("frame", [MaskFrame.CANVAS_EVEN, MaskFrame.CANVAS_BOXED])
def test_masks_are_their_definition(placing: Placing, frame: MaskFrame) -> None:
    place = letterbox(_picture((150, 190)), _spec(placing))[1]
    random = np.random.default_rng(1)
    values = random.normal(0.5, 1.0, (9, 16, 24)).astype(np.float32)
    low = random.uniform(-5, 120, (9, 2))
    boxes = np.concatenate([low, low + random.uniform(0, 90, (9, 2))], 1).astype(np.float32)
    boxes = np.clip(boxes, 0, [190, 150, 190, 150]).astype(np.float32)
    found = paste_canvas_masks(values, place, frame=frame, boxes=boxes)
    expected = defined_canvas_paste(values, place, boxes, frame=frame)
    assert (found != expected).mean() < 1e-4  # float32 decides a pixel at the threshold otherwise
    for mask, crop in zip(found, crop_canvas_masks(values, place, frame=frame, boxes=boxes),
                          strict=True):  # fmt: skip
        height, width = crop.inside.shape
        part = mask[crop.top : crop.top + height, crop.left : crop.left + width]
        assert (part == crop.inside).all()
        assert part.sum() == mask.sum()


def test_a_mask_ends_with_its_box() -> None:
    place = Placement((64, 96), (64, 96), (64, 96))
    ones = np.ones((2, 16, 24), np.float32)
    boxes = np.array([[10.0, 20.0, 30.0, 40.0], [10.5, 20.5, 30.5, 40.5]], np.float32)
    outputs = {
        "boxes": boxes[None], "scores": np.ones((1, 2), np.float32),
        "labels": np.ones((1, 2), np.int32), "masks": ones[None], "count": np.array([2]),
    }  # fmt: skip
    masks = instances_of(outputs, 0, place, mask_frame=MaskFrame.CANVAS_BOXED).masks
    assert masks is not None
    for mask, (x, y) in zip(masks, ((10, 20), (11, 21)), strict=True):
        assert mask.sum() == 20 * 20
        assert mask[y : y + 20, x : x + 20].all()


def test_a_spec_says_no_more_than_it_must() -> None:
    plain = InputSpec(64, 96)
    assert set(plain.to_json()) == {"height", "width", "batch", "pad_value", "layout"}
    for placing in Placing:
        for resampling in Resampling:
            spec = _spec(placing, resampling)
            assert InputSpec.from_json(spec.to_json()) == spec


def _manifest(spec: InputSpec, frame: MaskFrame = MaskFrame.CANVAS_EVEN) -> Manifest:
    outputs = {
        "boxes": (1, 5, 4), "scores": (1, 5), "labels": (1, 5), "masks": (1, 5, 16, 24),
        "count": (1,),
    }  # fmt: skip
    return Manifest("onnx_yolo_seg", spec, outputs, mask_frame=frame)


def test_a_manifest_is_of_the_least_version_that_knows_it(tmp_path: Path) -> None:
    assert _manifest(InputSpec(64, 96)).format_version == 1
    assert _manifest(InputSpec(64, 96), MaskFrame.CANVAS_BOXED).format_version == 3
    manifest = _manifest(_spec(Placing.SQUASH))
    assert manifest.format_version == 3
    with Bundle.create(tmp_path / "b.maskrt", manifest):
        pass
    assert Bundle.open(tmp_path / "b.maskrt").manifest == manifest
    file = tmp_path / "b.maskrt" / "manifest.json"
    file.write_text(file.read_text().replace('"squash"', '"stretch"'))
    with pytest.raises(BundleError, match="placing is 'stretch'"):
        Bundle.open(tmp_path / "b.maskrt")


def test_a_gpu_that_letterboxes_refuses_what_it_would_place_otherwise(tmp_path: Path) -> None:
    with Bundle.create(tmp_path / "b.maskrt", _manifest(_spec(Placing.CENTRE))):
        pass
    with pytest.raises(UsageError, match="leave on_device out"):
        open_session(tmp_path / "b.maskrt", "cpu", on_device=True)
