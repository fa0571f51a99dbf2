"""TensorRT's plugins in a foreign graph: which there are, and the types of what they give.

Source: the plugins' documentation and code in NVIDIA/TensorRT, `plugin/`, and in
open-mmlab/mmdeploy, `csrc/mmdeploy/backend_ops/tensorrt/`.
"""

from collections.abc import Callable

from onnx import TensorProto, TypeProto, helper

from .graph import Node, Shape

__all__ = ["FOREIGN", "KNOWN", "NMS", "POOLS", "kind", "output_types", "remedy"]

NMS = ("EfficientNMS_TRT", "BatchedNMS_TRT", "BatchedNMSDynamic_TRT", "TRTBatchedNMS")
POOLS = ("ROIAlign_TRT", "PyramidROIAlign_TRT", "MMCVMultiLevelRoiAlign")
KNOWN = (*NMS, *POOLS, "ResizeNearest_TRT", "GatherTopk")
FOREIGN = (
    "EfficientNMS_ONNX_TRT", "EfficientNMS_Explicit_TF_TRT", "EfficientNMS_Implicit_TF_TRT",
    "NMS_TRT", "NMSDynamic_TRT", "ProposalLayer_TRT", "DetectionLayer_TRT", "GenerateDetection_TRT",
    "MultilevelProposeROI_TRT", "MultilevelCropAndResize_TRT", "CropAndResize", "SpecialSlice_TRT",
    "Proposal", "ProposalDynamic", "RPROI_TRT", "CropAndResizeDynamic",
)  # fmt: skip
_FLOAT, _INT32, _INT64 = TensorProto.FLOAT, TensorProto.INT32, TensorProto.INT64


_PASTING = "it pastes masks, which the session does: export with export_postprocess_mask=False"
_REMEDIES = {
    "mmdeploy::grid_sampler": _PASTING, "mmdeploy::NMSRotated": "its boxes are rotated",
    "mmdeploy::MMCVModulatedDeformConv2d": "deformable convolutions are not read",
    "mmdeploy::MMCVDeformConv2d": "deformable convolutions are not read",
}  # fmt: skip


def remedy(node: Node) -> str | None:
    """Return why an operator of an exporter's own is not read, and what to do, or None."""
    return _REMEDIES.get(node.op)


def kind(node: Node) -> str:
    """Return the operator's name without its domain: exporters put plugins into any."""
    return node.op.rpartition("::")[2]


def output_types(node: Node, shape: Callable[[str], Shape | None]) -> dict[str, TypeProto] | None:
    """Return the types of the outputs of a plugin, or None for other nodes and unknown inputs."""
    name = kind(node)
    if name not in KNOWN:
        return None
    inputs = [shape(i) for i in node.inputs]
    if not inputs or inputs[0] is None or (len(inputs) > 1 and inputs[1] is None):
        return None
    types = [helper.make_tensor_type_proto(t, s) for t, s in _outputs(name, node, inputs)]
    return {n: t for n, t in zip(node.outputs, types, strict=False) if n}


def _outputs(
    name: str, node: Node, inputs: list[Shape | None]
) -> list[tuple[int, list[int | None]]]:
    a, first, second = node.attributes, inputs[0] or (), (inputs[1:2] or [()])[0] or ()
    if name == "TRTBatchedNMS":
        dets = [first[0] if first else None, a.get("keep_topk")]
        return [(_FLOAT, [*dets, 5]), (_INT64, dets)]  # as exported; TensorRT computes in int32
    if name == "GatherTopk":
        return [(_FLOAT, [*second, *first[len(second) :]])]
    if name == "MMCVMultiLevelRoiAlign":
        bins = [a.get("output_height"), a.get("output_width")]
        return [(_FLOAT, [first[0], second[1] if len(second) > 1 else None, *bins])]
    if name in NMS:
        most = a.get("max_output_boxes" if name == "EfficientNMS_TRT" else "keepTopK")
        label = _INT32 if name == "EfficientNMS_TRT" else _FLOAT
        b = first[0] if first else None
        return [(_INT32, [b, 1]), (_FLOAT, [b, most, 4]), (_FLOAT, [b, most]), (label, [b, most])]
    if name == "ROIAlign_TRT":
        bins = [a.get("output_height", 1), a.get("output_width", 1)]
        return [(_FLOAT, [second[0] if second else None, first[1], *bins])]
    if name == "PyramidROIAlign_TRT":
        size = a.get("pooled_size", 7)
        return [(_FLOAT, [*first[:2], second[1] if len(second) > 1 else None, size, size])]
    sides = [None if s is None else int(s * a.get("scale", 2.0)) for s in first[2:]]
    return [(_FLOAT, [*first[:2], *sides])]
