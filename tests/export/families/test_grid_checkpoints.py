"""SOLO's and SOLOv2's weights of other projects: published names and shapes, enumerated here."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
import torchvision  # noqa: E402

from maskrt.core import InputError, UsageError  # noqa: E402
from maskrt.export.families.registry import classes_in, translate  # noqa: E402
from maskrt.export.source import load_source  # noqa: E402
from maskrt.export.weights import load_weights  # noqa: E402

pytestmark = pytest.mark.torch

_GRIDS = (40, 36, 24, 16, 12)
_WIDTHS = (256, 512, 1024, 2048)
Names = Iterator[tuple[str, tuple[int, ...]]]


def _conv(name: str, out: int, into: int, kernel: int, bias: bool = True) -> Names:
    yield f"{name}.weight", (out, into, kernel, kernel)
    if bias:
        yield f"{name}.bias", (out,)


def _norm(name: str, channels: int) -> Names:
    yield f"{name}.weight", (channels,)
    yield f"{name}.bias", (channels,)


def _mm_trunk() -> Names:
    for name, value in torchvision.models.resnet50(weights=None).state_dict().items():
        if not name.startswith("fc."):
            yield f"backbone.{name}", tuple(value.shape)
    for place, width in enumerate(_WIDTHS):
        yield from _conv(f"neck.lateral_convs.{place}.conv", 256, width, 1)
        yield from _conv(f"neck.fpn_convs.{place}.conv", 256, 256, 3)


def _mm_tower(name: str, first: int, width: int, depth: int) -> Names:
    for place in range(depth):
        into = first if place == 0 else width
        yield from _conv(f"{name}.{place}.conv", width, into, 3, bias=False)
        yield from _norm(f"{name}.{place}.gn", width)


def _mm_masks(name: str) -> Names:
    for level in range(4):
        for place in range(max(level, 1)):
            into = 128 if place else 258 if level == 3 else 256
            yield from _conv(f"{name}.{level}.conv{place}.conv", 128, into, 3, bias=False)
            yield from _norm(f"{name}.{level}.conv{place}.gn", 128)


def _solov2_mmdet() -> Names:
    yield from _mm_trunk()
    yield from _mm_tower("mask_head.kernel_convs", 258, 512, 4)
    yield from _mm_tower("mask_head.cls_convs", 256, 512, 4)
    yield from _conv("mask_head.conv_cls", 80, 512, 3)
    yield from _conv("mask_head.conv_kernel", 256, 512, 3)
    yield from _mm_masks("mask_head.mask_feature_head.convs_all_levels")
    yield from _conv("mask_head.mask_feature_head.conv_pred.conv", 256, 128, 1, bias=False)
    yield from _norm("mask_head.mask_feature_head.conv_pred.gn", 256)


def _solov2_authors() -> Names:
    yield from _mm_trunk()
    yield from _mm_tower("bbox_head.cate_convs", 256, 512, 4)
    yield from _mm_tower("bbox_head.kernel_convs", 258, 512, 4)
    yield from _conv("bbox_head.solo_cate", 80, 512, 3)
    yield from _conv("bbox_head.solo_kernel", 256, 512, 3)
    yield from _mm_masks("mask_feat_head.convs_all_levels")
    yield from _conv("mask_feat_head.conv_pred.0.conv", 256, 128, 1, bias=False)
    yield from _norm("mask_feat_head.conv_pred.0.gn", 256)


def _detectron2_trunk() -> Names:
    """FrozenBatchNorm2d: four tensors a norm, and no counter."""

    def layer(name: str, out: int, into: int, kernel: int) -> Names:
        yield from _conv(name, out, into, kernel, bias=False)
        for part in ("weight", "bias", "running_mean", "running_var"):
            yield f"{name}.norm.{part}", (out,)

    up = "backbone.bottom_up"
    yield from layer(f"{up}.stem.conv1", 64, 3, 7)
    for stage, (width, blocks) in enumerate(zip(_WIDTHS, (3, 4, 6, 3), strict=True), 2):
        into = 64 if stage == 2 else width // 2
        for block in range(blocks):
            name = f"{up}.res{stage}.{block}"
            if block == 0:
                yield from layer(f"{name}.shortcut", width, into, 1)
            yield from layer(f"{name}.conv1", width // 4, into if block == 0 else width, 1)
            yield from layer(f"{name}.conv2", width // 4, width // 4, 3)
            yield from layer(f"{name}.conv3", width, width // 4, 1)
        yield from _conv(f"backbone.fpn_lateral{stage}", 256, width, 1)
        yield from _conv(f"backbone.fpn_output{stage}", 256, 256, 3)


def _solov2_adelaidet() -> Names:
    yield from _detectron2_trunk()
    for kind, first in (("cate", 256), ("kernel", 258)):
        for place in range(4):
            into = first if place == 0 else 512
            yield from _conv(f"ins_head.{kind}_tower.{3 * place}", 512, into, 3, bias=False)
            yield from _norm(f"ins_head.{kind}_tower.{3 * place + 1}", 512)
    yield from _conv("ins_head.cate_pred", 80, 512, 3)
    yield from _conv("ins_head.kernel_pred", 256, 512, 3)
    for level in range(4):
        for place in range(max(level, 1)):
            into = 128 if place else 258 if level == 3 else 256
            name = f"mask_head.convs_all_levels.{level}.conv{place}"
            yield from _conv(f"{name}.0", 128, into, 3, bias=False)
            yield from _norm(f"{name}.1", 128)
    yield from _conv("mask_head.conv_pred.0", 256, 128, 1, bias=False)
    yield from _norm("mask_head.conv_pred.1", 256)


def _solo_mmdet() -> Names:
    yield from _mm_trunk()
    yield from _mm_tower("mask_head.mask_convs", 258, 256, 7)
    yield from _mm_tower("mask_head.cls_convs", 256, 256, 7)
    for place, grid in enumerate(_GRIDS):
        yield from _conv(f"mask_head.conv_mask_list.{place}", grid * grid, 256, 1)
    yield from _conv("mask_head.conv_cls", 80, 256, 3)


def _solo_authors() -> Names:
    yield from _mm_trunk()
    yield from _mm_tower("bbox_head.ins_convs", 258, 256, 7)
    yield from _mm_tower("bbox_head.cate_convs", 256, 256, 7)
    for place, grid in enumerate(_GRIDS):
        yield from _conv(f"bbox_head.solo_ins_list.{place}", grid * grid, 256, 1)
    yield from _conv("bbox_head.solo_cate", 80, 256, 3)


def _decoupled(head: str, towers: str, layers: str, categories: str, logits: str) -> Names:
    yield from _mm_trunk()
    yield from _mm_tower(f"{head}.{categories}", 256, 256, 7)
    for axis in "xy":
        yield from _mm_tower(f"{head}.{towers}_{axis}", 257, 256, 7)
        for place, grid in enumerate(_GRIDS):
            yield from _conv(f"{head}.{layers}_{axis}.{place}", grid, 256, 3)
    yield from _conv(f"{head}.{logits}", 80, 256, 3)


def _decoupled_authors() -> Names:
    return _decoupled("bbox_head", "ins_convs", "dsolo_ins_list", "cate_convs", "dsolo_cate")


def _decoupled_mmdet() -> Names:
    return _decoupled("mask_head", "mask_convs", "conv_mask_list", "cls_convs", "conv_cls")


# name of the model; published names; (theirs, ours) of parameters whose mix-up no shape would show
_CASES = {
    "mmdetection's SOLOv2": (
        "solov2_r50", _solov2_mmdet,
        [("mask_head.cls_convs.3.gn.weight", "category_branch.tower.3.norm.weight"),
         ("mask_head.kernel_convs.3.gn.weight", "kernel_branch.tower.3.norm.weight"),
         ("neck.fpn_convs.2.conv.bias", "backbone.fpn.layer_blocks.2.0.bias"),
         ("mask_head.mask_feature_head.convs_all_levels.3.conv2.gn.bias",
          "mask_branch.levels.3.2.norm.bias")],
    ),
    "the authors' SOLOv2": (
        "solov2_r50", _solov2_authors,
        [("bbox_head.cate_convs.1.conv.weight", "category_branch.tower.1.conv.weight"),
         ("bbox_head.kernel_convs.1.conv.weight", "kernel_branch.tower.1.conv.weight"),
         ("mask_feat_head.conv_pred.0.gn.bias", "mask_branch.merge.norm.bias")],
    ),
    "AdelaiDet's SOLOv2": (
        "solov2_r50", _solov2_adelaidet,
        [("ins_head.cate_tower.9.weight", "category_branch.tower.3.conv.weight"),
         ("ins_head.kernel_tower.10.bias", "kernel_branch.tower.3.norm.bias"),
         ("backbone.bottom_up.res3.2.conv1.norm.running_var",
          "backbone.body.layer2.2.bn1.running_var"),
         ("backbone.bottom_up.res5.0.shortcut.weight",
          "backbone.body.layer4.0.downsample.0.weight"),
         ("backbone.fpn_output4.bias", "backbone.fpn.layer_blocks.2.0.bias")],
    ),
    "mmdetection's SOLO": (
        "solo_r50", _solo_mmdet,
        [("mask_head.mask_convs.6.conv.weight", "mask_towers.0.6.conv.weight"),
         ("mask_head.cls_convs.6.conv.weight", "category_branch.tower.6.conv.weight")],
    ),
    "the authors' SOLO": (
        "solo_r50", _solo_authors,
        [("bbox_head.ins_convs.6.gn.bias", "mask_towers.0.6.norm.bias"),
         ("bbox_head.cate_convs.6.gn.bias", "category_branch.tower.6.norm.bias")],
    ),
    "mmdetection's decoupled SOLO": (
        "decoupled_solo_r50", _decoupled_mmdet,
        [("mask_head.mask_convs_y.3.conv.weight", "mask_towers.1.3.conv.weight"),
         ("mask_head.conv_mask_list_x.0.bias", "mask_layers.0.0.bias")],
    ),
    "the authors' decoupled SOLO": (
        "decoupled_solo_r50", _decoupled_authors,
        [("bbox_head.ins_convs_x.0.conv.weight", "mask_towers.0.0.conv.weight"),
         ("bbox_head.ins_convs_y.0.conv.weight", "mask_towers.1.0.conv.weight"),
         ("bbox_head.dsolo_ins_list_y.4.bias", "mask_layers.1.4.bias")],
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", _CASES)
def test_published_checkpoint_fits_whole(case: str) -> None:
    """Names and shapes alone: nothing is allocated."""
    words, names, pairs = _CASES[case]
    with torch.device("meta"):
        model: Any = load_source(f"maskrt:{words}").model
        published = {name: torch.empty(shape) for name, shape in names()}
    assert classes_in(published) == 81
    found = translate(model, published)
    load_weights(model, found, "published.pth")  # or it lists what is wrong
    taken = {id(value) for value in found.values()}
    left = [name for name, value in published.items() if id(value) not in taken]
    changed = ["backbone.bottom_up.stem.conv1.weight"] if "AdelaiDet" in case else []
    assert left == changed
    for theirs, ours in pairs:
        assert found[ours] is published[theirs], (theirs, ours)


def test_adelaidet_pictures_are_bgr_and_its_strides_first() -> None:
    with torch.device("meta"):
        model: Any = load_source("maskrt:solov2_r50").model
        published = {name: torch.empty(shape) for name, shape in _solov2_adelaidet()}
    first = torch.randn(64, 3, 7, 7)
    published["backbone.bottom_up.stem.conv1.weight"] = first
    weight = translate(model, published)["backbone.body.conv1.weight"]
    rgb = torch.rand(1, 3, 64, 64)
    mean, std = (torch.tensor(v).reshape(1, 3, 1, 1) for v in (model.image_mean, model.image_std))
    ours = torch.nn.functional.conv2d((rgb - mean) / std, weight, stride=2, padding=3)
    pixel_mean = torch.tensor([103.53, 116.28, 123.675]).reshape(1, 3, 1, 1)  # BGR, detectron2's
    theirs = torch.nn.functional.conv2d(rgb.flip(1) * 255 - pixel_mean, first, stride=2, padding=3)
    assert torch.allclose(ours, theirs, atol=1e-5 * float(theirs.abs().max()))
    block = model.backbone.body.layer3[0]
    assert (block.conv1.stride, block.conv2.stride) == ((2, 2), (1, 1))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (lambda w: w.pop("mask_head.conv_kernel.bias"), "kernel_branch.kernels.bias"),
        (lambda w: w.update({"neck.fpn_convs.4.conv.bias": torch.zeros(256)}), "fpn_convs.4"),
        (
            lambda w: w.update({"mask_head.conv_kernel.weight": torch.zeros(128, 512, 3, 3)}),
            r"kernel_branch.kernels.weight: \[128, 512, 3, 3\] in the file, not \[256, 512, 3, 3\]",
        ),
    ],
)
def test_every_misfit_is_listed(change: Any, said: str) -> None:
    with torch.device("meta"):
        model: Any = load_source("maskrt:solov2_r50").model
        published = {name: torch.empty(shape) for name, shape in _solov2_mmdet()}
    change(published)
    with pytest.raises(InputError, match=said):
        load_weights(model, translate(model, published), "changed.pth")


def test_another_number_of_classes_is_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "coco.pth"
    torch.save({"mask_head.conv_cls.weight": torch.zeros(80, 4, 3, 3)}, file)
    with pytest.raises(InputError, match=r"made for 81 classes .* num_classes is 21"):
        load_source("maskrt:solov2_r50", weights=file, num_classes=21)


def test_an_unknown_name_gets_the_nearest() -> None:
    with pytest.raises(UsageError, match="did you mean solov2_r50"):
        load_source("maskrt:solov2_r5")
