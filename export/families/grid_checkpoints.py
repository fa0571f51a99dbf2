"""SOLO and SOLOv2 of other projects: WXinlong/SOLO (its authors'), mmdetection, AdelaiDet."""

from .checkpoints import DETECTRON2_FPN, MMDET_FPN, Layout, as_detectron2_reads

__all__ = ["SOLOV2_LAYOUTS", "SOLO_LAYOUTS"]


def _tower(theirs: str, ours: str) -> tuple[tuple[str, str], ...]:
    """Return the rules of a tower of mmcv's ConvModules."""
    return (
        (rf"{theirs}\.(\d+)\.conv\.(.+)", rf"{ours}.\1.conv.\2"),
        (rf"{theirs}\.(\d+)\.gn\.(.+)", rf"{ours}.\1.norm.\2"),
    )


def _module(theirs: str, ours: str) -> tuple[str, str]:
    return rf"{theirs}\.(.+)", rf"{ours}.\1"


def _mask_branch(theirs: str, merge: str) -> tuple[tuple[str, str], ...]:
    level = rf"{theirs}\.convs_all_levels\.(\d)\.conv(\d)"
    return (
        (rf"{level}\.conv\.(.+)", r"mask_branch.levels.\1.\2.conv.\3"),
        (rf"{level}\.gn\.(.+)", r"mask_branch.levels.\1.\2.norm.\3"),
        (rf"{theirs}\.{merge}\.conv\.(.+)", r"mask_branch.merge.conv.\1"),
        (rf"{theirs}\.{merge}\.gn\.(.+)", r"mask_branch.merge.norm.\1"),
    )


_CATEGORY = "category_branch.tower"
_CLASSES = "category_branch.logits.weight"
_KERNEL = "kernel_branch.tower"


def _mmdetection(*own: tuple[str, str]) -> Layout:
    """Return the layout of mmdetection: what SOLO and SOLOv2 share there, and their `own` rules."""
    shared = (
        *MMDET_FPN,
        *_tower(r"mask_head\.cls_convs", _CATEGORY),
        _module(r"mask_head\.conv_cls", "category_branch.logits"),
    )
    return Layout("mmdetection", "mask_head.conv_cls.weight", (*shared, *own))


def _authors(name: str, category: str, *own: tuple[str, str]) -> Layout:
    """Return a layout of WXinlong/SOLO, whose last category layer is called `category`."""
    shared = (
        *MMDET_FPN,
        *_tower(r"bbox_head\.cate_convs", _CATEGORY),
        _module(rf"bbox_head\.{category}", "category_branch.logits"),
    )
    return Layout(name, f"bbox_head.{category}.weight", (*shared, *own))


SOLOV2_LAYOUTS = (
    _mmdetection(
        *_tower(r"mask_head\.kernel_convs", _KERNEL),
        _module(r"mask_head\.conv_kernel", "kernel_branch.kernels"),
        *_mask_branch(r"mask_head\.mask_feature_head", "conv_pred"),
    ),
    _authors(
        "WXinlong/SOLO",
        "solo_cate",
        *_tower(r"bbox_head\.kernel_convs", _KERNEL),
        _module(r"bbox_head\.solo_kernel", "kernel_branch.kernels"),
        *_mask_branch(r"mask_feat_head", r"conv_pred\.0"),
    ),
    Layout(
        "AdelaiDet",
        "ins_head.cate_pred.weight",
        (
            *DETECTRON2_FPN,
            # Towers are flat: a convolution, its norm and a ReLU, which has no parameters.
            *(
                rule
                for place in range(8)
                for kind, ours in (("cate", _CATEGORY), ("kernel", _KERNEL))
                for rule in (
                    (rf"ins_head\.{kind}_tower\.{3 * place}\.(.+)", rf"{ours}.{place}.conv.\1"),
                    (rf"ins_head\.{kind}_tower\.{3 * place + 1}\.(.+)", rf"{ours}.{place}.norm.\1"),
                )
            ),
            _module(r"ins_head\.cate_pred", "category_branch.logits"),
            _module(r"ins_head\.kernel_pred", "kernel_branch.kernels"),
            *(
                (
                    rf"mask_head\.convs_all_levels\.(\d)\.conv(\d)\.{number}\.(.+)",
                    rf"mask_branch.levels.\1.\2.{part}.\3",
                )
                for number, part in ((0, "conv"), (1, "norm"))
            ),
            _module(r"mask_head\.conv_pred\.0", "mask_branch.merge.conv"),
            _module(r"mask_head\.conv_pred\.1", "mask_branch.merge.norm"),
        ),
        as_detectron2_reads,
    ),
    Layout("maskrt", "kernel_branch.kernels.weight", (), classes=_CLASSES),
)

SOLO_LAYOUTS = (
    _mmdetection(
        *_tower(r"mask_head\.mask_convs", "mask_towers.0"),
        *_tower(r"mask_head\.mask_convs_x", "mask_towers.0"),
        *_tower(r"mask_head\.mask_convs_y", "mask_towers.1"),
        _module(r"mask_head\.conv_mask_list", "mask_layers.0"),
        _module(r"mask_head\.conv_mask_list_x", "mask_layers.0"),
        _module(r"mask_head\.conv_mask_list_y", "mask_layers.1"),
    ),
    _authors(
        "WXinlong/SOLO",
        "solo_cate",
        *_tower(r"bbox_head\.ins_convs", "mask_towers.0"),
        _module(r"bbox_head\.solo_ins_list", "mask_layers.0"),
    ),
    _authors(
        "WXinlong/SOLO, decoupled",
        "dsolo_cate",
        *_tower(r"bbox_head\.ins_convs_x", "mask_towers.0"),
        *_tower(r"bbox_head\.ins_convs_y", "mask_towers.1"),
        _module(r"bbox_head\.dsolo_ins_list_x", "mask_layers.0"),
        _module(r"bbox_head\.dsolo_ins_list_y", "mask_layers.1"),
    ),
    Layout("maskrt", "mask_layers.0.0.weight", (), classes=_CLASSES),
)
