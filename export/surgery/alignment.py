"""Whether a file lost the alignment of RoIAlign when it was exported: detectron2's at opset 11.

`RoiAlign` has `coordinate_transformation_mode` from opset 16 on. Below, PyTorch's exporter drops
`aligned=True` without a word: the file is another model than the one that was trained, and finds
half a pixel of each map beside what that finds. Surgery gives what the file gives, so no comparison
with the file can show it. mmdeploy moves the boxes instead, which is the same but for thin ones.
"""

from .two_stage import TwoStage

__all__ = ["lost_alignment"]


_WIDENED = (
    "the file aligns RoIAlign by moving its boxes, as mmdeploy does below opset 16, and so takes "
    "boxes narrower than a cell of their feature map for one cell wide, as mmdetection does not: "
    "it is not quite the model that was trained. Export it again with opset_version=16 or later "
    "in the deploy configuration's onnx_config."
)


def lost_alignment(stages: TwoStage) -> str | None:
    """Return a warning if the file that `stages` were read from pools otherwise than its model.

    That is detectron2's, which alone has the background last and orders proposals by logits, if
    RoIAlign is not aligned; and mmdeploy's, if it is aligned by moving boxes.
    """
    pools = [stages.box_pool] + ([stages.masks.pool] if stages.masks is not None else [])
    if any(pool.widened for pool in pools):
        return _WIDENED
    how, last = stages.proposals, stages.detections.classes - 1
    foreign = how.padded is not None or how.probabilities
    if foreign or stages.detections.background != last:
        return None
    if all(pool.attributes["aligned"] for pool in pools):
        return None
    return (
        "the file's RoIAlign is not aligned, and detectron2's own is: below opset 16 its export "
        "drops that without a word, and then the file is not the model that was trained. Export it "
        "again with opset 16 or later: in detectron2's tools/deploy/export_model.py, write "
        "torch.onnx.export(traceable_model, (image,), f, opset_version=17, dynamo=False). Only a "
        "model whose POOLER_TYPE is ROIAlign, as Detectron 1's, is right as it is."
    )
