"""For every operator, attributes and inputs of an ordinary size and every variant of its code."""

from collections.abc import Mapping
from typing import Any

from maskrt.plugins import OPERATORS
from maskrt.plugins.launch import LaunchPlan, Tensor

Example = tuple[Mapping[str, Any], list[Tensor]]

_BOXES = Tensor((2, 1000, 4), "float32")
_SCORES = Tensor((2, 1000), "float32")
_LABELS = Tensor((2, 1000), "int32")
_NMS = {"iou_threshold": 0.5, "score_threshold": 0.05, "max_outputs": 100, "class_agnostic": 0}
_SOFT = {**_NMS, "method": "gaussian", "sigma": 0.5}
_POOL = {
    "output_height": 7, "output_width": 7, "sampling_ratio": 2, "aligned": 0, "mode": "avg",
    "spatial_scales": [0.25, 0.125, 0.0625, 0.03125], "canonical_scale": 224.0,
    "canonical_level": 4, "level_epsilon": 1e-6, "min_level": 2, "feature_scale": 1.0,
}  # fmt: skip
_CANVAS = {
    "height": 512, "width": 512, "pad_value": (124.0, 116.0, 104.0),
    "mean": (123.7, 116.3, 103.5), "std": (58.4, 57.1, 57.4),
}  # fmt: skip
_PASTE = {"height": 1080, "width": 1920, "threshold": 0.5}


def _levels(dtype: str, count: int = 4) -> list[Tensor]:
    return [_BOXES, *(Tensor((2, 256, 128 >> i, 128 >> i), dtype) for i in range(count))]


def _masks(dtype: str) -> list[Tensor]:
    return [Tensor((1, 100, 28, 28), dtype), Tensor((1, 100, 4), "float32")]


EXAMPLES: dict[tuple[str, str], Example] = {
    ("MultilevelRoIAlign", "fp32"): (_POOL, _levels("float32")),
    ("MultilevelRoIAlign", "fp16"): (_POOL, _levels("float16")),
    ("MultilevelRoIAlign", "int8"): ({**_POOL, "feature_scale": 0.02}, _levels("int8")),
    ("MultilevelRoIAlign", "fp16 adaptive"): (
        {**_POOL, "sampling_ratio": 0, "aligned": 1}, _levels("float16"),
    ),
    ("MultilevelRoIAlign", "fp16 14x14"): (
        {**_POOL, "output_height": 14, "output_width": 14}, _levels("float16"),
    ),
    ("MultilevelRoIAlign", "fp32 largest"): (
        {**_POOL, "output_height": 64, "output_width": 64, "sampling_ratio": 16,
         "spatial_scales": [0.5, 0.25, 0.125, 0.0625, 0.03125, 0.015625]},
        _levels("float32", 6),
    ),
    ("MultilevelRoIAlign", "fp32 max"): ({**_POOL, "mode": "max"}, _levels("float32")),
    ("BatchedNMS", "per class"): (_NMS, [_BOXES, _SCORES, _LABELS]),
    ("BatchedNMS", "agnostic"): ({**_NMS, "class_agnostic": 1}, [_BOXES, _SCORES, _LABELS]),
    ("SoftNMS", "gaussian"): (_SOFT, [_BOXES, _SCORES, _LABELS]),
    ("SoftNMS", "linear"): ({**_SOFT, "method": "linear"}, [_BOXES, _SCORES, _LABELS]),
    ("MaskIoU", "fp32"): ({"threshold": 0.5}, [Tensor((1, 500, 128, 128), "float32")]),
    ("MaskIoU", "fp16"): ({"threshold": 0.5}, [Tensor((1, 500, 128, 128), "float16")]),
    ("MaskIoU", "uint8"): ({"threshold": 0.5}, [Tensor((1, 500, 128, 128), "uint8")]),
    ("MatrixNMS", "gaussian"): (
        {"method": "gaussian", "sigma": 2.0, "class_agnostic": 0},
        [Tensor((2, 1000, 1000), "float32"), _SCORES, _LABELS],
    ),
    ("MatrixNMS", "linear"): (
        {"method": "linear", "sigma": 2.0, "class_agnostic": 1},
        [Tensor((2, 1000, 1000), "float32"), _SCORES, _LABELS],
    ),
    ("PasteMasks", "packed"): ({**_PASTE, "packed": 1}, _masks("float32")),
    ("PasteMasks", "packed fp16"): ({**_PASTE, "packed": 1}, _masks("float16")),
    ("PasteMasks", "dense"): ({**_PASTE, "packed": 0}, _masks("float32")),
    ("PasteMasks", "detectron2"): (
        {**_PASTE, "packed": 1, "paste": "detectron2"}, _masks("float32"),
    ),
    ("Preprocess", "fp32"): ({**_CANVAS, "half": 0}, [Tensor((1080, 1920, 3), "uint8")]),
    ("Preprocess", "fp16"): ({**_CANVAS, "half": 1}, [Tensor((1080, 1920, 3), "uint8")]),
}  # fmt: skip


def example_plan(key: tuple[str, str]) -> LaunchPlan:
    """Return the launch plan of an example."""
    attributes, inputs = EXAMPLES[key]
    operator = OPERATORS[key[0]]
    return operator.launch(operator.schema.filled(attributes), inputs)
