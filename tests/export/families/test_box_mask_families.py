"""YOLACT and CondInst: the canonical graph in ONNX Runtime finds what the eager model finds."""

from typing import Any

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from maskrt.checking.conversion import prove  # noqa: E402
from maskrt.core import UsageError  # noqa: E402
from maskrt.core.masks import MaskFrame  # noqa: E402
from maskrt.core.operator_names import operator_of  # noqa: E402
from maskrt.export import export_model  # noqa: E402
from maskrt.export.families import condinst_graph  # noqa: E402
from maskrt.export.families.backbones import resnet_fpn  # noqa: E402
from maskrt.export.families.condinst import CondInst, CondInstInference  # noqa: E402
from maskrt.export.families.yolact import Anchors, Yolact, YolactInference  # noqa: E402
from maskrt.export.families.yolact_pyramid import yolact_resnet  # noqa: E402

from ..steady import steady_pictures  # noqa: E402
from .lively import enliven_condinst, enliven_yolact  # noqa: E402

pytestmark = pytest.mark.torch

_DYNAMIC = {"NonZero", "NonMaxSuppression", "If", "Loop", "Range", "Shape", "RoiAlign"}
_SMALL = Anchors(scales=(16, 28, 50, 90, 140))


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def _prove(
    model: Any, photos: list[np.ndarray], size: tuple[int, int], batch: int
) -> onnx.ModelProto:
    """Export, compare on photographs, and see that enough was found to mean something."""
    enliven = enliven_yolact if isinstance(model, Yolact) else enliven_condinst
    exported = export_model(enliven(model, photos, size), input_size=size, batch=batch)
    assert exported.manifest.source["labels"] == 3
    cell = 8 if isinstance(model, Yolact) else 4  # prototypes: twice the finest map
    rows, columns = (-(-side // cell) * cell // 4 for side in size)
    assert exported.manifest.mask_frame is model.mask_frame
    assert exported.manifest.outputs["masks"] == (batch, model.max_detections, rows, columns)
    found = prove(exported, steady_pictures(exported.model, exported.manifest, photos))
    assert found["violations"] == [], found
    assert found["instances"] >= 8, found
    assert not _DYNAMIC & {node.op_type for node in exported.model.graph.node}
    return exported.model


def _yolact(**options: Any) -> Yolact:
    options = {"channels": 16, "prototypes": 8, "anchors": _SMALL, "max_detections": 20, **options}
    return Yolact(yolact_resnet(18, options["channels"]), 4, **options)


def _condinst(**options: Any) -> CondInst:
    options = {"channels": 32, "convs": 1, "mask_channels": 16, "max_detections": 20, **options}
    return CondInst(resnet_fpn(18, channels=32, first=3), 4, **options)


@pytest.mark.parametrize(
    ("options", "size", "batch"),
    [
        ({}, (100, 170), 2),  # 26 x 44 prototypes
        pytest.param(
            {"inference": YolactInference(cross_class=True, candidates=60, clip_first=True)},
            (96, 128),
            1,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_yolact(
    photos: list[np.ndarray], options: dict[str, Any], size: tuple[int, int], batch: int
) -> None:
    model = _prove(_yolact(**options), photos, size, batch)
    assert {node.op_type for node in model.graph.node if node.domain == "maskrt"} == set()


@pytest.mark.parametrize(
    ("options", "size", "batch", "most"),
    [
        ({}, (100, 170), 2, 2048),
        pytest.param(  # candidates are cut to fewer than there are
            {"inference": CondInstInference(root_scores=False, clip_first=True), "norm": False},
            (128, 96),
            1,
            150,
            marks=pytest.mark.slow,
        ),
    ],
)
def test_condinst(
    photos: list[np.ndarray], options: dict[str, Any], size: tuple[int, int], batch: int,
    most: int, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    monkeypatch.setattr(condinst_graph, "MAX_CANDIDATES", most)
    condinst = _condinst(**options)
    condinst.mask_frame = MaskFrame.CANVAS_LATE if batch == 2 else MaskFrame.CANVAS
    model = _prove(condinst, photos, size, batch)
    kinds = {operator_of(n.op_type) for n in model.graph.node if n.domain == "maskrt"}
    assert kinds == {"BatchedNMS"}


@pytest.mark.slow
def test_nothing_found_is_no_instance(photos: list[np.ndarray]) -> None:
    silent = _yolact(inference=YolactInference(score_threshold=1.0))
    found = prove(
        export_model(enliven_yolact(silent, photos, (64, 64)), input_size=(64, 64)), photos
    )
    assert (found["instances"], found["violations"]) == (0, [])


@pytest.mark.slow
def test_proof_rejects_a_changed_graph(photos: list[np.ndarray]) -> None:
    """The checker can fail: the mask branch scaled by a tenth is seen."""
    exported = export_model(
        enliven_condinst(_condinst(norm=False), photos, (96, 96)), input_size=(96, 96)
    )
    for tensor in exported.model.graph.initializer:
        if tensor.name.endswith("mask_branch.last.weight"):
            value = onnx.numpy_helper.to_array(tensor) * 1.1
            tensor.CopyFrom(onnx.numpy_helper.from_array(value, tensor.name))
    assert prove(exported, photos)["violations"]


@pytest.mark.slow
def test_class_names_that_do_not_match_are_refused() -> None:
    with pytest.raises(UsageError, match="class_names has 2 names, and the model 4 classes"):
        export_model(_yolact(), input_size=(64, 64), class_names=["background", "cup"])


def test_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"did you mean condinst_r50\?"):
        export_model("maskrt:condinst_r5", input_size=(64, 64))
