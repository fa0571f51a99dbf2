"""Whose models' masks are pasted how, when they come from PyTorch."""

from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from maskrt.checking.conversion import prove  # noqa: E402
from maskrt.core import UsageError  # noqa: E402
from maskrt.core.masks import MaskPaste  # noqa: E402
from maskrt.export import export_model  # noqa: E402
from maskrt.export.families.registry import family_of  # noqa: E402
from maskrt.export.source import load_source  # noqa: E402
from maskrt.runtime import Session, paste_masks  # noqa: E402
from maskrt.runtime.backends.cpu import CpuBackend  # noqa: E402

from ..detectors import enliven, tiny_mask_rcnn  # noqa: E402

pytestmark = pytest.mark.torch
SIZE = (128, 160)


def _family_says(words: str) -> MaskPaste:
    model = load_source(words).model
    return family_of(model).mask_paste(model)


@pytest.mark.parametrize(
    ("words", "paste"),
    [
        ("maskrt:maskrcnn_r50_detectron2", MaskPaste.DETECTRON2),
        ("maskrt:maskrcnn_scenes", MaskPaste.TORCHVISION),
        ("torchvision:fasterrcnn_mobilenet_v3_large_fpn", MaskPaste.TORCHVISION),
    ],
)
def test_a_model_pastes_as_its_program(words: str, paste: MaskPaste) -> None:
    assert _family_says(words) is paste


@pytest.fixture(scope="module")
def lively(photos: list[np.ndarray]) -> Any:
    torch.manual_seed(0)
    model = tiny_mask_rcnn(2, min_size=SIZE[0], max_size=SIZE[1])
    enliven(model, photos)
    return model


def test_what_is_asked_for_comes_first(lively: Any, photos: list[np.ndarray]) -> None:
    """And is what a session pastes, from the very boxes and probabilities of the engine."""
    assert family_of(lively).mask_paste(lively) is MaskPaste.TORCHVISION
    exported = export_model(lively, input_size=SIZE, paste=MaskPaste.DETECTRON2)
    manifest = exported.manifest
    assert manifest.mask_paste is MaskPaste.DETECTRON2
    proof = prove(exported, photos[:2])
    assert proof["violations"] == []
    assert proof["instances"] > 10
    backend = CpuBackend(exported.model.SerializeToString())
    with Session(backend, manifest.input, mask_paste=manifest.mask_paste) as session:
        found = session.predict(photos[0])
        canvas, place = session.place(photos[0])
        outputs = session.run(canvas[None])
    count = int(outputs["count"][0])
    boxes = place.to_picture(outputs["boxes"][0, :count], clip=False)
    given = outputs["masks"][0, :count], boxes, place.image_size
    assert len(found) == count > 5
    np.testing.assert_array_equal(found.masks, paste_masks(*given, paste="detectron2"))
    assert (found.masks != paste_masks(*given)).any()


@pytest.mark.parametrize(
    "words", ["torchvision:fasterrcnn_mobilenet_v3_large_320_fpn", "maskrt:solov2_scenes"]
)
def test_models_without_masks_over_boxes_take_none(words: str) -> None:
    with pytest.raises(UsageError, match="paste is detectron2, and the model has no masks over"):
        export_model(words, input_size=(64, 64), paste=MaskPaste.DETECTRON2)
