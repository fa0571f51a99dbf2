"""SOLO and SOLOv2: the canonical graph in ONNX Runtime finds what the eager model finds."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

import maskrt  # noqa: E402
from maskrt.checking.conversion import prove  # noqa: E402
from maskrt.core import UsageError  # noqa: E402
from maskrt.core.masks import MaskFrame  # noqa: E402
from maskrt.core.operator_names import operator_of  # noqa: E402
from maskrt.export import export_model  # noqa: E402
from maskrt.export.families.backbones import resnet_fpn  # noqa: E402
from maskrt.export.families.grid import GridSettings  # noqa: E402
from maskrt.export.families.solo import SOLO  # noqa: E402
from maskrt.export.families.solov2 import SOLOv2  # noqa: E402
from maskrt.export.source import load_source  # noqa: E402

from ..steady import steady_pictures  # noqa: E402
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
    found = prove(exported, steady_pictures(exported.model, exported.manifest, photos))
    assert found["violations"] == [], found
    assert found["instances"] >= least, found
    return exported.model


@pytest.mark.parametrize(
    "name",
    [
        "solov2",
        pytest.param("solo", marks=pytest.mark.slow),
        pytest.param("decoupled", marks=pytest.mark.slow),
    ],
)
def test_other_sizes_and_batches(photos: list[np.ndarray], name: str) -> None:
    model = _prove(_tiny(name), photos, (100, 170), 2)
    kinds = {operator_of(n.op_type) for n in model.graph.node if n.domain == "maskrt"}
    assert kinds == {"MaskIoU", "MatrixNMS"}
    dynamic = {"NonZero", "NonMaxSuppression", "If", "Loop", "Range", "Shape"}
    assert not dynamic & {node.op_type for node in model.graph.node}


@pytest.mark.slow
@pytest.mark.rtx
def test_greedy_mask_nms(photos: list[np.ndarray], tmp_path: Path) -> None:
    settings = replace(_SMALL, nms="mask", overlap_threshold=0.4)
    model = _prove(_tiny("solov2", settings=settings), photos, (96, 128), 2)
    kinds = [node.op_type for node in model.graph.node]
    assert "MatrixNMS" not in kinds
    assert kinds.count("Loop") == 1
    bundle = maskrt.compile(
        enliven_grid(_tiny("solov2", settings=settings), photos, (96, 128)), tmp_path / "m.maskrt",
        input_size=(96, 128), precision="int8", calibration=photos, targets=["cpu", "rtx"],
    )  # fmt: skip
    layers = bundle.read_json("engines/rtx/engine.json")["layers"]
    assert layers["unknown"] == layers["fp32"] == 0  # INT8 where it pays, FP16 for the rest


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "norm"),  # SOLOv2 has every branch that takes a norm
    [("solov2", "batch"), ("solov2", "none"), ("solo", "batch"), ("decoupled", "none")],
)
def test_other_norms(photos: list[np.ndarray], name: str, norm: str) -> None:
    torch.manual_seed(1)
    _prove(_tiny(name, norm=norm), photos, (128, 96), 3)


@pytest.mark.slow
def test_linear_decay_and_few_detections(photos: list[np.ndarray]) -> None:
    settings = replace(_SMALL, method="linear", final_threshold=0.0)
    _prove(_tiny("solov2", settings=settings, max_detections=3), photos, (128, 128), 1)


@pytest.mark.parametrize("name", ["solov2", "solo", "decoupled"])
def test_the_reference_finds_nothing(name: str) -> None:
    """A picture without candidates, beside one with some or not."""
    model = _tiny(name, settings=replace(_SMALL, score_threshold=1.0)).eval()
    with torch.no_grad():
        found = model(torch.rand(2, 3, 64, 96))
    for one in found:
        shapes = [tuple(value.shape) for value in one]
        assert shapes == [(0, 4), (0,), (0,), (0, 16, 24)]


@pytest.mark.slow
def test_pictures_without_detections(photos: list[np.ndarray]) -> None:
    model = enliven_grid(_tiny("solov2"), photos, (96, 96))
    model.settings = replace(_SMALL, score_threshold=1.0)
    found = prove(export_model(model, input_size=(96, 96), batch=2), photos)
    assert found["instances"] == 0
    assert found["violations"] == []


@pytest.mark.slow
def test_the_proof_rejects_another_model(photos: list[np.ndarray]) -> None:
    """The checker can fail: kernels changed by a tenth are seen."""
    exported = export_model(enliven_grid(_tiny("solov2"), photos, (96, 96)), input_size=(96, 96))
    for tensor in exported.model.graph.initializer:
        if tensor.name.endswith("kernels.weight"):
            value = onnx.numpy_helper.to_array(tensor) * 1.1
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    assert prove(exported, photos)["violations"]


@pytest.mark.slow
@pytest.mark.parametrize("words", ["solov2_r50", "solov2_light_r50", "solo_r50"])
def test_models_of_the_papers(photos: list[np.ndarray], words: str) -> None:
    model: Any = load_source(f"maskrt:{words}", num_classes=5).model
    model.settings = replace(model.settings, candidates=100)
    _prove(model, photos, (128, 160), 1)


@pytest.mark.parametrize(
    ("words", "kind", "blocks"),
    [
        ("solo_r101", SOLO, 23),
        ("decoupled_solo_r101", SOLO, 23),
        ("solov2_r101", SOLOv2, 23),
        ("solov2_light_r34", SOLOv2, 6),
        ("solov2_light_r18", SOLOv2, 2),
        ("solo_scenes", SOLO, None),
    ],
)
def test_every_name_builds(words: str, kind: type, blocks: int | None) -> None:
    with torch.device("meta"):
        model: Any = load_source(f"maskrt:{words}", num_classes=9).model
    assert isinstance(model, kind)
    assert model.category_branch.logits.out_channels == 8
    if blocks is not None:
        assert len(model.backbone.body.layer3) == blocks


def test_settings_that_make_no_sense() -> None:
    with pytest.raises(UsageError, match="as many of each"):
        GridSettings(grids=(4, 3))
    with pytest.raises(UsageError, match="one of matrix, mask"):
        GridSettings(nms="soft")
    with pytest.raises(UsageError, match="method is 'gausian', and must be one of linear, gauss"):
        GridSettings(method="gausian")
    with pytest.raises(UsageError, match="there is no ResNet-20: give one of 18, 34, 50, 101"):
        resnet_fpn(20)
