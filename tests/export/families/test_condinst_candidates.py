"""Which locations become CondInst's candidates: in the eager model and in the graph."""

from dataclasses import replace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
from torch import Tensor, nn  # noqa: E402

from maskrt.core import InputSpec  # noqa: E402
from maskrt.export.families.condinst import CondInst  # noqa: E402
from maskrt.export.families.condinst_graph import CondInstGraph  # noqa: E402

pytestmark = pytest.mark.torch

_SPEC = InputSpec(40, 44, 1, (0, 0, 0))  # padded to 64 x 64


class _Maps(nn.Module):
    """Grey pictures at strides 8, 16, 32."""

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        grey = x.mean(1, keepdim=True).expand(-1, 4, -1, -1)
        return {str(i): nn.functional.avg_pool2d(grey, 8 << i) for i in range(3)}


def _model(probability: float, centerness: float, half_px: float = 2.0) -> Any:
    """Return a model that says the same at every location, and boxes of `2 half_px` pixels."""
    model: Any = CondInst(
        _Maps(), 2, channels=4, strides=(8, 16, 32), sizes_of_interest=(64, 128, 256), convs=1,
        norm=False, mask_channels=4,
    )  # fmt: skip
    with torch.no_grad():
        for layer, value in (
            (model.head.logits, torch.logit(torch.tensor(probability))),
            (model.head.centerness, torch.logit(torch.tensor(centerness))),
        ):
            layer.weight.zero_()
            layer.bias.fill_(value)
        model.head.distances.weight.zero_()
        model.head.distances.bias.fill_(1.0)
        for scale, stride in zip(model.head.scales, model.strides, strict=True):
            scale.fill_(half_px / stride)
    return model.eval()


def _found(model: Any) -> Tensor:
    """Return the boxes, those of the graph, which are the eager model's too."""
    pictures = torch.randint(0, 255, (1, _SPEC.height, _SPEC.width, 3), dtype=torch.uint8)
    with torch.no_grad():
        boxes, *_, count = CondInstGraph(model, _SPEC).eval()(pictures)
        plain = model(pictures.permute(0, 3, 1, 2).float())[0].boxes
    graph = boxes[0, : int(count)]
    assert {tuple(box) for box in graph.tolist()} == {tuple(box) for box in plain.tolist()}
    return graph


@pytest.mark.parametrize("product", [False, True])
def test_threshold_is_of_the_class_or_of_the_product(product: bool) -> None:
    model = _model(probability=0.08, centerness=0.5)  # their product is 0.04
    model.inference = replace(model.inference, threshold_product=product)
    assert bool(len(_found(model))) is not product
    clear = _model(probability=0.2, centerness=0.5)
    clear.inference = replace(clear.inference, threshold_product=product)
    assert len(_found(clear))


def test_what_lies_wholly_in_the_padding_is_no_instance() -> None:
    boxes = _found(_model(probability=0.9, centerness=0.9))
    assert len(boxes) > 10
    assert (boxes[:, 2:] > boxes[:, :2]).all()


@pytest.mark.parametrize("first", [False, True])
def test_boxes_are_compared_before_or_after_they_are_cut(first: bool) -> None:
    """Boxes of 200 pixels, all of the picture once they are cut."""
    model = _model(probability=0.9, centerness=0.9, half_px=100.0)
    model.inference = replace(model.inference, clip_first=first)
    boxes = _found(model)
    assert (len(boxes) == 1) is first
    assert boxes[0].tolist() == [0, 0, _SPEC.width, _SPEC.height]
