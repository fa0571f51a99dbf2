"""Models that ship with maskrt, by name.

`ZOO` maps a name, as in `maskrt:maskrcnn_scenes`, to the `module:function` that builds the model.
Importing this package imports no torch; resolving a name does.
"""

from __future__ import annotations

__all__ = ["TIMM_PREFIX", "ZOO"]

TIMM_PREFIX = "maskrcnn_timm_"
"""What stands before the name of a backbone of timm, any that has `features_only`."""

ZOO: dict[str, str] = {
    "condinst_r50": "maskrt.export.zoo.condinst:condinst_r50",
    "condinst_r101": "maskrt.export.zoo.condinst:condinst_r101",
    "condinst_scenes": "maskrt.export.zoo.condinst:condinst_scenes",
    "fasterrcnn_r50_detectron2": "maskrt.export.zoo.maskrcnn:fasterrcnn_r50_detectron2",
    "fasterrcnn_r101_detectron2": "maskrt.export.zoo.maskrcnn:fasterrcnn_r101_detectron2",
    "fasterrcnn_x101_detectron2": "maskrt.export.zoo.maskrcnn:fasterrcnn_x101_detectron2",
    "maskrcnn_mobilenet_v3": "maskrt.export.zoo.maskrcnn:maskrcnn_mobilenet_v3",
    "maskrcnn_r50_detectron2": "maskrt.export.zoo.maskrcnn:maskrcnn_r50_detectron2",
    "maskrcnn_r101": "maskrt.export.zoo.maskrcnn:maskrcnn_r101",
    "maskrcnn_r101_detectron2": "maskrt.export.zoo.maskrcnn:maskrcnn_r101_detectron2",
    "maskrcnn_x101_detectron2": "maskrt.export.zoo.maskrcnn:maskrcnn_x101_detectron2",
    "maskrcnn_scenes": "maskrt.export.zoo.maskrcnn_scenes:maskrcnn_scenes",
    "yolact_r50": "maskrt.export.zoo.yolact:yolact_r50",
    "yolact_r101": "maskrt.export.zoo.yolact:yolact_r101",
    "yolact_scenes": "maskrt.export.zoo.yolact:yolact_scenes",
    "solo_r50": "maskrt.export.zoo.solo:solo",
    "decoupled_solo_r50": "maskrt.export.zoo.solo:decoupled_solo",
    "decoupled_solo_r101": "maskrt.export.zoo.solo:decoupled_solo_r101",
    "solo_r101": "maskrt.export.zoo.solo:solo_r101",
    "solo_scenes": "maskrt.export.zoo.solo:solo_scenes",
    "solov2_r50": "maskrt.export.zoo.solo:solov2",
    "solov2_r101": "maskrt.export.zoo.solo:solov2_r101",
    "solov2_light_r18": "maskrt.export.zoo.solo:solov2_light_r18",
    "solov2_light_r34": "maskrt.export.zoo.solo:solov2_light_r34",
    "solov2_light_r50": "maskrt.export.zoo.solo:solov2_light",
    "solov2_scenes": "maskrt.export.zoo.solo:solov2_scenes",
}
