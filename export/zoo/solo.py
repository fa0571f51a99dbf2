"""SOLO and SOLOv2 by name: the papers' on ResNets, and small ones for the demonstration scenes.

The small ones share the backbone of `maskrcnn_scenes`, and have batch normalisation in their heads,
so that every layer quantises. They are made for 320 x 320 pictures.
"""

from typing import Any

from ..families.backbones import resnet_fpn, scenes_fpn
from ..families.grid import GridSettings
from ..families.solo import SOLO
from ..families.solov2 import SOLOv2

__all__ = [
    "SCENES",
    "decoupled_solo",
    "decoupled_solo_r101",
    "solo",
    "solo_r101",
    "solo_scenes",
    "solov2",
    "solov2_light",
    "solov2_light_r18",
    "solov2_light_r34",
    "solov2_r101",
    "solov2_scenes",
]

_LIGHT = GridSettings(scale_ranges=((1, 56), (28, 112), (56, 224), (112, 448), (224, 896)))
SCENES = GridSettings(
    grids=(36, 24, 18, 14, 10),
    scale_ranges=((1, 36), (24, 72), (48, 144), (96, 288), (192, 640)),
    candidates=200,
)


def solo(
    num_classes: int = 81, *, depth: int = 50, decoupled: bool = False, **options: Any
) -> SOLO:
    """Return SOLO on a ResNet, with random weights; `options` are `SOLO`'s."""
    return SOLO(resnet_fpn(depth), num_classes, decoupled=decoupled, **options)


def decoupled_solo(num_classes: int = 81, **options: Any) -> SOLO:
    """Return decoupled SOLO on a ResNet-50, with random weights."""
    return solo(num_classes, decoupled=True, **options)


def decoupled_solo_r101(num_classes: int = 81, **options: Any) -> SOLO:
    """Return decoupled SOLO on a ResNet-101, with random weights."""
    return decoupled_solo(num_classes, depth=101, **options)


def solo_r101(num_classes: int = 81, **options: Any) -> SOLO:
    """Return SOLO on a ResNet-101, with random weights."""
    return solo(num_classes, depth=101, **options)


def solov2(num_classes: int = 81, *, depth: int = 50, **options: Any) -> SOLOv2:
    """Return SOLOv2 on a ResNet, with random weights; `options` are `SOLOv2`'s towers and mask."""
    made: dict[str, Any] = {"channels": 512} | options
    return SOLOv2(resnet_fpn(depth), num_classes, **made)


def solov2_r101(num_classes: int = 81, **options: Any) -> SOLOv2:
    """Return SOLOv2 on a ResNet-101, with random weights."""
    return solov2(num_classes, depth=101, **options)


def solov2_light(num_classes: int = 81, *, depth: int = 50, **options: Any) -> SOLOv2:
    """Return the light form: towers of 2 x 256 channels, for inputs of 448 pixels."""
    light: dict[str, Any] = {"channels": 256, "kernel": 128, "settings": _LIGHT}
    return SOLOv2(resnet_fpn(depth), num_classes, depth=2, **(light | options))


def solov2_light_r34(num_classes: int = 81, **options: Any) -> SOLOv2:
    """Return the light form on a ResNet-34, with random weights."""
    return solov2_light(num_classes, depth=34, **options)


def solov2_light_r18(num_classes: int = 81, **options: Any) -> SOLOv2:
    """Return the light form on a ResNet-18, with random weights."""
    return solov2_light(num_classes, depth=18, **options)


def solov2_scenes(num_classes: int = 7, **options: Any) -> SOLOv2:
    """Return the demonstration's SOLOv2, with random weights."""
    small: dict[str, Any] = {
        "channels": 64, "mask_channels": 64, "kernel": 64, "norm": "batch",
        "settings": SCENES, "max_detections": 50,
    }  # fmt: skip
    return SOLOv2(scenes_fpn(), num_classes, depth=2, **(small | options))


def solo_scenes(num_classes: int = 7, **options: Any) -> SOLO:
    """Return the demonstration's decoupled SOLO, with random weights."""
    small: dict[str, Any] = {
        "channels": 64,
        "norm": "batch",
        "settings": SCENES,
        "max_detections": 50,
    }
    return SOLO(scenes_fpn(), num_classes, decoupled=True, depth=2, **(small | options))
