"""What may be compiled, and whose weights fit: `maskrt models` as data. Nothing here needs torch.

`TORCHVISION` are torchvision's builders of a known family, `WEIGHTS` the projects whose files load
into a model of `ZOO` by the longest beginning of its name, `ONNX_FILES` whose ONNX files surgery
reads, `ONE_PASS_FILES` those of networks of one pass. `docs/weights.md` and `docs/surgery.md` say
more of each row, and how it was tried.
"""

from __future__ import annotations

__all__ = ["ONE_PASS_FILES", "ONNX_FILES", "TORCHVISION", "WEIGHTS", "weights_of"]

TORCHVISION = (
    "fasterrcnn_mobilenet_v3_large_320_fpn",
    "fasterrcnn_mobilenet_v3_large_fpn",
    "fasterrcnn_resnet50_fpn",
    "fasterrcnn_resnet50_fpn_v2",
    "maskrcnn_resnet50_fpn",
    "maskrcnn_resnet50_fpn_v2",
)

_TORCHVISION_TRAINED = "trained with torchvision's code"
_DETECTRON2 = "detectron2's {} R-CNN with an FPN on {}"

WEIGHTS: dict[str, str] = {
    "condinst_": "AdelaiDet; mmdetection 3",
    "decoupled_solo_": "WXinlong/SOLO; mmdetection 2 and 3",
    "fasterrcnn_r101_detectron2": _DETECTRON2.format("Faster", "R101"),
    "fasterrcnn_r50_detectron2": _DETECTRON2.format("Faster", "R50"),
    "fasterrcnn_x101_detectron2": _DETECTRON2.format("Faster", "X101-32x8d"),
    "maskrcnn_": _TORCHVISION_TRAINED,
    "maskrcnn_r101_detectron2": _DETECTRON2.format("Mask", "R101"),
    "maskrcnn_r50_detectron2": _DETECTRON2.format("Mask", "R50"),
    "maskrcnn_x101_detectron2": _DETECTRON2.format("Mask", "X101-32x8d"),
    "solo_": "WXinlong/SOLO; mmdetection 2 and 3",
    "solov2_": "WXinlong/SOLO; mmdetection 2 and 3; AdelaiDet",
    "yolact_": "dbolya/yolact; mmdetection 2 and 3",
}

ONNX_FILES: dict[str, str] = {
    "torchvision, old exporter (`dynamo=False`)": "opset 11 to 20",
    "torchvision Faster R-CNN, `draft_export` and onnxscript": "",
    "detectron2, its deployment export by tracing (`dynamo=False`)": "opset 11 to 21",
    "mmdeploy for ONNX Runtime, static": "opset 11 to 20",
    "mmdeploy for TensorRT, static (`GatherTopk`, `MMCVMultiLevelRoiAlign`, `TRTBatchedNMS`)": "",
    "NVIDIA's detectron2 sample (`EfficientNMS_TRT`, `PyramidROIAlign_TRT`)": "",
    "`BatchedNMS_TRT`, `BatchedNMSDynamic_TRT`, `ROIAlign_TRT`, `ResizeNearest_TRT` in such "
    "graphs": "",
}

# Read by what they compute as well; docs/yolo_seg.md, docs/detr_seg.md.
ONE_PASS_FILES: dict[str, str] = {
    "YOLOv8, 9, 11, 12 and 26-seg (Ultralytics)": "static",
    "YOLOv5-seg, YOLOv7-seg": "static",
    "RF-DETR Seg": "static",
    "D-FINE-seg, EC-seg": "static",
}


def weights_of(name: str) -> str:
    """Return whose weights fit the model `name` of `ZOO`.

    >>> weights_of("yolact_r50")
    'dbolya/yolact; mmdetection 2 and 3'
    """
    if name.endswith("_scenes"):
        return "its own, which ship with maskrt"
    return WEIGHTS[max((known for known in WEIGHTS if name.startswith(known)), key=len)]
