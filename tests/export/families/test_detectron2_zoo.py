"""Each layout of detectron2's model zoo: a refusal names the model that takes it, or why none."""

import re
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch import Tensor  # noqa: E402

from maskrt.core import InputError  # noqa: E402
from maskrt.export.families.detectron2_layouts import remark  # noqa: E402
from maskrt.export.families.registry import classes_in, refusal, translate  # noqa: E402
from maskrt.export.source import _find, load_source  # noqa: E402
from maskrt.export.weights import load_weights, misfit  # noqa: E402
from maskrt.export.zoo import ZOO  # noqa: E402

from . import detectron2_zoo as zoo  # noqa: E402
from . import published  # noqa: E402

pytestmark = pytest.mark.torch

MODELS = sorted(name for name in ZOO if name.endswith("_detectron2"))


def _weights(shapes: Any) -> dict[str, Tensor]:
    return {name: torch.empty(shape, device="meta") for name, shape in shapes()}


def _model(words: str, classes: int = zoo.CLASSES) -> Any:
    factory, options = _find(words)
    with torch.device("meta"):
        return factory(num_classes=classes, **options)


@pytest.fixture(scope="module")
def models() -> dict[str, Any]:
    return {name: _model(f"maskrt:{name}") for name in MODELS}


@pytest.mark.parametrize("layout", zoo.TAKEN)
def test_named_model_takes_the_file_and_no_other_does(layout: str, models: dict[str, Any]) -> None:
    shapes, expected = zoo.TAKEN[layout]
    weights = _weights(shapes)
    named = re.search(r"compile maskrt:(\w+) with them\.$", refusal(weights) or "")
    assert named is not None
    assert named[1] == expected
    assert classes_in(weights) == zoo.CLASSES
    fitting = [n for n, model in models.items() if not misfit(model, translate(model, weights))]
    assert fitting == [expected]


@pytest.mark.parametrize("layout", zoo.REFUSED)
def test_layout_without_a_model_is_named_with_what_helps(
    layout: str, models: dict[str, Any]
) -> None:
    shapes, name = zoo.REFUSED[layout]
    weights = _weights(shapes)
    told = refusal(weights) or ""
    assert told.startswith("of detectron2's ")
    assert name in told
    assert re.search(r"export_model\.py|compile a |condinst", told)
    for other in re.findall(r"maskrt:(\w+)", told):
        assert other in ZOO
    assert all(misfit(model, translate(model, weights)) for model in models.values())


@pytest.mark.parametrize("layout", [*zoo.TAKEN, *zoo.REFUSED])
def test_torchvision_s_model_and_another_family_s_tell_the_same(
    layout: str, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever model is asked for: the file is named, and the wrong model never sends back."""
    weights = _weights({**zoo.TAKEN, **zoo.REFUSED}[layout][0])
    checkpoint = type("Checkpoint", (), {"tensors": weights, "about": {}})
    monkeypatch.setattr("maskrt.export.source.read_checkpoint", lambda path: checkpoint)
    told = refusal(weights) or ""
    for words in ("torchvision:maskrcnn_resnet50_fpn", "maskrt:solov2_light_r18"):
        with torch.device("meta"), pytest.raises(InputError) as refused:
            load_source(words, weights=tmp_path / "model_final.pth")
        assert str(refused.value).endswith(told)


def test_semantic_half_is_told(models: dict[str, Any]) -> None:
    panoptic = _weights(zoo.TAKEN["panoptic_fpn_R_50"][0])
    assert "sem_seg_head" in (remark(panoptic) or "")
    assert remark(_weights(zoo.TAKEN["mask_rcnn_R_50_FPN"][0])) is None


@pytest.mark.parametrize(
    "shapes", [published.condinst_adelaidet, published.condinst_mmdet, published.yolact_authors]
)
def test_files_of_other_projects_are_not_detectron2_s(shapes: Any) -> None:
    assert refusal(_weights(lambda: shapes(zoo.CLASSES))) is None


def test_rows_for_all_classes_alike_are_repeated() -> None:
    shapes, model = zoo.TAKEN["mask_rcnn_R_50_FPN_1x_cls_agnostic"]
    built: Any = _find(f"maskrt:{model}")[0](num_classes=zoo.CLASSES)
    weights = {name: torch.rand(shape) for name, shape in shapes()}
    load_weights(built, translate(built, weights), "model_final.pth")
    codes = built.roi_heads.box_predictor.bbox_pred.weight.unflatten(0, (zoo.CLASSES, 4))
    assert not codes[0].any()
    for own in codes[1:]:
        assert torch.equal(own, weights["roi_heads.box_predictor.bbox_pred.weight"])
    logits = built.roi_heads.mask_predictor.mask_fcn_logits.weight
    for one in logits[1:]:
        assert torch.equal(one, weights["roi_heads.mask_head.predictor.weight"][0])
