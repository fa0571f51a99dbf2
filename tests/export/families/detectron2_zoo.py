"""Every layout of detectron2's model zoo by name and shape, read from its own built models.

Each of its configurations at 02b5c4e has one of these layouts; heads that differ in widths alone,
or in settings that no parameter shows, are one.
"""

from collections.abc import Callable

from . import published
from .published import Shapes, conv, norm

CLASSES = 4  # with background
FROZEN, GROUP, BATCH = "FrozenBN", "GN", "SyncBN"


def resnet(
    prefix: str, blocks: tuple[int, ...] = (3, 4, 6, 3), *, groups: int = 1, stages: int = 4,
    deformable: bool = False, kind: str = FROZEN,
) -> Shapes:  # fmt: skip
    """Stem and stages."""
    yield from conv(f"{prefix}stem.conv1", 64, 3, 7, bias=False)
    yield from _norm(f"{prefix}stem.conv1.norm", 64, kind)
    inputs = 64
    for stage in range(stages):
        outputs = 256 * 2**stage
        yield from _stage(f"{prefix}res{stage + 2}", blocks[stage], inputs, outputs, groups,
                          deformable and stage > 0, kind)  # fmt: skip
        inputs = outputs


def _stage(
    name: str, blocks: int, inputs: int, outputs: int, groups: int, deformable: bool, kind: str
) -> Shapes:
    middle = outputs // 4 if groups == 1 else outputs
    for block in range(blocks):
        here = f"{name}.{block}"
        if block == 0:
            yield from conv(f"{here}.shortcut", outputs, inputs, 1, bias=False)
            yield from _norm(f"{here}.shortcut.norm", outputs, kind)
        if deformable:
            yield from conv(f"{here}.conv2_offset", 18, middle, 3)
        for number, out, into, kernel in (
            (1, middle, inputs, 1), (2, middle, middle // groups, 3), (3, outputs, middle, 1)
        ):  # fmt: skip
            yield from conv(f"{here}.conv{number}", out, into, kernel, bias=False)
            yield from _norm(f"{here}.conv{number}.norm", out, kind)
        inputs = outputs


def _norm(name: str, channels: int, kind: str) -> Shapes:
    if kind == GROUP:  # has no statistics
        yield f"{name}.weight", (channels,)
        yield f"{name}.bias", (channels,)
    else:  # a frozen one counts nothing
        yield from norm(name, channels, counter=kind == BATCH)


def fpn(first: int = 2, normed: str = "") -> Shapes:
    for level in range(first, 6):
        for name, into, kernel in (("lateral", 64 * 2**level, 1), ("output", 256, 3)):
            yield from conv(f"backbone.fpn_{name}{level}", 256, into, kernel, bias=not normed)
            if normed:
                yield from _norm(f"backbone.fpn_{name}{level}.norm", 256, normed)


def rpn(channels: int = 256, anchors: int = 3, convs: int = 1) -> Shapes:
    head = "proposal_generator.rpn_head"
    for i in range(convs):
        yield from conv(f"{head}.conv" + (f".conv{i}" if convs > 1 else ""), channels, channels, 3)
    yield from conv(f"{head}.objectness_logits", anchors, channels, 1)
    yield from conv(f"{head}.anchor_deltas", 4 * anchors, channels, 1)


def _linear(name: str, outputs: int, inputs: int) -> Shapes:
    yield f"{name}.weight", (outputs, inputs)
    yield f"{name}.bias", (outputs,)


def predictor(inputs: int = 1024, agnostic: bool = False, stage: str = "") -> Shapes:
    name = f"roi_heads.box_predictor{stage}"
    yield from _linear(f"{name}.cls_score", CLASSES, inputs)
    yield from _linear(f"{name}.bbox_pred", 4 if agnostic else 4 * (CLASSES - 1), inputs)


def boxes(pooled: int = 256, agnostic: bool = False, stage: str = "") -> Shapes:
    yield from _linear(f"roi_heads.box_head{stage}.fc1", 1024, pooled * 49)
    yield from _linear(f"roi_heads.box_head{stage}.fc2", 1024, 1024)
    yield from predictor(1024, agnostic, stage)


def normed_boxes(normed: str) -> Shapes:
    for i in range(1, 5):
        yield from conv(f"roi_heads.box_head.conv{i}", 256, 256, 3, bias=False)
        yield from _norm(f"roi_heads.box_head.conv{i}.norm", 256, normed)
    yield from _linear("roi_heads.box_head.fc1", 1024, 256 * 49)
    yield from predictor()


def masks(
    inputs: int = 256, convs: int = 4, agnostic: bool = False, normed: bool = False
) -> Shapes:
    for i in range(1, convs + 1):
        yield from conv(f"roi_heads.mask_head.mask_fcn{i}", 256, inputs, 3, bias=not normed)
        if normed:
            yield from _norm(f"roi_heads.mask_head.mask_fcn{i}.norm", 256, normed)
        inputs = 256
    yield "roi_heads.mask_head.deconv.weight", (inputs, 256, 2, 2)
    yield "roi_heads.mask_head.deconv.bias", (256,)
    yield from conv("roi_heads.mask_head.predictor", 1 if agnostic else CLASSES - 1, 256, 1)


def semantic() -> Shapes:
    for level, convs in ((2, 1), (3, 1), (4, 3), (5, 5)):
        for i in range(0, convs, 2):
            yield from conv(
                f"sem_seg_head.p{level}.{i}", 128, 256 if i == 0 else 128, 3, bias=False
            )
            yield from _norm(f"sem_seg_head.p{level}.{i}.norm", 128, GROUP)
    yield from conv("sem_seg_head.predictor", 54, 128, 1)


def keypoints() -> Shapes:
    for i in range(1, 9):
        yield from conv(f"roi_heads.keypoint_head.conv_fcn{i}", 512, 256 if i == 1 else 512, 3)
    yield "roi_heads.keypoint_head.score_lowres.weight", (512, 17, 4, 4)
    yield "roi_heads.keypoint_head.score_lowres.bias", (17,)


def _dense(centerness: bool) -> Shapes:
    yield from resnet("backbone.bottom_up.")
    yield from fpn(3)
    for name, into in (("p6", 256 if centerness else 2048), ("p7", 256)):
        yield from conv(f"backbone.top_block.{name}", 256, into, 3)
    for tower in ("cls_subnet", "bbox_subnet"):
        for i in range(4):
            yield from conv(f"head.{tower}.{3 * i if centerness else 2 * i}", 256, 256, 3)
            yield from _norm(f"head.{tower}.{3 * i + 1}", 256, GROUP) if centerness else ()
    anchors = 1 if centerness else 9
    yield from conv("head.cls_score", anchors * (CLASSES - 1), 256, 3)
    yield from conv("head.bbox_pred", anchors * 4, 256, 3)
    if centerness:
        yield from conv("head.ctrness", 1, 256, 3)


def _one_map(
    blocks: tuple[int, ...] = (3, 4, 6, 3), *, dilated: bool = False, masked: bool = False
) -> Shapes:
    """C4: the last stage is the head; DC5: it is dilated, and the only map."""
    yield from resnet("backbone.", blocks, stages=4 if dilated else 3)
    yield from rpn(2048 if dilated else 1024, 15)
    if dilated:
        yield from boxes(2048)
        yield from masks(2048) if masked else ()
    else:
        yield from _stage("roi_heads.res5", 3, 1024, 2048, 1, False, FROZEN)
        yield from predictor(2048)
        yield from masks(2048, 0) if masked else ()


def _pyramid(*parts: Callable[[], Shapes], blocks: tuple[int, ...] = (3, 4, 6, 3),
             groups: int = 1, deformable: bool = False) -> Shapes:  # fmt: skip
    yield from resnet("backbone.bottom_up.", blocks, groups=groups, deformable=deformable)
    yield from fpn()
    for part in parts:
        yield from part()


def _normed(kind: str = GROUP, convs: int = 1) -> Shapes:
    """With norms everywhere; two convolutions in the RPN are of `new_baselines`."""
    yield from resnet("backbone.bottom_up.", kind=kind)
    yield from fpn(normed=kind)
    yield from rpn(convs=convs)
    yield from normed_boxes(kind)
    yield from masks(normed=kind)


def _regnet() -> Shapes:
    yield from conv("backbone.bottom_up.stem.conv", 32, 3, 3, bias=False)
    yield from norm("backbone.bottom_up.stem.bn", 32, counter=False)
    yield from conv("backbone.bottom_up.s1.b1.f.a", 64, 32, 1, bias=False)
    yield from norm("backbone.bottom_up.s1.b1.f.a_bn", 64, counter=False)
    yield from fpn()
    yield from rpn()
    yield from boxes()
    yield from masks()


def _cascade(**options: bool) -> Shapes:
    yield from _pyramid(rpn, **options)
    for stage in (".0", ".1", ".2"):
        yield from boxes(agnostic=True, stage=stage)
    yield from masks()


R101 = (3, 4, 23, 3)
TAKEN: dict[str, tuple[Callable[[], Shapes], str]] = {  # by which model
    "faster_rcnn_R_50_FPN": (lambda: _pyramid(rpn, boxes), "fasterrcnn_r50_detectron2"),
    "faster_rcnn_R_101_FPN": (
        lambda: _pyramid(rpn, boxes, blocks=R101), "fasterrcnn_r101_detectron2"),
    "faster_rcnn_X_101_32x8d_FPN": (
        lambda: _pyramid(rpn, boxes, blocks=R101, groups=32), "fasterrcnn_x101_detectron2"),
    "mask_rcnn_R_50_FPN": (lambda: _pyramid(rpn, boxes, masks), "maskrcnn_r50_detectron2"),
    "mask_rcnn_R_50_FPN, with anchors": (
        lambda: published.mask_rcnn_detectron2(CLASSES), "maskrcnn_r50_detectron2"),
    "mask_rcnn_R_101_FPN": (
        lambda: _pyramid(rpn, boxes, masks, blocks=R101), "maskrcnn_r101_detectron2"),
    "mask_rcnn_X_101_32x8d_FPN": (
        lambda: _pyramid(rpn, boxes, masks, blocks=R101, groups=32), "maskrcnn_x101_detectron2"),
    "mask_rcnn_R_50_FPN_1x_cls_agnostic": (
        lambda: _pyramid(rpn, lambda: boxes(agnostic=True), lambda: masks(agnostic=True)),
        "maskrcnn_r50_detectron2"),
    "panoptic_fpn_R_50": (
        lambda: _pyramid(rpn, boxes, masks, semantic), "maskrcnn_r50_detectron2"),
    "panoptic_fpn_R_101": (
        lambda: _pyramid(rpn, boxes, masks, semantic, blocks=R101), "maskrcnn_r101_detectron2"),
}  # fmt: skip
REFUSED: dict[str, tuple[Callable[[], Shapes], str]] = {  # as what
    "fast_rcnn_R_50_FPN": (lambda: _pyramid(boxes), "Fast R-CNN"),
    "faster_rcnn_R_50_C4": (_one_map, "R-CNN with a C4 head"),
    "faster_rcnn_R_101_C4": (lambda: _one_map(R101), "R-CNN with a C4 head"),
    "mask_rcnn_R_50_C4": (lambda: _one_map(masked=True), "R-CNN with a C4 head"),
    "mask_rcnn_R_101_C4": (lambda: _one_map(R101, masked=True), "R-CNN with a C4 head"),
    "faster_rcnn_R_50_DC5": (lambda: _one_map(dilated=True), "R-CNN with dilated C5"),
    "mask_rcnn_R_101_DC5": (
        lambda: _one_map(R101, dilated=True, masked=True), "R-CNN with dilated C5"),
    "retinanet_R_50_FPN": (lambda: _dense(centerness=False), "RetinaNet"),
    "fcos_R_50_FPN": (lambda: _dense(centerness=True), "FCOS"),
    "rpn_R_50_FPN": (lambda: _pyramid(rpn), "RPN alone"),
    "keypoint_rcnn_R_50_FPN": (lambda: _pyramid(rpn, boxes, keypoints), "Keypoint R-CNN"),
    "keypoint_rcnn_X_101_32x8d_FPN": (
        lambda: _pyramid(rpn, boxes, keypoints, blocks=R101, groups=32), "Keypoint R-CNN"),
    "semantic_R_50_FPN": (lambda: _pyramid(semantic), "semantic segmentation model"),
    "cascade_mask_rcnn_R_50_FPN": (_cascade, "Cascade R-CNN"),
    "mask_rcnn_R_50_FPN_dconv_c3-c5": (
        lambda: _pyramid(rpn, boxes, masks, deformable=True), "model with deformable convolutions"),
    "mask_rcnn_R_50_FPN_3x_gn": (_normed, "norms in its pyramid and heads"),
    "mask_rcnn_R_50_FPN_3x_syncbn": (lambda: _normed(BATCH), "norms in its pyramid and heads"),
    "new_baselines": (lambda: _normed(BATCH, 2), "norms in its pyramid and heads"),
    "mask_rcnn_regnetx_4gf_dds_fpn": (_regnet, "on a backbone that is no ResNet"),
    "an X152 without norms": (
        lambda: _pyramid(rpn, boxes, masks, blocks=(3, 8, 36, 3), groups=32),
        "Mask R-CNN on a ResNet of another depth"),
}  # fmt: skip
