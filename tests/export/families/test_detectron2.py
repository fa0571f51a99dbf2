"""detectron2's Mask and Faster R-CNN: names, arithmetic, and its pickles of arrays."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import Tensor  # noqa: E402
from torchvision.models.detection import maskrcnn_resnet50_fpn  # noqa: E402

from maskrt.checking.conversion import prove  # noqa: E402
from maskrt.core import InputError, InputSpec, UsageError  # noqa: E402
from maskrt.export import export_model  # noqa: E402
from maskrt.export.families.detectron2_rcnn import FixedAnchors, detectron2_rcnn  # noqa: E402
from maskrt.export.families.registry import classes_in, family_of, translate  # noqa: E402
from maskrt.export.source import load_source  # noqa: E402
from maskrt.export.weights import load_weights, read_weights  # noqa: E402
from maskrt.export.zoo.maskrcnn import maskrcnn_r50_detectron2  # noqa: E402
from maskrt.runtime import letterbox  # noqa: E402

from . import detectron2_steps as steps  # noqa: E402
from . import detectron2_zoo, published  # noqa: E402

pytestmark = pytest.mark.torch

CLASSES = 4


def _pickled(folder: Path, content: Any, protocol: int = 4) -> Path:
    file = folder / "model_final.pkl"
    file.write_bytes(pickle.dumps(content, protocol=protocol))
    return file


def test_published_names_and_shapes_load() -> None:
    with torch.device("meta"):
        model: Any = maskrcnn_r50_detectron2(CLASSES)
        state = {n: torch.empty(shape) for n, shape in published.mask_rcnn_detectron2(CLASSES)}
    assert classes_in(state) == CLASSES
    weights = translate(model, state)
    load_weights(model, weights, "model_final.pkl")
    assert len(weights) == len(state) - 5  # the cell anchors are constants


def test_weights_of_detectron2_are_not_torchvision_s() -> None:
    state = {n: torch.empty(0) for n, _ in published.mask_rcnn_detectron2(CLASSES)}
    conv = "backbone.bottom_up.res2.0.conv2.weight"
    state[conv] = torch.empty(64, 64, 3, 3)  # tells ResNet from ResNeXt
    with torch.device("meta"):
        model = maskrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=CLASSES)
    with pytest.raises(InputError, match="compile maskrt:maskrcnn_r50_detectron2"):
        translate(model, state)


def _constants(model: Any, **values: Any) -> Any:
    """Translate a file that holds these of detectron2's constants."""
    marker = "proposal_generator.rpn_head.objectness_logits.weight"
    weights = {marker: torch.zeros(3, 256, 1, 1)}
    return translate(model, weights | {n.replace("__", "."): v for n, v in values.items()})


def test_proposals_are_ordered_by_the_logits_themselves() -> None:
    """By detectron2's as they are; torchvision's sigmoid would make one of all above 17."""
    with torch.device("meta"):
        model: Any = maskrcnn_r50_detectron2(CLASSES)
    logits = torch.tensor([30.0, 30.001, 25.0, 17.0, -40.0])
    held = _constants(model, proposal_generator__rpn_head__objectness_logits__bias=logits)
    ours = held["rpn.head.cls_logits.bias"].sigmoid()
    assert len(ours.unique()) == len(logits)
    assert ours.argsort().tolist() == logits.argsort().tolist()
    assert model.rpn.score_thresh == 0  # nothing else asks for objectness


def test_anchors_that_the_file_holds_are_taken_over() -> None:
    with torch.device("meta"):
        model: Any = maskrcnn_r50_detectron2(CLASSES)
    own = torch.arange(12.0).reshape(3, 4)
    name = "proposal_generator__anchor_generator__cell_anchors__1"
    assert name not in _constants(model, **{name: own})
    assert torch.equal(model.rpn.anchor_generator.cell_anchors[1], own)


def test_colours_that_are_not_understood_are_refused() -> None:
    with torch.device("meta"):
        model: Any = maskrcnn_r50_detectron2(CLASSES)
    mean, std = torch.tensor([103.53, 116.28, 123.675]), torch.ones(3)
    _constants(model, pixel_mean=mean[:, None, None], pixel_std=std[:, None, None])
    with pytest.raises(InputError, match=r"pixel_mean \[123.675, .* is for \[103.53, "):
        _constants(model, pixel_mean=mean.flip(0)[:, None, None])
    with pytest.raises(InputError, match=r"pixel_std \[57.375, .* is for \[1.0, 1.0, 1.0\]"):
        _constants(model, pixel_std=torch.tensor([57.375, 57.12, 58.395]))


def test_anchors_are_not_rounded_and_keep_their_strides() -> None:
    maps = [torch.zeros(1, 1, 3, 5), torch.zeros(1, 1, 2, 3)]
    images: Any = type(
        "Images", (), {"image_sizes": [(12, 20)], "tensors": torch.zeros(1, 3, 12, 20)}
    )
    generator = FixedAnchors()
    generator.cell_anchors = generator.cell_anchors[:2]
    found = generator(images, maps)[0]
    expected = [steps._anchors(0, 3, 5), steps._anchors(1, 2, 3)]
    torch.testing.assert_close(found, torch.cat(expected))


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_pickle_of_arrays_is_read(tmp_path: Path, protocol: int) -> None:
    arrays = {"a.weight": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.ones(2, np.float16)}
    content = {"model": arrays, "__author__": "Detectron2 Model Zoo"}
    found = read_weights(_pickled(tmp_path, content, protocol))
    assert found["a.weight"].tolist() == [[0, 1, 2], [3, 4, 5]]
    assert found["b"].dtype is torch.float32


def test_cut_pickle_is_refused(tmp_path: Path) -> None:
    file = _pickled(tmp_path, {"model": {"a": np.zeros(1000)}})
    file.write_bytes(file.read_bytes()[:500])
    with pytest.raises(InputError, match="cut short"):
        read_weights(file)


def _random(shapes: Any, blocks: tuple[int, ...] = published.BLOCKS) -> dict[str, Tensor]:
    """Weights whose features stay in range, for pixels with a deviation of one."""
    generator = torch.Generator().manual_seed(0)
    state = {}
    for name, shape in shapes:
        fan = int(np.prod(shape[1:])) if len(shape) > 1 else 1
        value = torch.randn(shape, generator=generator) * (2 / fan) ** 0.5
        if len(shape) == 1:
            value = value * 0.05
        if ".norm." in name:
            value = value + (1.0 if name.endswith(("running_var", "norm.weight")) else 0.0)
        state[name] = value.abs() + 0.1 if name.endswith("running_var") else value
    for stage, number in enumerate(blocks):
        for block in range(number):
            state[f"backbone.bottom_up.res{stage + 2}.{block}.conv3.norm.weight"] *= 0.2
    return state


def _lively(photo: Tensor, masked: bool) -> dict[str, Tensor]:
    """Weights whose last layers tell boxes apart."""
    shapes = published.mask_rcnn_detectron2(CLASSES)
    state = _random((n, shape) for n, shape in shapes if masked or ".mask_head." not in n)
    for level in range(5):
        name = f"proposal_generator.anchor_generator.cell_anchors.{level}"
        state[name] = steps._anchors(level, 1, 1)
    state["backbone.bottom_up.stem.conv1.weight"] /= 50  # pixels have a deviation of about 50
    maps = steps.features(state, photo)
    logits, deltas = zip(*(steps.rpn(state, m) for m in maps), strict=True)
    for name, outputs, spread in (
        ("objectness_logits", logits, 2.0),
        ("anchor_deltas", deltas, 0.3),
    ):
        key = f"proposal_generator.rpn_head.{name}.weight"
        state[key] *= spread / torch.cat([o.flatten() for o in outputs]).std()
    boxes = steps.proposals(state, maps, tuple(photo.shape[:2]))
    scores, codes = steps.box_scores(state, maps, boxes)
    for name, output, spread in (("cls_score", scores, 2.0), ("bbox_pred", codes, 0.7)):
        scale = spread / output.std(0).mean()
        state[f"roi_heads.box_predictor.{name}.weight"] *= scale
        bias = f"roi_heads.box_predictor.{name}.bias"
        state[bias] = (state[bias] - output.mean(0)) * scale
    return state


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["maskrcnn", "fasterrcnn"])
def test_inference_is_detectron2_s(tmp_path: Path, photos: list[np.ndarray], kind: str) -> None:
    """Non-square, not a multiple of 32: loaded from a pickle, ours finds what their steps find.

    They get a picture that is narrower than the canvas as it is, and pad it themselves.
    """
    spec = InputSpec(100, 170, 1, (124, 116, 104))
    picture = np.ascontiguousarray(photos[0][40:140, 150:315])
    canvas = letterbox(picture, spec)[0]
    masked = kind == "maskrcnn"
    with torch.no_grad():
        state = _lively(torch.from_numpy(picture), masked)
        expected = steps.detect(state, torch.from_numpy(picture), 0.05, 20)
    file = _pickled(tmp_path, {"model": {n: v.numpy() for n, v in state.items()}})
    model: Any = load_source(f"maskrt:{kind}_r50_detectron2", weights=file).model
    model.roi_heads.detections_per_img = 20
    reference = family_of(model).reference(model, spec)
    found = {name: value[0] for name, value in reference.run(canvas[None]).items()}
    number = int(found["count"])
    assert number == len(expected["scores"]) > 5
    np.testing.assert_allclose(found["scores"][:number], expected["scores"], atol=1e-4)
    assert found["labels"][:number].tolist() == (expected["labels"] + 1).tolist()
    np.testing.assert_allclose(found["boxes"][:number], expected["boxes"], atol=1e-2)
    assert ("masks" in found) is ("masks" in expected) is masked
    if masked:
        np.testing.assert_allclose(found["masks"][:number], expected["masks"], atol=1e-3)
    exported = export_model(model, input_size=(100, 170))
    proof = prove(exported, photos[:1])
    assert proof["violations"] == [], proof


_TORCHVISION = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
_VARIANTS: dict[str, tuple[Any, dict[str, Any], steps.Config]] = {
    "R50 of torchvision": (
        50,
        {"stride_in_1x1": False, "pixel_format": "RGB", "pixel_mean": _TORCHVISION["mean"],
         "pixel_std": _TORCHVISION["std"]},
        steps.Config(stride_in_1x1=False, rgb=True, **_TORCHVISION),
    ),
    "X101": (
        "x101", {},
        steps.Config(blocks=(3, 4, 23, 3), groups=32, stride_in_1x1=False,
                     std=(57.375, 57.12, 58.395))),
}  # fmt: skip


@pytest.mark.parametrize(
    "variant", ["R50 of torchvision", pytest.param("X101", marks=pytest.mark.slow)]
)
def test_maps_are_detectron2_s_in_every_configuration(
    photos: list[np.ndarray], variant: str
) -> None:
    body, options, config = _VARIANTS[variant]
    shapes = detectron2_zoo._pyramid(
        detectron2_zoo.rpn, detectron2_zoo.boxes, blocks=config.blocks, groups=config.groups
    )
    state = _random(shapes, config.blocks)
    picture = torch.from_numpy(np.ascontiguousarray(photos[0][:64, :96]))
    model: Any = detectron2_rcnn(body, detectron2_zoo.CLASSES, masks=False, **options).eval()
    load_weights(model, translate(model, state), "model_final.pth")
    unit = picture.permute(2, 0, 1)[None].float() / 255
    colours = (torch.tensor(v).reshape(3, 1, 1)
               for v in (model.transform.image_mean, model.transform.image_std))  # fmt: skip
    mean, deviation = colours
    with torch.no_grad():
        found = list(model.backbone((unit - mean) / deviation).values())
        expected = steps.features(state, picture, config)
    assert len(found) == len(expected) == 5
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
        assert (one - other).abs().max() <= 1e-4 * other.abs().max() > 0


def test_configuration_that_is_not_understood_is_refused() -> None:
    with pytest.raises(UsageError, match="not 18 and 'BGR'"):
        detectron2_rcnn(18)
    with pytest.raises(UsageError, match="not 50 and 'bgr'"):
        detectron2_rcnn(50, pixel_format="bgr")


def test_anchors_of_one_s_own_shape_the_rpn() -> None:
    own = FixedAnchors((16, 32, 64, 128, 256), (0.5, 1.0))
    with torch.device("meta"):
        model: Any = detectron2_rcnn(50, CLASSES, rpn_anchor_generator=own)
    assert model.rpn.head.cls_logits.out_channels == 2
    assert own.cell_anchors[0].tolist()[1] == [-8, -8, 8, 8]
