"""Six faults that converters really have, planted one at a time: the check names each of them."""

import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

import maskrt
from maskrt import calib
from maskrt.calib.fingerprint import fingerprint
from maskrt.checking.explanation import explain_layers
from maskrt.core import Bundle, InputError, Precision, Target
from maskrt.core.bundle import MODEL, RECIPE
from maskrt.core.masks import Crop, crops_of
from maskrt.core.operator_names import operator_of
from maskrt.demo import weights_path
from maskrt.demo.run import MODEL as DEMO
from maskrt.demo.scenes import CLASS_NAMES, scene, write_coco
from maskrt.plugins.bodies import attach_functions
from maskrt.runtime.check import CocoDataset, Report

pytest.importorskip("cv2")
pytest.importorskip("skimage")
pytestmark = [pytest.mark.slow, pytest.mark.torch]

ENGINE = "engines/cpu/engine.onnx"
LAYER = "backbone.body.stage2.1.conv1"


@pytest.fixture(scope="module")
def healthy(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo model at INT8, and nine held-out scenes that have to be resized."""
    folder = tmp_path_factory.mktemp("faults")
    pictures = [scene(index, split="train", size=(320, 320)).image for index in range(12)]
    maskrt.compile(
        DEMO, folder / "model.maskrt", weights=weights_path(), input_size=(320, 320),
        calibration=pictures, precision="int8", class_names=("background", *CLASS_NAMES),
    )  # fmt: skip
    write_coco(folder / "val", 9, split="val", size=(300, 410))
    return folder


@pytest.fixture
def work(healthy: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy to plant a fault in."""
    shutil.copytree(healthy, tmp_path / "work")
    yield tmp_path / "work"
    shutil.rmtree(tmp_path / "work")


def explained(work: Path) -> Report:
    report = maskrt.check(
        work / "model.maskrt", images=work / "val" / "images",
        annotations=work / "val" / "annotations.json", target="cpu", weights=weights_path(),
        explain=True,
    )  # fmt: skip
    found = report.attribution
    assert found is not None
    for kind, whole in found["whole"].items():
        assert sum(part["lost"][kind] for part in found["parts"]) == pytest.approx(whole, abs=0.05)
    assert report.metrics["mask"]["AP"] is not None
    return report


def attribution(report: Report) -> dict[str, Any]:
    assert report.attribution is not None
    return report.attribution


def lost(report: Report, stage: str, kind: str = "mask") -> float:
    parts = attribution(report)["parts"]
    return sum(part["lost"][kind] for part in parts if part["stage"] == stage)


def replace_file(work: Path, name: str, content: bytes | dict[str, Any]) -> Bundle:
    bundle = Bundle.open(work / "model.maskrt")
    with bundle.edit() as staged:
        staged.write(name, content)
    return bundle


def replace_graph(work: Path, model: onnx.ModelProto) -> None:
    """Put a faulty graph into the bundle, calibrated as the exporter's own would have been."""
    raw = model.SerializeToString()
    recipe = calib.Recipe.from_json(Bundle.open(work / "model.maskrt").read_json(RECIPE))
    with pytest.raises(InputError, match="calibrate this model"):
        recipe.check_fits(model)  # a fault behind the calibration is refused at once
    replace_file(work, MODEL, raw)
    replace_file(work, RECIPE, replace(recipe, graph=fingerprint(model)).to_json())


def graph_of(work: Path, name: str) -> onnx.ModelProto:
    return onnx.load_model_from_string(Bundle.open(work / "model.maskrt").read(name))


def layers_of(work: Path) -> dict[str, Any]:
    bundle = Bundle.open(work / "model.maskrt")
    dataset = CocoDataset.load(work / "val" / "images", work / "val" / "annotations.json")
    found = explain_layers(
        bundle, graph_of(work, MODEL), dataset, Target.parse("cpu"), Precision.INT8
    )
    assert found is not None
    return found


def test_a_healthy_engine_raises_no_alarm(work: Path) -> None:
    report = explained(work)
    found = attribution(report)
    assert found["findings"] == []
    assert found["suspect"] in ("precision", None)
    assert lost(report, "surgery") == pytest.approx(0, abs=0.05)
    assert lost(report, "letterbox") == lost(report, "engine") == 0
    assert lost(report, "paste") == pytest.approx(0, abs=0.05)
    assert report.divergence is not None
    assert report.divergence["first"] is None
    assert report.divergence["wide"] == []


def test_a1_an_activation_scale_times_four(work: Path) -> None:
    bundle = Bundle.open(work / "model.maskrt")
    recipe = calib.Recipe.from_json(bundle.read_json(RECIPE))
    data = next(x for x in calib.place(graph_of(work, MODEL)).layers if x.name == LAYER).data
    scales = {method: 4 * scale for method, scale in recipe.tensors[data].scales.items()}
    tensors = {**recipe.tensors, data: replace(recipe.tensors[data], scales=scales)}
    replace_file(work, RECIPE, replace(recipe, tensors=tensors).to_json())
    maskrt.build(work / "model.maskrt", "cpu")
    assert layers_of(work)["wide"] == [LAYER]


def test_a2_a_weight_scale_times_four(work: Path) -> None:
    engine = graph_of(work, ENGINE)
    weight = next(x for x in calib.place(graph_of(work, MODEL)).layers if x.name == LAYER).weight
    (scale,) = (
        tensor for tensor in engine.graph.initializer
        if tensor.name == f"{weight}_scale"
    )  # fmt: skip
    scale.CopyFrom(numpy_helper.from_array(4 * numpy_helper.to_array(scale), scale.name))
    replace_file(work, ENGINE, engine.SerializeToString())
    found = layers_of(work)
    assert found["first"] == LAYER
    worst = min(found["layers"], key=lambda x: x["own_snr_db"] or np.inf)
    assert worst["name"] == LAYER


def test_b_roialign_aligned_flipped(work: Path) -> None:
    model = graph_of(work, MODEL)
    flipped = 0
    for node in model.graph.node:
        for item in node.attribute:
            if operator_of(node.op_type) == "MultilevelRoIAlign" and item.name == "aligned":
                item.i, flipped = 1 - item.i, flipped + 1
    assert flipped == 2
    replace_graph(work, attach_functions(model))
    maskrt.build(work / "model.maskrt", "cpu")
    report = explained(work)
    assert attribution(report)["suspect"] == "surgery"
    assert lost(report, "surgery") > 1


def test_c_half_a_pixel_in_letterboxing(work: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from maskrt.runtime import session as module

    true_letterbox = module.letterbox

    def shifted(image: np.ndarray, spec: Any) -> Any:
        canvas, place = true_letterbox(image, spec)
        wide = canvas.astype(np.uint16)
        wide[:, :-1] = (wide[:, :-1] + wide[:, 1:] + 1) // 2
        return wide.astype(np.uint8), place

    monkeypatch.setattr(module, "letterbox", shifted)
    report = explained(work)
    assert attribution(report)["suspect"] == "letterbox"
    assert [f["stage"] for f in attribution(report)["findings"]] == ["letterbox"]


def test_d_nms_drops_at_the_threshold_itself(work: Path) -> None:
    """An IoU that is greater than the number just below t is greater than or equal to t."""
    model = graph_of(work, MODEL)
    planted, thresholds = 0, (0.5, float(np.float32(0.7)))
    for function in model.functions:
        constants = [n.attribute[0].t for n in function.node if n.op_type == "Constant"]
        for tensor in constants if operator_of(function.name) == "BatchedNMS" else ():
            value = numpy_helper.to_array(tensor)
            if value.dtype == np.float32 and value.size == 1 and value.item() in thresholds:
                below = np.nextafter(value, np.float32(0))
                tensor.CopyFrom(numpy_helper.from_array(below))
                planted += 1
    assert planted == 2
    replace_graph(work, model)
    maskrt.build(work / "model.maskrt", "cpu")
    report = explained(work)
    assert attribution(report)["suspect"] == "surgery"
    sentences = [f["sentence"] for f in attribution(report)["findings"]]
    assert len(sentences) == 2
    assert all("BatchedNMS" in s and "equal to its threshold" in s for s in sentences)


def test_e_masks_pasted_without_their_ring_of_zeros(
    work: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from maskrt.runtime import postprocess as module

    class Bare(module.LazyMasks):
        def __call__(self) -> np.ndarray:
            return bare(self._probabilities, self._boxes, self._size)

        def crops(self) -> list[Crop]:
            return crops_of(self())

        def select(self, keep: np.ndarray) -> "Bare":
            return Bare(self._probabilities[keep], self._boxes[keep], self._size)

    def bare(masks: np.ndarray, boxes: np.ndarray, size: tuple[int, int]) -> np.ndarray:
        cv2 = pytest.importorskip("cv2")
        out = np.zeros((len(masks), *size), bool)
        for plane, mask, box in zip(out, masks, boxes, strict=True):
            x0, y0, x1, y1 = box.astype(int)
            resized = cv2.resize(mask, (max(x1 - x0 + 1, 1), max(y1 - y0 + 1, 1))) > 0.5
            top, left = max(y0, 0), max(x0, 0)
            part = resized[top - y0 : size[0] - y0, left - x0 : size[1] - x0]
            plane[top : top + part.shape[0], left : left + part.shape[1]] = part
        return out

    monkeypatch.setattr(module, "LazyMasks", Bare)
    report = explained(work)
    assert attribution(report)["suspect"] == "paste"
    assert lost(report, "paste", "box") == 0


def test_f_two_classes_swapped(work: Path) -> None:
    engine = graph_of(work, ENGINE)
    for node in engine.graph.node:
        for index, name in enumerate(node.output):
            if name == "labels":
                node.output[index] = "labels_right"
        for index, name in enumerate(node.input):
            if name == "labels":
                node.input[index] = "labels_right"
    order = np.array([0, 2, 1, *range(3, len(CLASS_NAMES) + 1)], np.int32)
    engine.graph.initializer.append(numpy_helper.from_array(order, "order"))
    engine.graph.node.append(helper.make_node("Gather", ["order", "labels_right"], ["labels"]))
    replace_file(work, ENGINE, engine.SerializeToString())
    report = explained(work)
    assert report.agreement is not None
    assert report.agreement["swapped_labels"] == [list(CLASS_NAMES[:2])]
    assert attribution(report)["suspect"] == "engine"
    assert lost(report, "engine") > 5
