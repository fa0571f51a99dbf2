"""detectron2's structure, restated and exported: surgery's result finds what the original does."""

import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

from maskrt.export.surgery import examine, export_onnx  # noqa: E402
from maskrt.plugins import lower  # noqa: E402
from maskrt.runtime.backends.cpu import CpuBackend  # noqa: E402

from .foreign import equals_original, lively_detector, resized  # noqa: E402
from .restated_detectron2 import Detectron2Style  # noqa: E402
from .test_robust import CHANGES  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]
SIZE = (96, 128)


def _export(
    photos: Sequence[np.ndarray], path: Path, options: dict[str, Any], **style: Any
) -> Path:
    """Write a small detector of detectron2's structure."""
    model, shown = lively_detector(photos, SIZE, **options)
    restated = Detectron2Style(model, SIZE, **style).eval()
    picture = torch.from_numpy(shown[0].copy()).permute(2, 0, 1).float()
    torch.onnx.export(restated, (picture,), str(path), dynamo=False, opset_version=17)
    return path


@pytest.fixture(scope="module")
def plain(photos: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Adaptive RoIAlign, as detectron2's configurations have it."""
    return _export(photos, tmp_path_factory.mktemp("d2") / "d2.onnx", {})


def test_equals_the_original(plain: Path, photos: list[np.ndarray]) -> None:
    model = equals_original(plain, photos)
    pools = [n for n in model.graph.node if n.op_type == "MultilevelRoIAlign"]
    for pool in pools:
        read = {a.name: a.i for a in pool.attribute}
        assert (read["aligned"], read["sampling_ratio"]) == (1, 0)
    assert len(pools) == 2
    assert not {n.op_type for n in model.graph.node} & {"NonZero", "If", "Loop", "Shape"}


def test_logits_survive_without_plugins(plain: Path, photos: list[np.ndarray]) -> None:
    """Proposals are ordered by logits, below zero too, in the form for TensorRT-RTX as well."""
    model = export_onnx(plain).model
    lowered = lower(model, "pluginless")
    assert not {n.op_type for n in lowered.graph.node} & {"NonMaxSuppression", "RoiAlign"}
    picture = np.stack(resized(photos[:1], SIZE))
    ours, other = (CpuBackend(m.SerializeToString()).run(picture) for m in (model, lowered))
    assert ours["count"] > 10
    for name, value in ours.items():
        np.testing.assert_allclose(other[name], value, atol=1e-3)


@pytest.mark.parametrize(
    ("options", "style"),
    [
        pytest.param(
            {"num_classes": 3}, {"masks": False, "ratio": 2, "least": 4.0},
            marks=pytest.mark.slow,
        ),
        pytest.param(
            {"box_nms_thresh": 0.3, "box_score_thresh": 0.0}, {"bgr": True},
            marks=pytest.mark.slow,
        ),
    ],
)  # fmt: skip
def test_other_parameters(
    photos: list[np.ndarray], tmp_path: Path, options: dict[str, Any], style: dict[str, Any]
) -> None:
    path = _export(photos, tmp_path / "d2.onnx", options, **style)
    equals_original(path, photos)


@pytest.mark.parametrize("seed", [0, *(pytest.param(s, marks=pytest.mark.slow) for s in (1, 2))])
def test_form_does_not_matter(seed: int, plain: Path, tmp_path: Path) -> None:
    graph, luck = onnx.load(plain), random.Random(seed)
    for change in luck.sample(CHANGES, len(CHANGES)):
        graph = change(graph, luck)
    onnx.save(graph, tmp_path / "changed.onnx")
    ours = export_onnx(tmp_path / "changed.onnx").model
    assert ours.SerializeToString() == export_onnx(plain).model.SerializeToString()


def test_labels_count_from_one(plain: Path) -> None:
    """Zero is the background everywhere in maskrt; detectron2's class 0 is label 1."""
    found = examine(plain).stages
    assert found is not None
    assert (found.detections.first_label, found.detections.background) == (0, 4)
    exported = export_onnx(plain, class_names=["background", "a", "b", "c", "d"])
    assert exported.manifest.class_names is not None


@pytest.mark.slow
def test_blue_comes_first_where_its_mean_does(photos: list[np.ndarray], tmp_path: Path) -> None:
    path = _export(photos, tmp_path / "d2.onnx", {}, masks=False, bgr=True)
    (preprocessing,) = (f for f in examine(path).findings if f.rule == "preprocessing")
    assert "blue, green, red" in preprocessing.text
    exported = export_onnx(path)
    assert exported.manifest.input.pad_value == (124, 116, 104)
