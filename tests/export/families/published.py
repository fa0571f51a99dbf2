"""State dicts with the names and shapes that other projects publish, values at random.

Written from those projects' own modules (dbolya/yolact, AdelaiDet, mmdetection 3), not from the
mappings under test.
"""

from collections.abc import Iterator

import torch
from torch import Tensor

Shapes = Iterator[tuple[str, tuple[int, ...]]]
BLOCKS = (3, 4, 6, 3)  # ResNet-50


def filled(shapes: Shapes) -> dict[str, Tensor]:
    """Return small random values; counters as integers."""
    return {
        name: torch.tensor(7) if name.endswith("tracked") else torch.rand(shape) * 0.1 + 0.01
        for name, shape in shapes
    }


def conv(name: str, outputs: int, inputs: int, kernel: int, bias: bool = True) -> Shapes:
    yield f"{name}.weight", (outputs, inputs, kernel, kernel)
    if bias:
        yield f"{name}.bias", (outputs,)


def norm(name: str, channels: int, counter: bool = True) -> Shapes:
    for part in ("weight", "bias", "running_mean", "running_var"):
        yield f"{name}.{part}", (channels,)
    if counter:
        yield f"{name}.num_batches_tracked", ()


def resnet50(prefix: str, layer: str, first: int) -> Shapes:
    """torchvision's names under a prefix, stages called `layer` and counted from `first`."""
    yield from conv(f"{prefix}conv1", 64, 3, 7, bias=False)
    yield from norm(f"{prefix}bn1", 64)
    inputs = 64
    for stage, blocks in enumerate(BLOCKS):
        width = 64 * 2**stage
        for block in range(blocks):
            name = f"{prefix}{layer}{stage + first}.{block}"
            yield from conv(f"{name}.conv1", width, inputs, 1, bias=False)
            yield from norm(f"{name}.bn1", width)
            yield from conv(f"{name}.conv2", width, width, 3, bias=False)
            yield from norm(f"{name}.bn2", width)
            yield from conv(f"{name}.conv3", 4 * width, width, 1, bias=False)
            yield from norm(f"{name}.bn3", 4 * width)
            if block == 0:
                yield from conv(f"{name}.downsample.0", 4 * width, inputs, 1, bias=False)
                yield from norm(f"{name}.downsample.1", 4 * width)
            inputs = 4 * width


def detectron_resnet50(prefix: str = "backbone.bottom_up.") -> Shapes:
    """detectron2's names, whose batch norms are frozen and count nothing."""
    yield from conv(f"{prefix}stem.conv1", 64, 3, 7, bias=False)
    yield from norm(f"{prefix}stem.conv1.norm", 64, counter=False)
    inputs = 64
    for stage, blocks in enumerate(BLOCKS):
        width = 64 * 2**stage
        for block in range(blocks):
            name = f"{prefix}res{stage + 2}.{block}"
            if block == 0:
                yield from conv(f"{name}.shortcut", 4 * width, inputs, 1, bias=False)
                yield from norm(f"{name}.shortcut.norm", 4 * width, counter=False)
            shapes = ((width, inputs, 1), (width, width, 3), (4 * width, width, 1))
            for number, (outputs, before, kernel) in enumerate(shapes, 1):
                yield from conv(f"{name}.conv{number}", outputs, before, kernel, bias=False)
                yield from norm(f"{name}.conv{number}.norm", outputs, counter=False)
            inputs = 4 * width


def yolact_authors(classes: int) -> Shapes:
    """yolact_resnet50 of dbolya/yolact; `classes` with background."""
    yield from resnet50("backbone.", "layers.", 0)
    for i, channels in enumerate((2048, 1024, 512)):
        yield from conv(f"fpn.lat_layers.{i}", 256, channels, 1)
    for i in range(3):
        yield from conv(f"fpn.pred_layers.{i}", 256, 256, 3)
    for i in range(2):
        yield from conv(f"fpn.downsample_layers.{i}", 256, 256, 3)
    for i in (0, 2, 4, 8):
        yield from conv(f"proto_net.{i}", 256, 256, 3)
    yield from conv("proto_net.10", 32, 256, 1)
    yield from conv("prediction_layers.0.upfeature.0", 256, 256, 3)
    yield from conv("prediction_layers.0.bbox_layer", 12, 256, 3)
    yield from conv("prediction_layers.0.conf_layer", 3 * classes, 256, 3)
    yield from conv("prediction_layers.0.mask_layer", 96, 256, 3)
    yield from conv("semantic_seg_conv", classes - 1, 256, 1)


def yolact_mmdet(classes: int) -> Shapes:
    """yolact_r50 of mmdetection 3; `classes` with background."""
    yield from resnet50("backbone.", "layer", 1)
    for i, channels in enumerate((512, 1024, 2048)):
        yield from conv(f"neck.lateral_convs.{i}.conv", 256, channels, 1)
    for i, channels in enumerate((256, 256, 256, 2048, 256)):
        yield from conv(f"neck.fpn_convs.{i}.conv", 256, channels, 3)
    yield from conv("bbox_head.head_convs.0.conv", 256, 256, 3)
    yield from conv("bbox_head.conv_cls", 3 * classes, 256, 3)
    yield from conv("bbox_head.conv_reg", 12, 256, 3)
    yield from conv("bbox_head.conv_coeff", 96, 256, 3)
    for i in (0, 2, 4, 8):
        yield from conv(f"mask_head.protonet.{i}", 256, 256, 3)
    yield from conv("mask_head.protonet.10", 32, 256, 1)
    yield from conv("mask_head.segm_branch.segm_conv", classes - 1, 256, 1)


def condinst_adelaidet(classes: int) -> Shapes:
    """CondInst MS_R_50 of AdelaiDet; `classes` with background."""
    yield from detectron_resnet50()
    for level, channels in ((3, 512), (4, 1024), (5, 2048)):
        yield from conv(f"backbone.fpn_lateral{level}", 256, channels, 1)
        yield from conv(f"backbone.fpn_output{level}", 256, 256, 3)
    for name in ("p6", "p7"):
        yield from conv(f"backbone.top_block.{name}", 256, 256, 3)
    head = "proposal_generator.fcos_head"
    for tower in ("cls_tower", "bbox_tower"):
        for i in range(4):
            yield from conv(f"{head}.{tower}.{3 * i}", 256, 256, 3)
            yield f"{head}.{tower}.{3 * i + 1}.weight", (256,)
            yield f"{head}.{tower}.{3 * i + 1}.bias", (256,)
    yield from conv(f"{head}.cls_logits", classes - 1, 256, 3)
    yield from conv(f"{head}.bbox_pred", 4, 256, 3)
    yield from conv(f"{head}.ctrness", 1, 256, 3)
    for i in range(5):
        yield f"{head}.scales.{i}.scale", (1,)
    yield "mask_head.sizes_of_interest", (5,)
    yield "mask_head._iter", (1,)
    for i in range(3):
        yield from conv(f"mask_branch.refine.{i}.0", 128, 256, 3, bias=False)
        yield from norm(f"mask_branch.refine.{i}.1", 128)
    for i in range(4):
        yield from conv(f"mask_branch.tower.{i}.0", 128, 128, 3, bias=False)
        yield from norm(f"mask_branch.tower.{i}.1", 128)
    yield from conv("mask_branch.tower.4", 8, 128, 1)
    yield from conv("controller", 169, 256, 3)


def condinst_mmdet(classes: int) -> Shapes:
    """condinst_r50_fpn_ms-poly-90k of mmdetection 3; `classes` with background."""
    yield from resnet50("backbone.", "layer", 1)
    for i, channels in enumerate((512, 1024, 2048)):
        yield from conv(f"neck.lateral_convs.{i}.conv", 256, channels, 1)
    for i in range(5):
        yield from conv(f"neck.fpn_convs.{i}.conv", 256, 256, 3)
    for tower in ("cls_convs", "reg_convs"):
        for i in range(4):
            yield from conv(f"bbox_head.{tower}.{i}.conv", 256, 256, 3)
            yield f"bbox_head.{tower}.{i}.gn.weight", (256,)
            yield f"bbox_head.{tower}.{i}.gn.bias", (256,)
    yield from conv("bbox_head.conv_cls", classes - 1, 256, 3)
    yield from conv("bbox_head.conv_reg", 4, 256, 3)
    yield from conv("bbox_head.conv_centerness", 1, 256, 3)
    yield from conv("bbox_head.controller", 169, 256, 3)
    for i in range(5):
        yield f"bbox_head.scales.{i}.scale", ()
    module = "mask_head.mask_feature_head"
    for i in range(3):
        yield from conv(f"{module}.convs_all_levels.{i}.conv{i}.conv", 128, 256, 3, bias=False)
        yield from norm(f"{module}.convs_all_levels.{i}.conv{i}.bn", 128)
    for i in range(4):
        yield from conv(f"{module}.conv_branch.{i}.conv", 128, 128, 3, bias=False)
        yield from norm(f"{module}.conv_branch.{i}.bn", 128)
    yield from conv(f"{module}.conv_pred", 8, 128, 1)


def mask_rcnn_detectron2(classes: int) -> Shapes:
    """mask_rcnn_R_50_FPN of detectron2's model zoo; `classes` with background."""
    yield from detectron_resnet50()
    for level, channels in ((2, 256), (3, 512), (4, 1024), (5, 2048)):
        yield from conv(f"backbone.fpn_lateral{level}", 256, channels, 1)
        yield from conv(f"backbone.fpn_output{level}", 256, 256, 3)
    for level in range(5):
        yield f"proposal_generator.anchor_generator.cell_anchors.{level}", (3, 4)
    yield from conv("proposal_generator.rpn_head.conv", 256, 256, 3)
    yield from conv("proposal_generator.rpn_head.objectness_logits", 3, 256, 1)
    yield from conv("proposal_generator.rpn_head.anchor_deltas", 12, 256, 1)
    for name, outputs, inputs in (("fc1", 1024, 256 * 49), ("fc2", 1024, 1024)):
        yield f"roi_heads.box_head.{name}.weight", (outputs, inputs)
        yield f"roi_heads.box_head.{name}.bias", (outputs,)
    for name, outputs in (("cls_score", classes), ("bbox_pred", 4 * (classes - 1))):
        yield f"roi_heads.box_predictor.{name}.weight", (outputs, 1024)
        yield f"roi_heads.box_predictor.{name}.bias", (outputs,)
    for i in range(1, 5):
        yield from conv(f"roi_heads.mask_head.mask_fcn{i}", 256, 256, 3)
    yield "roi_heads.mask_head.deconv.weight", (256, 256, 2, 2)
    yield "roi_heads.mask_head.deconv.bias", (256,)
    yield from conv("roi_heads.mask_head.predictor", classes - 1, 256, 1)
