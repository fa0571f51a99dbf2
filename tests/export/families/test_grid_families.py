"""SOLO and SOLOv2: the canonical graph in ONNX Runtime finds what the eager model finds."""

from typing import Any

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from maskrt.checking import prove  # noqa: E402
from maskrt.core.masks import MaskFrame  # noqa: E402
from maskrt.export import export_model  # noqa: E402
from maskrt.export.families.backbones import resnet_fpn  # noqa: E402
from maskrt.export.families.grid import GridSettings  # noqa: E402
from maskrt.export.families.solo import SOLO  # noqa: E402
from maskrt.export.families.solov2 import SOLOv2  # noqa: E402

from .lively import enliven_grid  # noqa: E402

pytestmark = pytest.mark.torch

_SMALL = GridSettings(grids=(9, 8, 6, 5, 4), candidates=400)
_LAYERS = {"channels": 16, "depth": 1, "settings": _SMALL}


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def _tiny(name: str, **options: Any) -> Any:
    backbone = resnet_fpn(18, channels=16)
    if name == "solov2":
        return SOLOv2(backbone, 4, mask_channels=16, kernel=12, **{**_LAYERS, **options})
    return SOLO(backbone, 4, decoupled=name == "decoupled", **{**_LAYERS, **options})


def _prove(
    model: Any, photos: list[np.ndarray], size: tuple[int, int], batch: int, least: int = 6
) -> onnx.ModelProto:
    exported = export_model(enliven_grid(model, photos, size), input_size=size, batch=batch)
    assert exported.manifest.mask_frame is MaskFrame.CANVAS
    quarter = (-(-size[0] // 4), -(-size[1] // 4))
    assert exported.manifest.outputs["masks"] == (batch, model.max_detections, *quarter)
    found = prove(exported, photos)
    assert found["violations"] == [], found
    assert found["instances"] >= least, found
    return exported.model


@pytest.mark.parametrize("name", ["solov2", "solo", "decoupled"])
def test_other_sizes_and_batches(photos: list[np.ndarray], name: str) -> None:
    model = _prove(_tiny(name), photos, (100, 170), 2)
    kinds = {node.op_type for node in model.graph.node if node.domain == "maskrt"}
    assert kinds == {"MaskIoU", "MatrixNMS"}
    dynamic = {"NonZero", "NonMaxSuppression", "If", "Loop", "Range", "Shape"}
    assert not dynamic & {node.op_type for node in model.graph.node}
