"""Checkpoints of other projects load by name and shape, whole or not at all.

Models and state dicts are on the meta device, where a tensor is its shape alone, but for the
values that a test looks at.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch import Tensor, nn  # noqa: E402

from maskrt.core import InputError  # noqa: E402
from maskrt.core.masks import MaskFrame  # noqa: E402
from maskrt.export.families.checkpoints import stride_in_first  # noqa: E402
from maskrt.export.families.registry import classes_in, translate  # noqa: E402
from maskrt.export.families.yolact_pyramid import YolactFPN  # noqa: E402
from maskrt.export.source import load_source  # noqa: E402
from maskrt.export.weights import load_weights  # noqa: E402
from maskrt.export.zoo.condinst import condinst_r50  # noqa: E402
from maskrt.export.zoo.yolact import yolact_r50  # noqa: E402

from . import published  # noqa: E402

pytestmark = pytest.mark.torch

CLASSES = 5
PROJECTS: dict[str, tuple[Callable[[int], nn.Module], Callable[[int], Any]]] = {
    "yolact_authors": (yolact_r50, published.yolact_authors),
    "yolact_mmdet": (yolact_r50, published.yolact_mmdet),
    "condinst_adelaidet": (condinst_r50, published.condinst_adelaidet),
    "condinst_mmdet": (condinst_r50, published.condinst_mmdet),
}


def _given(project: str, real: str = "", classes: int = CLASSES) -> tuple[Any, dict[str, Tensor]]:
    """Return a model and a state dict; names that begin with `real` have values."""
    build, shapes = PROJECTS[project]
    with torch.device("meta"):
        model = build(classes)
        state = {name: torch.empty(shape) for name, shape in shapes(classes)}
    for name, value in state.items():
        if real and name.startswith(real):
            state[name] = torch.rand(value.shape)
    if "mask_head.sizes_of_interest" in state:
        state["mask_head.sizes_of_interest"] = torch.tensor([32, 64, 128, 256, 512])
    return model, state


def _translated(project: str, real: str = "", classes: int = CLASSES) -> tuple[Any, Any, Any]:
    model, state = _given(project, real, classes)
    weights = translate(model, state)
    return model.to("meta"), state, weights


@pytest.mark.parametrize("project", PROJECTS)
def test_published_names_and_shapes_load(project: str) -> None:
    model, state, weights = _translated(project)
    assert classes_in(state) == CLASSES
    load_weights(model, weights, "published.pth")
    assert not {n for n in weights if not n.endswith("tracked")} ^ {
        n for n in model.state_dict() if not n.endswith("tracked")
    }
    dropped = set(state) & {"mask_head.sizes_of_interest", "mask_head._iter"}
    assert len(weights) == len(state) - len(dropped)  # no two names became one


def test_yolact_of_the_authors_is_set_up_as_theirs() -> None:
    model, state, weights = _translated("yolact_authors", "fpn.lat_layers", 81)
    # make_priors: w = scale · sqrt(ratio), h = w, in the order 1, 1/2, 2
    expected = [(24.0, 24.0), (24 * 0.5**0.5,) * 2, (24 * 2**0.5,) * 2]
    assert model.anchors.sides(0) == [pytest.approx(sides) for sides in expected]
    assert model.backbone.fpn.relu
    first = weights["backbone.fpn.inner_blocks.0.0.weight"]
    assert torch.equal(first, state["fpn.lat_layers.2.weight"])
    assert model.image_mean[0] == pytest.approx(123.68 / 255)


def test_yolact_of_the_authors_for_pascal_has_other_anchors() -> None:
    model, _, _ = _translated("yolact_authors", classes=21)
    assert model.anchors.sides(0)[1] == pytest.approx((32 * 0.5**0.5, 32 * 2**0.5))


def test_yolact_of_mmdetection_has_its_background_last() -> None:
    model, state, weights = _translated("yolact_mmdet", "bbox_head.conv_cls")
    for anchor in range(3):
        theirs = state["bbox_head.conv_cls.bias"][anchor * CLASSES :][:CLASSES]
        ours = weights["logits.bias"][anchor * CLASSES :][:CLASSES]
        assert torch.equal(ours, theirs[[CLASSES - 1, *range(CLASSES - 1)]])
    assert model.anchors.sides(0)[0] == pytest.approx((24 * 2**0.5, 24 / 2**0.5))
    assert model.inference.clip_first
    assert model.inference.level_candidates == 1000
    assert (model.backbone.fpn.relu, model.backbone.fpn.p6_of_c5) == (False, True)


def test_pyramid_forms_of_yolact() -> None:
    torch.manual_seed(0)
    maps = {str(i): torch.randn(1, 4 * (i + 1), 8 >> i, 8 >> i) for i in range(3)}
    for options in ({}, {"relu": False, "p6_of_c5": True}):
        fpn: Any = YolactFPN([4, 8, 12], 6, **options)
        found = fpn(maps)
        top = fpn.inner_blocks[2](maps["2"])
        last = fpn.layer_blocks[2](top)
        last = last.relu() if fpn.relu else last
        p6 = fpn.p6(maps["2"] if fpn.p6_of_c5 else last)
        assert list(found) == ["0", "1", "2", "p6", "p7"]
        torch.testing.assert_close(found["2"], last)
        torch.testing.assert_close(found["p6"], p6)
        torch.testing.assert_close(found["p7"], fpn.p7(p6))
        assert bool((found["0"] >= 0).all()) is fpn.relu


def test_condinst_of_adelaidet_sees_bgr_and_strides_first() -> None:
    model, state, weights = _translated("condinst_adelaidet", "backbone.bottom_up.stem")
    theirs = state["backbone.bottom_up.stem.conv1.weight"]
    picture = torch.rand(1, 3, 8, 8) * 255  # RGB
    mean = torch.tensor([103.53, 116.28, 123.675]).reshape(1, 3, 1, 1)  # BGR, as in their configs
    expected = torch.conv2d(picture.flip(1) - mean, theirs)
    ours = (picture / 255 - _column(model.image_mean)) / _column(model.image_std)
    found = torch.conv2d(ours, weights["backbone.body.conv1.weight"])
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-2)
    block = model.backbone.body.layer3[0]
    assert (block.conv1.stride, block.conv2.stride) == ((2, 2), (1, 1))
    assert model.backbone.body.layer3[1].conv1.stride == (1, 1)
    assert model.inference.root_scores
    assert model.sizes_of_interest == (32, 64, 128, 256, 512)  # theirs, not our 64 to 1024
    assert model.mask_frame is MaskFrame.CANVAS_LATE
    assert model.inference.rank_product
    assert model.inference.threshold_product  # FCOS.THRESH_WITH_CTR in their Base-CondInst.yaml


def test_stride_is_moved_once() -> None:
    with torch.device("meta"):
        body = condinst_r50(2).backbone.body
    stride_in_first(body)
    stride_in_first(body)
    assert body.layer2[0].conv1.stride == (2, 2)


def test_condinst_of_mmdetection_multiplies_scores() -> None:
    model, state, weights = _translated("condinst_mmdet", "bbox_head.reg_convs")
    assert not model.inference.root_scores
    assert not model.inference.threshold_product
    assert not model.inference.rank_product
    assert model.inference.clip_first
    assert model.mask_frame is MaskFrame.CANVAS_LATE
    assert model.backbone.body.layer3[0].conv2.stride == (2, 2)
    gn = weights["head.box_tower.4.weight"]
    assert torch.equal(gn, state["bbox_head.reg_convs.1.gn.weight"])


def _column(values: tuple[float, ...]) -> Tensor:
    return torch.tensor(values).reshape(1, 3, 1, 1)


@pytest.mark.parametrize("project", ["yolact_authors", "condinst_adelaidet"])
def test_every_key_that_does_not_fit_is_listed(project: str) -> None:
    model, state = _given(project)
    del state[next(name for name in state if name.endswith("conv2.weight"))]
    state["maskiou_net.0.weight"] = torch.zeros(8, 1, 3, 3)
    bent = next(name for name in state if name.endswith("conv3.weight"))
    state[bent] = state[bent][:, :-1]
    with pytest.raises(InputError) as caught:
        load_weights(model, translate(model, state), "published.pth")
    text = str(caught.value)
    assert "\n" not in text
    assert "1 parameters are missing (backbone.body.layer1.0.conv2.weight)" in text
    assert "1 are unknown (maskiou_net.0.weight)" in text
    assert "1 have another shape (backbone.body.layer1.0.conv3.weight: [256, 63, 1, 1]" in text


def test_checkpoint_of_another_family_is_refused_in_one_sentence() -> None:
    _, state = _given("yolact_authors")
    model, _ = _given("condinst_mmdet")
    with pytest.raises(InputError, match="are not this model's") as caught:
        load_weights(model, translate(model, state), "published.pth")
    text = str(caught.value)
    assert "\n" not in text
    for name in ("proto_net.*.weight", "head.cls_tower.*.weight", "mask_branch.last.bias"):
        assert name in text


@pytest.mark.slow
def test_a_yolact_that_was_trained_on_stretched_pictures_says_so(tmp_path: Path) -> None:
    state = published.filled(published.yolact_mmdet(CLASSES))
    file = tmp_path / "published.pth"
    torch.save({"state_dict": state}, file)
    warning = load_source("maskrt:yolact_r50", weights=file).about["warning"]
    assert "stretched" in warning
    assert "\n" not in warning


@pytest.mark.slow
def test_checkpoint_file_tells_its_classes(tmp_path: Path) -> None:
    state = published.filled(published.condinst_mmdet(CLASSES))
    file = tmp_path / "published.pth"
    torch.save({"state_dict": state}, file)
    model: Any = load_source("maskrt:condinst_r50", weights=file).model
    assert model.num_classes == CLASSES
    with pytest.raises(InputError, match=r"made for 5 classes.* num_classes is 7"):
        load_source("maskrt:condinst_r50", weights=file, num_classes=7)
