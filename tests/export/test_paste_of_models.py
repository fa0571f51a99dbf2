"""`paste=` on a PyTorch model: for masks over boxes alone."""

import pytest

torch = pytest.importorskip("torch")

from maskrt.core import UsageError  # noqa: E402
from maskrt.core.masks import MaskPaste  # noqa: E402
from maskrt.export import export_model  # noqa: E402
from maskrt.export.zoo.yolact import yolact_scenes  # noqa: E402

from .detectors import tiny_mask_rcnn  # noqa: E402

pytestmark = pytest.mark.torch


def test_a_mask_rcnn_takes_either_paste() -> None:
    exported = export_model(tiny_mask_rcnn(), input_size=(64, 64), paste=MaskPaste.DETECTRON2)
    assert exported.manifest.mask_paste is MaskPaste.DETECTRON2


def test_masks_over_the_canvas_are_not_pasted() -> None:
    with pytest.raises(UsageError, match="no masks over boxes"):
        export_model(yolact_scenes(), input_size=(64, 64), paste=MaskPaste.DETECTRON2)
