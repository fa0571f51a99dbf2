"""mmdeploy's structure for ONNX Runtime, restated and exported: the result finds what it finds."""

import json
import random
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from maskrt.core import InputError, UnsupportedModelError  # noqa: E402
from maskrt.export.surgery import examine, export_onnx  # noqa: E402

from .foreign import equals_original, lively_detector  # noqa: E402
from .restated_mmdeploy import MMDeployStyle  # noqa: E402
from .test_robust import CHANGES  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]
SIZE = (96, 128)
MEAN, STD = [123.675, 116.28, 103.53], [58.395, 57.12, 57.375]


def _pipeline(**changed: Any) -> str:
    """Return what mmdeploy writes with --dump-info, as far as it matters here."""
    step = {"type": "Normalize", "mean": MEAN, "std": STD, "to_rgb": True, **changed}
    steps = [{"type": "LoadImageFromFile"}, {"type": "Resize"}, step, {"type": "Pad"}]
    return json.dumps({"pipeline": {"tasks": [{"module": "Transform", "transforms": steps}]}})


def _export(
    photos: Sequence[np.ndarray], folder: Path, options: dict[str, Any], **style: Any
) -> Path:
    """Write a small detector of mmdeploy's structure, and its pipeline beside it."""
    model, shown = lively_detector(photos, SIZE, **options)
    restated = MMDeployStyle(model, SIZE, **{"finest": 20, **style}).eval()
    picture = (shown[0].astype(np.float32) - MEAN) / STD
    given = torch.from_numpy(picture.astype(np.float32)).permute(2, 0, 1)[None]
    folder.mkdir(exist_ok=True)
    torch.onnx.export(
        restated, (given,), str(folder / "end2end.onnx"), dynamo=False, opset_version=17,
        autograd_inlining=False,
    )  # fmt: skip
    (folder / "pipeline.json").write_text(_pipeline())
    return folder / "end2end.onnx"


@pytest.fixture(scope="module")
def plain(photos: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """With masks, adaptive RoIAlign, and fewer proposals than there may be: one of zeros."""
    return _export(photos, tmp_path_factory.mktemp("mm"), {})


def test_equals_the_original(plain: Path, photos: list[np.ndarray]) -> None:
    model = equals_original(plain, photos)
    first, second = (n for n in model.graph.node if n.op_type == "BatchedNMS")
    assert {a.name: a.i for a in first.attribute}["class_agnostic"] == 1
    assert {a.name: a.i for a in second.attribute}["class_agnostic"] == 0
    assert not {n.op_type for n in model.graph.node} & {"NonZero", "If", "Range", "Shape"}


@pytest.mark.parametrize(
    ("options", "style"),
    [
        pytest.param(
            {"num_classes": 3}, {"masks": False, "ratio": 2, "rpn_score": 0.9},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"box_nms_thresh": 0.3, "rpn_post_nms_top_n_test": 40}, {"rpn_score": 0.0},
            marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_other_parameters(
    photos: list[np.ndarray], tmp_path: Path, options: dict[str, Any], style: dict[str, Any]
) -> None:
    path = _export(photos, tmp_path, options, **style)
    equals_original(path, photos)


def test_form_does_not_matter(plain: Path, tmp_path: Path) -> None:
    graph, luck = onnx.load(plain), random.Random(0)
    for change in CHANGES:
        graph = change(graph, luck)
    onnx.save(graph, tmp_path / "end2end.onnx")
    (tmp_path / "pipeline.json").write_text(_pipeline())
    ours = export_onnx(tmp_path / "end2end.onnx").model
    assert ours.SerializeToString() == export_onnx(plain).model.SerializeToString()


def test_normalisation_must_be_known(plain: Path, tmp_path: Path) -> None:
    """A wrong mean costs AP and raises nothing, so none is assumed."""
    (tmp_path / "end2end.onnx").write_bytes(plain.read_bytes())
    with pytest.raises(UnsupportedModelError, match=r"no pipeline\.json beside the file says how"):
        export_onnx(tmp_path / "end2end.onnx")
    rules = [finding.rule for finding in examine(tmp_path / "end2end.onnx").findings]
    assert rules == ["pyramid", "pyramid"]


def test_channel_order_is_read(plain: Path, tmp_path: Path, photos: list[np.ndarray]) -> None:
    (tmp_path / "end2end.onnx").write_bytes(plain.read_bytes())
    (tmp_path / "pipeline.json").write_text(_pipeline(to_rgb=False))
    (first, *_) = examine(tmp_path / "end2end.onnx").findings
    assert "blue, green, red" in first.text
    model = equals_original(tmp_path / "end2end.onnx", photos)
    assert model.SerializeToString() != export_onnx(plain).model.SerializeToString()


@pytest.mark.parametrize("text", ["{", "[]", _pipeline(mean=[1.0]), _pipeline(std=[0.0] * 3)])
def test_damaged_pipeline_is_refused(plain: Path, tmp_path: Path, text: str) -> None:
    (tmp_path / "end2end.onnx").write_bytes(plain.read_bytes())
    (tmp_path / "pipeline.json").write_text(text)
    with pytest.raises(InputError, match="does not say how pictures are normalised"):
        export_onnx(tmp_path / "end2end.onnx")


def _constants(graph: onnx.ModelProto) -> dict[str, onnx.TensorProto]:
    found = {n.output[0]: n.attribute[0].t for n in graph.graph.node if n.op_type == "Constant"}
    return {**found, **{t.name: t for t in graph.graph.initializer}}


@pytest.mark.parametrize(
    ("place", "value", "reason"),
    [
        (2, np.array([5]), "keeps 5 of a class at most, and 30 of all"),
        (0, None, "suppression.*(only the best|also depends|do not become)"),
    ],
)
def test_near_misses(
    plain: Path, tmp_path: Path, place: int, value: np.ndarray | None, reason: str
) -> None:
    graph = onnx.load(plain)
    last = [n for n in graph.graph.node if n.op_type == "NonMaxSuppression"][-1]
    if value is not None:
        _constants(graph)[last.input[place]].CopyFrom(onnx.numpy_helper.from_array(value))
    else:  # the labels become the numbers of the boxes
        columns = [n for n in graph.graph.node if n.op_type == "Gather"
                   and n.input[0] == last.output[0]]  # fmt: skip
        columns[0].input[1], columns[1].input[1] = columns[1].input[1], columns[0].input[1]
    onnx.save(graph, tmp_path / "end2end.onnx")
    (tmp_path / "pipeline.json").write_text(_pipeline())
    first, *_ = examine(tmp_path / "end2end.onnx").declined
    assert re.search(reason, str(first)), str(first)
