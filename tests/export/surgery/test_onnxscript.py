"""torchvision's Faster R-CNN through torch.export and onnxscript, the exporter `dynamo=True`.

`torch.export` itself stops at torchvision's `batched_nms` (a size that depends on the picture is
compared with a number); `draft_export` assumes that there are boxes, and its program is exported.
"""

import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")

from maskrt.core.operator_names import operator_of  # noqa: E402

from ..detectors import enliven, tiny_mask_rcnn, tiny_one_map  # noqa: E402
from .foreign import equals_original, resized  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]


def _export(model: Any, photos: list[np.ndarray], size: tuple[int, int], path: Path) -> Path:
    from torch.export import draft_export

    shown = resized(photos, size)
    enliven(model, shown)
    picture = torch.from_numpy(shown[0].copy()).permute(2, 0, 1) / 255
    logging.disable(logging.WARNING)  # thousands of lines that pytest would keep
    try:
        program = draft_export(model, ([picture],), strict=False)
        torch.onnx.export(program, dynamo=True, verbose=False).save(path)
    finally:
        logging.disable(logging.NOTSET)
    return path


@pytest.mark.slow
def test_one_map(photos: list[np.ndarray], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = tiny_one_map()
    model.transform.min_size, model.transform.max_size = (64,), 96
    path = _export(model, photos, (64, 96), tmp_path / "m.onnx")
    rewritten = equals_original(path, photos)
    assert len(rewritten.graph.node) < 150


@pytest.mark.slow
def test_pyramid(photos: list[np.ndarray], tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = tiny_mask_rcnn(
        2, min_size=64, max_size=96, rpn_pre_nms_top_n_test=60, rpn_post_nms_top_n_test=30
    )  # the export takes it that each picture has as many proposals as the example
    heads = model.roi_heads
    heads.mask_roi_pool = heads.mask_head = heads.mask_predictor = None
    path = _export(model, photos, (64, 96), tmp_path / "m.onnx")
    rewritten = equals_original(path, photos)
    assert {operator_of(n.op_type) for n in rewritten.graph.node if n.domain} == {
        "MultilevelRoIAlign", "BatchedNMS",
    }  # fmt: skip
