"""Which file's masks are pasted how: told by its structure, and what may be said otherwise."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

torch = pytest.importorskip("torch")

import maskrt  # noqa: E402
from maskrt.checking.conversion import prove  # noqa: E402
from maskrt.cli import main  # noqa: E402
from maskrt.core import Bundle, UsageError  # noqa: E402
from maskrt.core.masks import MaskPaste  # noqa: E402
from maskrt.export.surgery import examine, export_onnx  # noqa: E402
from maskrt.export.surgery.fold import fold  # noqa: E402
from maskrt.export.surgery.graph import Node  # noqa: E402
from maskrt.export.surgery.normalisation import UNSAID, normalisation_beside  # noqa: E402
from maskrt.export.surgery.paste import paste_of, told_paste  # noqa: E402
from maskrt.export.surgery.plugin_graph import plugin_detector  # noqa: E402

from ..detectors import enliven, tiny_mask_rcnn  # noqa: E402
from .foreign import lively_detector, resized  # noqa: E402
from .restated_detectron2 import Detectron2Style  # noqa: E402
from .restated_mmdeploy import MMDeployStyle  # noqa: E402
from .restated_mmdeploy_plugins import MMDeployPluginStyle  # noqa: E402
from .restated_plugins import PluginStyle  # noqa: E402

pytestmark = [pytest.mark.torch, pytest.mark.filterwarnings("ignore")]
SIZE = (64, 96)
DETECTRON2, TORCHVISION = MaskPaste.DETECTRON2, MaskPaste.TORCHVISION


def _write(restated: Any, shown: np.ndarray, path: Path, **options: Any) -> Path:
    torch.onnx.export(
        restated.eval(), (torch.from_numpy(shown),), str(path), dynamo=False, opset_version=17,
        autograd_inlining=False, **options,
    )  # fmt: skip
    return path


@pytest.fixture(scope="module")
def picture(photos: list[np.ndarray]) -> np.ndarray:
    return resized(photos[:1], SIZE)[0]


@pytest.fixture(scope="module")
def detectron2(photos: list[np.ndarray], tmp_path_factory: pytest.TempPathFactory) -> Path:
    model, shown = lively_detector(photos, SIZE)
    picture = shown[0].transpose(2, 0, 1).astype(np.float32)
    path = tmp_path_factory.mktemp("d2") / "d2.onnx"
    return _write(Detectron2Style(model, SIZE), picture, path)


def test_detectron2s_file(
    detectron2: Path, picture: np.ndarray, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its masks are what PyTorch samples from the file's own outputs, on every way to a result."""
    session = _original(detectron2)
    given = picture.transpose(2, 0, 1).astype(np.float32)
    boxes, probabilities = _masks_of(session.run(None, {session.get_inputs()[0].name: given}))
    maskrt.compile(detectron2, tmp_path / "d2.maskrt")
    bundle = Bundle.open(tmp_path / "d2.maskrt")
    assert bundle.manifest.mask_paste is DETECTRON2
    assert bundle.manifest.fidelity["violations"] == []
    with maskrt.load(bundle, "cpu") as opened:
        found = opened.predict(picture)
    expected = _sampled(probabilities, boxes)
    assert len(found) == len(boxes) > 10
    np.testing.assert_allclose(found.boxes, boxes, atol=1e-3)
    # A corner of the compiled graph may differ by a few ulp, and a pixel with it.
    assert (found.masks != expected).mean() < 1e-4
    with pytest.raises(SystemExit, match="0"):
        main(["inspect", str(tmp_path / "d2.maskrt")])
    assert "pasted as detectron2 pastes" in capsys.readouterr().out


def test_inspect_says_which_and_why(detectron2: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="0"):
        main(["inspect", str(detectron2)])
    out = capsys.readouterr().out
    assert "masks are pasted as detectron2 pastes, as the background is not the first class" in out


def test_what_is_asked_for_comes_first(
    detectron2: Path, photos: list[np.ndarray], tmp_path: Path
) -> None:
    """And the proof pastes both sides alike."""
    exported = export_onnx(detectron2, paste=TORCHVISION)
    assert exported.manifest.mask_paste is TORCHVISION
    found = prove(exported, resized(photos, SIZE))
    assert found["violations"] == []
    assert found["instances"] > 10
    words = ["export", str(detectron2), "-o", str(tmp_path / "a.maskrt"), "--paste", "torchvision"]
    with pytest.raises(SystemExit, match="0"):
        main(words)
    assert Bundle.open(tmp_path / "a.maskrt").manifest.mask_paste is TORCHVISION


def test_unaligned_files_of_detectron2_are_told_by_their_background(detectron2: Path) -> None:
    """At opset 11 its exporter loses the alignment."""
    stages = examine(detectron2).stages
    assert stages is not None
    assert stages.masks is not None
    pool = replace(stages.masks.pool, attributes={**stages.masks.pool.attributes, "aligned": 0})
    lost = replace(stages, masks=replace(stages.masks, pool=pool))
    assert paste_of(lost) is DETECTRON2
    first = replace(lost, detections=replace(lost.detections, background=0))
    assert paste_of(first) is TORCHVISION
    aligned = replace(stages, detections=replace(stages.detections, background=0))
    assert paste_of(aligned) is DETECTRON2
    assert told_paste(replace(stages, masks=None)) is None
    assert paste_of(replace(stages, masks=None)) is TORCHVISION
    with pytest.raises(UsageError, match="paste is detectron2, and the file makes no masks"):
        paste_of(replace(stages, masks=None), DETECTRON2)


def test_a_file_that_pastes_is_torchvisions(small: Path) -> None:
    assert examine(small).paste == (TORCHVISION, "the file pastes them itself")
    assert export_onnx(small, paste=TORCHVISION).manifest.mask_paste is TORCHVISION
    with pytest.raises(UsageError, match="the file pastes its masks itself, as torchvision does"):
        export_onnx(small, paste=DETECTRON2)


def _note_normalisation(folder: Path) -> None:
    """Write what mmdeploy's `--dump-info` writes beside a file."""
    (folder / "pipeline.json").write_text(
        '{"pipeline": {"tasks": [{"module": "Transform", "transforms": [{"type": "Normalize", '
        '"mean": [120, 120, 120], "std": [58, 58, 58], "to_rgb": true}]}]}}'
    )


def test_mmdeploys_file(photos: list[np.ndarray], tmp_path: Path) -> None:
    model, shown = lively_detector(photos, SIZE)
    picture = ((shown[0] - np.float32(120)) / np.float32(58)).transpose(2, 0, 1)[None]
    _note_normalisation(tmp_path)
    path = _write(MMDeployStyle(model, SIZE, finest=20), picture, tmp_path / "end2end.onnx")
    assert export_onnx(path).manifest.mask_paste is DETECTRON2


@pytest.mark.parametrize(
    "style", [pytest.param(PluginStyle, marks=pytest.mark.slow), MMDeployPluginStyle]
)
def test_files_of_plugins(style: type, photos: list[np.ndarray], tmp_path: Path) -> None:
    """NVIDIA's sample has detectron2's models; a background that comes first is torchvision's."""
    size = (128, 192)
    torch.manual_seed(0)
    shown = resized(photos, size)
    model = tiny_mask_rcnn(4, min_size=size[0], max_size=size[1])
    enliven(model, shown)
    picture = shown[0].transpose(2, 0, 1).astype(np.float32)[None]
    if style is MMDeployPluginStyle:
        model.rpn._post_nms_top_n = {"training": 80, "testing": 80}
        restated = MMDeployPluginStyle(model, size, finest=14)
        picture = (picture - np.float32(120)) / np.float32(58)
        _note_normalisation(tmp_path)
    else:
        restated = style(model, size, 80)
    opsets = {"TRT": 1, "mmdeploy": 1}
    path = _write(restated, picture, tmp_path / "a.onnx", custom_opsets=opsets)
    assert examine(path).paste is not None
    assert export_onnx(path).manifest.mask_paste is DETECTRON2
    from maskrt.export.surgery.declined import Notes

    outside = normalisation_beside(path) or UNSAID
    found = plugin_detector(fold(onnx.load(path)), Notes(), outside)
    unaligned = {"coordinate_transformation_mode": 0, "aligned": 0}
    nodes = tuple(
        Node(n.op, n.inputs, n.outputs, {**n.attributes, **unaligned}) for n in found.plugins
    )
    assert paste_of(replace(found, plugins=nodes)) is DETECTRON2
    other = replace(found, plugins=nodes, first_label=1)
    is_told = style is MMDeployPluginStyle  # PyramidROIAlign_TRT is always aligned
    assert paste_of(other) is (TORCHVISION if is_told else DETECTRON2)


def test_options_of_the_command(detectron2: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["export", str(detectron2), "-o", "x.maskrt", "--paste", "mmdet"])
    assert re.search("torchvision.*detectron2", capsys.readouterr().err)
    with pytest.raises(UsageError, match="paste is 'mmdet', and must be torchvision or detectron2"):
        maskrt.compile(detectron2, "x.maskrt", paste="mmdet")


def _original(path: Path) -> Any:
    runtime = pytest.importorskip("onnxruntime")
    return runtime.InferenceSession(str(path), providers=["CPUExecutionProvider"])


def _masks_of(outputs: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    boxes = next(o for o in outputs if o.ndim == 2 and o.shape[1] == 4)
    masks = next(o for o in outputs if o.ndim == 4)
    return boxes, masks


def _sampled(masks: np.ndarray, boxes: np.ndarray) -> np.ndarray:
    """detectron2's formula: the mask at each pixel's centre in the box, from one half on."""
    x0, y0, x1, y1 = (torch.from_numpy(boxes)[:, i, None] for i in range(4))
    y = (torch.arange(SIZE[0]).float() + 0.5 - y0) / (y1 - y0) * 2 - 1
    x = (torch.arange(SIZE[1]).float() + 0.5 - x0) / (x1 - x0) * 2 - 1
    shape = (len(boxes), *SIZE)
    grid = torch.stack([x[:, None].expand(shape), y[:, :, None].expand(shape)], 3)
    values = torch.nn.functional.grid_sample(torch.from_numpy(masks), grid, align_corners=False)
    return (values[:, 0] >= 0.5).numpy()
