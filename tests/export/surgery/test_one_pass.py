"""Files of one pass (YOLO, DETR): recognised by what they compute, exact, and refused when near.

The reference is ONNX Runtime on the file itself, then torchvision's NMS and PyTorch's resizing.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from maskrt.checking.conversion import prove
from maskrt.core import Instances, Placing, Resampling, UnsupportedModelError, UsageError
from maskrt.core.masks import MaskFrame
from maskrt.export.surgery import examine, export_onnx
from maskrt.runtime import Session
from maskrt.runtime.backends.cpu import CpuBackend
from maskrt.runtime.check import compare, violations

from .one_pass_files import CLASSES, SIZE, detr_file, yolo5_file, yolo11_file, yolo26_file

pytestmark = pytest.mark.torch
FILES: dict[str, Callable[[], onnx.ModelProto]] = {
    "yolo11": yolo11_file,
    "yolo8 of 2023": lambda: yolo11_file(old=True),
    "yolo26 end to end": yolo26_file,
    "yolo5": yolo5_file,
    "yolo5 in place": lambda: yolo5_file(in_place=True),
    "rf_detr": detr_file,
    "d_fine of any batch": lambda: detr_file("d_fine", batch="batch"),
    "ec": lambda: detr_file("ec"),
}


def _saved(model: onnx.ModelProto, folder: Path) -> Path:
    path = folder / "model.onnx"
    onnx.save(model, str(path))
    return path


def _picture(seed: int = 0, size: tuple[int, int] = SIZE) -> np.ndarray:
    random = np.random.default_rng(seed)
    coarse = random.integers(0, 256, (size[0] // 16 + 1, size[1] // 16 + 1, 3))
    fine = coarse.repeat(16, 0).repeat(16, 1)[: size[0], : size[1]]
    return np.clip(fine + random.integers(-20, 20, fine.shape), 0, 255).astype(np.uint8)


def _session(path: Path, **options: object) -> Session:
    made = export_onnx(path, **options)  # type: ignore[arg-type]
    backend = CpuBackend(made.model.SerializeToString())
    manifest = made.manifest
    return Session(
        backend, manifest.input, class_names=manifest.class_names, mask_frame=manifest.mask_frame
    )


def _run(path: Path, picture: np.ndarray, mean: float | None = None) -> list[np.ndarray]:
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    x = picture.transpose(2, 0, 1)[None].astype(np.float32) / 255
    if mean is not None:
        centre = np.array([0.485, 0.456, 0.406], np.float32)[:, None, None]
        spread = np.array([0.229, 0.224, 0.225], np.float32)[:, None, None]
        x = (x - centre) / spread
    return session.run(None, {"images": x})


def _by_torch(
    boxes: np.ndarray, scores: np.ndarray, labels: np.ndarray, logits: np.ndarray, crop: str
) -> Instances:
    """Resize masks with PyTorch and cut them, as each family's program does."""
    torch = pytest.importorskip("torch")
    sides = np.array([SIZE[1], SIZE[0]] * 2)
    boxes = np.clip(boxes, 0, sides).astype(np.float32)
    seen = (boxes[:, 2:] > boxes[:, :2]).all(1)  # no session shows what lies beside the picture
    boxes, scores, labels, logits = boxes[seen], scores[seen], labels[seen], logits[seen]
    masks = torch.from_numpy(logits.astype(np.float32))

    def cut(values: "torch.Tensor", box: np.ndarray) -> "torch.Tensor":
        y = torch.arange(values.shape[1])[None, :, None]
        x = torch.arange(values.shape[2])[None, None, :]
        x1, y1, x2, y2 = (torch.from_numpy(v)[:, None, None] for v in box.T)
        return values * ((x >= x1) & (x < x2) & (y >= y1) & (y < y2))

    def wide(values: "torch.Tensor") -> "torch.Tensor":
        return torch.nn.functional.interpolate(values[None], SIZE, mode="bilinear")[0]

    if crop == "prototypes":
        ratio = np.array([logits.shape[2] / SIZE[1], logits.shape[1] / SIZE[0]] * 2, np.float32)
        inside = wide(cut(masks.sigmoid(), boxes * ratio)) > 0.5
    elif crop == "picture":
        inside = cut((wide(masks) > 0).float(), boxes) > 0
    else:
        inside = wide(masks) > 0
    return Instances(boxes, scores, labels, SIZE, masks_source=inside.numpy())


def _yolo(path: Path, picture: np.ndarray, *, objectness: bool, iou: float, crop: str,
          score: float = 0.25, agnostic: bool = False) -> Instances:  # fmt: skip
    import torch
    from torchvision.ops import batched_nms, box_convert

    rows, prototypes = (torch.from_numpy(v[0]) for v in _run(path, picture))
    rows = rows if objectness else rows.T
    first = 5 if objectness else 4
    classes = rows[:, first : first + CLASSES] * (rows[:, 4:5] if objectness else 1)
    scores, labels = classes.max(1)
    likely = scores > score
    rows, scores, labels = rows[likely], scores[likely], labels[likely]
    boxes = box_convert(rows[:, :4], "cxcywh", "xyxy")
    kept = batched_nms(boxes, scores, labels * (not agnostic), iou)[:300]
    logits = torch.einsum("nc,chw->nhw", rows[kept, first + CLASSES :], prototypes)
    return _by_torch(
        boxes[kept].numpy(), scores[kept].numpy(), labels[kept].numpy() + 1, logits.numpy(), crop
    )


def _assert_same(expected: Instances, found: Instances, least: int = 5) -> None:
    match = compare(expected, found)
    assert match.pairs >= least
    assert violations(match) == []


@pytest.mark.parametrize("old", [False, True])
def test_yolo11_is_nms_over_the_files_rows_and_cut_in_the_picture(
    old: bool, tmp_path: Path
) -> None:
    path = _saved(yolo11_file(old=old), tmp_path)
    picture = _picture()
    with _session(path) as session:
        found = session.predict(picture)
    _assert_same(_yolo(path, picture, objectness=False, iou=0.7, crop="picture"), found, 50)
    assert found.class_names == ("background", "ant", "bee", "cat", "dog", "elk")


@pytest.mark.parametrize("in_place", [False, True])
def test_yolo5_is_cut_at_the_prototypes(in_place: bool, tmp_path: Path) -> None:
    path = _saved(yolo5_file(in_place=in_place), tmp_path)
    picture = _picture()
    expected = _yolo(path, picture, objectness=True, iou=0.45, crop="prototypes")
    with _session(path) as session:
        _assert_same(expected, session.predict(picture), 30)
    wrong = _yolo(path, picture, objectness=True, iou=0.45, crop="picture")
    match = compare(wrong, expected)  # the crop decides: a test that could not fail is none
    assert match.mask_iou is not None
    assert match.mask_iou < 0.9


def test_yolo26_keeps_its_own_choice(tmp_path: Path) -> None:
    path = _saved(yolo26_file(), tmp_path)
    picture = _picture(2)
    rows, prototypes = (v[0] for v in _run(path, picture))
    rows = rows[rows[:, 4] > 0.1]
    logits = np.einsum("nc,chw->nhw", rows[:, 6:], prototypes)
    expected = _by_torch(rows[:, :4], rows[:, 4], rows[:, 5].astype(int) + 1, logits, "picture")
    with _session(path, head={"score_threshold": 0.1}) as session:
        _assert_same(expected, session.predict(picture))


@pytest.mark.parametrize(("kind", "mean", "least"), [
    ("rf_detr", 1.0, 0.5), ("d_fine", None, 0.25), ("ec", 1.0, 0.25),
])  # fmt: skip
def test_a_detr_is_its_best_queries_and_classes(
    kind: str, mean: float | None, least: float, tmp_path: Path
) -> None:
    path = _saved(detr_file(kind), tmp_path)
    picture = _picture(1)
    parts, logits, masks = (v[0] for v in _run(path, picture, mean))
    scores = 1 / (1 + np.exp(-logits.astype(np.float64)))
    best = np.argsort(-scores.ravel(), kind="stable")[: len(parts)]
    best = best[scores.ravel()[best] > least]
    query, label = np.divmod(best, logits.shape[1])
    near, far = parts[query, :2] - parts[query, 2:] / 2, parts[query, :2] + parts[query, 2:] / 2
    boxes = np.concatenate([near, far], 1) * np.array([SIZE[1], SIZE[0]] * 2)
    chosen = masks[query] - (0.5 if kind == "d_fine" else 0.0)
    first = 0 if kind == "rf_detr" else 1  # COCO's ids are labels
    expected = _by_torch(boxes, scores.ravel()[best], label + first, chosen, "none")
    with _session(path) as session:
        _assert_same(expected, session.predict(picture))


@pytest.mark.parametrize("name", FILES)
def test_each_file_is_proven_against_itself(name: str, tmp_path: Path) -> None:
    made = export_onnx(_saved(FILES[name](), tmp_path))
    fidelity = prove(made, [_picture(seed) for seed in range(3)])
    assert fidelity["violations"] == []
    assert fidelity["instances"] >= 10
    assert "postprocessing" in fidelity["compared"]


def test_the_proof_of_nothing_says_so(tmp_path: Path) -> None:
    made = export_onnx(_saved(yolo11_file(), tmp_path), head={"score_threshold": 1.0})
    (warning,) = prove(made)["warnings"]
    assert "nothing is proven" in warning


def test_names_and_order_mean_nothing(tmp_path: Path) -> None:
    plain = export_onnx(_saved(yolo11_file(), tmp_path)).model
    model = yolo11_file()
    del model.metadata_props[:]
    every = [n for node in model.graph.node for n in (*node.input, *node.output)]
    names = {name: f"x{i}" for i, name in enumerate(dict.fromkeys(every))}
    for node in model.graph.node:
        node.input[:] = [names[n] for n in node.input]
        node.output[:] = [names[n] for n in node.output]
        node.name = ""
    for item in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        item.name = names[item.name]
    nodes = list(model.graph.node)
    del model.graph.node[:]
    order = np.random.default_rng(0).permutation(len(nodes))
    model.graph.node.extend(nodes[i] for i in order)
    shuffled = export_onnx(_saved(model, tmp_path)).model
    assert shuffled.SerializeToString() == plain.SerializeToString()


def test_a_half_precision_file_is_read(tmp_path: Path) -> None:
    model = yolo11_file()
    for tensor in model.graph.initializer:
        value = onnx.numpy_helper.to_array(tensor)
        if value.dtype == np.float32:
            tensor.CopyFrom(onnx.numpy_helper.from_array(value.astype(np.float16), tensor.name))
    model.graph.input[0].type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    for output in model.graph.output:
        output.type.tensor_type.elem_type = onnx.TensorProto.FLOAT16
    made = export_onnx(_saved(model, tmp_path))
    fidelity = prove(made, [_picture()])
    assert fidelity["violations"] == []
    assert fidelity["instances"] >= 50
    assert "FP16 weights computed in FP32" in fidelity["compared"]


def test_options_are_the_files_programs_options(tmp_path: Path) -> None:
    path = _saved(yolo11_file(), tmp_path)
    picture = _picture()
    head = {"score_threshold": 0.4, "iou_threshold": 0.3, "class_agnostic": True}
    with _session(path, head=head) as session:
        found = session.predict(picture)
    expected = _yolo(
        path, picture, objectness=False, iou=0.3, crop="picture", score=0.4, agnostic=True
    )
    _assert_same(expected, found, 10)
    with _session(path, head={"max_detections": 7, "mask_crop": "none"}) as session:
        assert len(session.predict(picture)) == 7
        assert session._mask_frame is MaskFrame.CANVAS_EVEN


def test_the_input_is_the_familys_or_as_given(tmp_path: Path) -> None:
    path = _saved(yolo11_file(), tmp_path)
    spec = export_onnx(path).manifest.input
    assert (spec.placing, spec.resampling) == (Placing.CENTRE, Resampling.BILINEAR)
    assert spec.pad_value == (114, 114, 114)
    head = {"placing": "top_left", "resampling": "antialiased", "fill": (0, 0, 0)}
    assert export_onnx(path, head=head).manifest.input.is_plain
    detr = export_onnx(_saved(detr_file(), tmp_path)).manifest.input
    assert (detr.placing, detr.resampling) == (Placing.SQUASH, Resampling.BILINEAR)


@pytest.mark.parametrize(("head", "words"), [
    ({"score_threshold": 1.5}, "0 to 1"),
    ({"mask_crop": "box"}, "picture, prototypes, none"),
    ({"placing": "left"}, "top_left, centre, squash"),
    ({"fill": (1, 2)}, "three integers"),
    ({"max_detections": 0}, "at least 1"),
])  # fmt: skip
def test_options_that_cannot_be_are_refused(
    head: dict[str, object], words: str, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=words):
        export_onnx(_saved(yolo11_file(), tmp_path), head=head)


def test_suppression_is_refused_where_there_is_none(tmp_path: Path) -> None:
    for model in (yolo26_file(), detr_file()):
        with pytest.raises(UsageError, match="chooses without"):
            export_onnx(_saved(model, tmp_path), head={"iou_threshold": 0.5})
    with pytest.raises(UsageError, match="batch"):
        export_onnx(_saved(detr_file(), tmp_path), batch=2)


def test_a_batch_of_two_yolos(tmp_path: Path) -> None:
    path = _saved(yolo11_file(), tmp_path)
    pictures = [_picture(0), _picture(4)]
    with _session(path, batch=2) as two, _session(path) as one:
        for found, alone in zip(two.predict(pictures), map(one.predict, pictures), strict=True):
            _assert_same(alone, found, 50)


def test_a_file_that_only_says_it_takes_any_number_is_refused(tmp_path: Path) -> None:
    path = _saved(detr_file("d_fine", batch="batch", for_one=True), tmp_path)
    with _session(path) as one:
        assert len(one.predict(_picture())) >= 3
    with pytest.raises(UsageError, match="says that it takes any number"):
        export_onnx(path, batch=2)


@pytest.mark.parametrize(("kind", "picked"), [
    ("rf_detr", False), ("d_fine", False), ("d_fine", True), ("ec", True),
])  # fmt: skip
def test_a_batch_of_three_where_a_detr_takes_any(kind: str, picked: bool, tmp_path: Path) -> None:
    path = _saved(detr_file(kind, batch="batch", picked=picked), tmp_path)
    pictures = [_picture(seed) for seed in (0, 4, 7)]
    with _session(path, batch=3) as three, _session(path) as one:
        assert three.spec.batch == 3
        for found, alone in zip(three.predict(pictures), map(one.predict, pictures), strict=True):
            _assert_same(alone, found, 3)


@pytest.mark.parametrize(("model", "words"), [
    (lambda: yolo11_file(softmax_scores=True), "scores are not the sigmoids"),
    (lambda: yolo11_file(shift=0.0), "distances from the centres of cells"),
    (lambda: yolo26_file(smallest=True), "not the best places by their best class"),
    (lambda: yolo5_file(exponential=True), "not offsets of anchors"),
    (lambda: detr_file(corners=True), "corners"),
])  # fmt: skip
def test_near_misses_are_refused(
    model: Callable[[], onnx.ModelProto], words: str, tmp_path: Path
) -> None:
    path = _saved(model(), tmp_path)
    with pytest.raises(UnsupportedModelError, match=words):
        export_onnx(path)
    assert any(words in str(declined) for declined in examine(path).declined)


def test_declared_outputs_are_proven_the_same_way(tmp_path: Path) -> None:
    model = yolo11_file()
    inner = [node.input[0] for node in model.graph.node[-2:]]
    extra = onnx.helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, None)
    model.graph.node.append(onnx.helper.make_node("Relu", [inner[1]], ["more"]))
    model.graph.output.append(extra)
    path = _saved(model, tmp_path)
    with pytest.raises(UnsupportedModelError):
        export_onnx(path)
    made = export_onnx(path, outputs=f"yolo-seg={inner[0]},{inner[1]}")
    fidelity = prove(made, [_picture()])
    assert fidelity["violations"] == []
    assert fidelity["instances"] >= 50
    for outputs, words in (("yolo", "must start with"), ("yolo-seg=a,b", "no node of"),
                           ("detr-seg=output0", "takes 3 tensors")):  # fmt: skip
        with pytest.raises(UsageError, match=words):
            export_onnx(path, outputs=outputs)


def test_examine_names_the_family(tmp_path: Path) -> None:
    words = {"yolo11": "YOLOv8, 9, 11 or 12-seg", "yolo26 end to end": "no NMS follows",
             "yolo5": "YOLOv5", "rf_detr": "RF-DETR Seg", "ec": "EC-seg"}  # fmt: skip
    for name, said in words.items():
        found = examine(_saved(FILES[name](), tmp_path))
        assert not found.declined
        assert any(said in finding.text for finding in found.findings)
