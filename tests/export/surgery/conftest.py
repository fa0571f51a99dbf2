"""One small Mask R-CNN from the old exporter, which all tests of a kind start from."""

from pathlib import Path

import numpy as np
import onnx
import pytest

from .foreign import export_old

SIZE = (64, 96)


@pytest.fixture(scope="package")
def small(photos: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The file: 64 x 96, 2 levels, 5 classes, opset 17."""
    torch = pytest.importorskip("torch")
    from ..detectors import tiny_mask_rcnn

    torch.manual_seed(0)
    model = tiny_mask_rcnn(2, min_size=64, max_size=96, rpn_pre_nms_top_n_test=60)
    path = tmp_path_factory.mktemp("small") / "small.onnx"
    return export_old(model, photos, SIZE, path, opset_version=17)


@pytest.fixture
def graph(small: Path) -> onnx.ModelProto:
    """Its content, to be changed by a test."""
    return onnx.load(small)
