"""Nothing but `Instances.masks` itself holds all masks at once, whatever masks are made of.

What NumPy allocates is counted (`tracemalloc`); all masks in full size are the measure.
"""

import tracemalloc
from collections.abc import Callable

import numpy as np
import pytest

from maskrt.core import InputSpec, Instances, Placing, Resampling
from maskrt.core.masks import MaskFrame
from maskrt.runtime.check import Agreement, Recorder, StoredResults, compare
from maskrt.runtime.check.evaluate import predict_timed
from maskrt.runtime.letterbox import placement
from maskrt.runtime.postprocess import instances_of

MIB = 1 << 20


def _instances(frame: MaskFrame, size: tuple[int, int], count: int, part: float = 1.0) -> Instances:
    """Each a disc over `part` of the sides of the picture, and a box as large."""
    spec = InputSpec(160, 160, 1, (114, 114, 114), Placing.CENTRE, Resampling.BILINEAR)
    place = placement(*size, spec)
    side = 28 if frame is MaskFrame.BOX else 40
    y, x = np.mgrid[:side, :side] + 0.5 - side / 2
    disc = (np.hypot(y, x) < side * 0.4).astype(np.float32) * 0.8 + 0.1
    top, left = place.offset
    height, width = place.canvas_size
    box = [left + 2, top + 2, left + part * width - 2, top + part * height - 2]
    outputs = {
        "boxes": np.tile(np.array(box, np.float32), (1, count, 1)),
        "scores": np.linspace(1, 0.6, count, dtype=np.float32)[None],
        "labels": np.ones((1, count), np.int32),
        "masks": np.tile(disc, (1, count, 1, 1)),
        "count": np.array([count]),
    }
    return instances_of(outputs, 0, place, mask_frame=frame)


def _peak(use: Callable[[], object]) -> int:
    tracemalloc.start()
    try:
        use()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def _stored(found: Instances) -> StoredResults:
    recorder = Recorder()
    recorder.add(1, found)
    return recorder.finish("", "")


def _uses(found: Instances, other: Instances) -> dict[str, Callable[[], object]]:
    picture = np.zeros((*found.image_size, 3), np.uint8)
    some = np.arange(0, len(found), 2)
    found.select(some[:1]).draw(picture)  # imports, and a font
    return {
        "to_coco": lambda: found.to_coco(1),
        "polygons": lambda: found.polygons(1.0),
        "draw": lambda: found.draw(picture),
        "select": lambda: found.select(some).to_coco(1),
        "each_crop": lambda: sum(crop.inside.size for crop in found.each_crop(some)),
        "compare": lambda: compare(found, other),
        "agreement": lambda: Agreement().add(found, other),
        "stored": lambda: _stored(_stored(found).of(1)),
        "timed": lambda: predict_timed(lambda _: [found], [picture]),
    }


@pytest.mark.parametrize("frame", [MaskFrame.BOX, MaskFrame.CANVAS_BOXED])
def test_no_use_holds_all_masks(frame: MaskFrame) -> None:
    pytest.importorskip("pycocotools")
    found, other = (_instances(frame, (240, 320), 60) for _ in range(2))
    whole = 60 * 240 * 320
    for name, use in _uses(found, other).items():
        assert _peak(use) < whole / 2, name
    assert found._pasted is None
    assert _peak(lambda: found.masks) >= whole  # so the count sees what it is to see


@pytest.mark.slow
def test_twelve_megapixels_cost_a_few_pictures_and_not_one_a_mask() -> None:
    """All masks of 24 instances are 288 MB there."""
    pytest.importorskip("pycocotools")
    found, other = (
        _instances(MaskFrame.CANVAS_BOXED, (3000, 4000), 24, part=0.5) for _ in range(2)
    )
    uses = _uses(found, other)
    for name in ("to_coco", "draw", "agreement", "stored", "timed"):
        assert _peak(uses[name]) < 160 * MIB, name
    assert found._pasted is other._pasted is None
