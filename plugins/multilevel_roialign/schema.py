"""MultilevelRoIAlign: RoIAlign on the pyramid level that fits each box.

    level(box) = clamp(floor(canonical_level + log2(sqrt(area) / canonical_scale) + level_epsilon),
                       min_level, min_level + L - 1)

With s = `spatial_scales[level]` and o = 0.5 if `aligned` else 0, bin (i, j) of box (x0, y0, x1, y1)
is the average (or maximum) of `sampling_ratio`² bilinear samples spread evenly over

    [y0·s - o + i·bh, + bh) x [x0·s - o + j·bw, + bw),  bh = (y1 - y0)·s / output_height, bw alike,

where box sides shorter than one feature pixel count as one unless `aligned`. Samples outside
[-1, size] count as zero. `sampling_ratio` 0 takes ceil(bh) x ceil(bw) samples. A box with a
coordinate that is no number, or whose coordinates' magnitudes add up to more than 1e9, pools zeros.

INT8 feature maps stand for `feature_scale` times their values, and give FP32; the others give their
own type. Coordinates are FP32 in any case: in FP16 they would move by whole pixels above 1024.

Source: He et al., Mask R-CNN (2017); Lin et al., FPN (2017); torchvision.ops.MultiScaleRoIAlign.
"""

from onnx import TensorProto

from ..operator import Attribute, Port, Schema

__all__ = ["SCHEMA"]

_FLOAT = (TensorProto.FLOAT,)
_RESULT = (TensorProto.FLOAT, TensorProto.FLOAT16)
_FEATURE = (*_RESULT, TensorProto.INT8)

SCHEMA = Schema(
    name="MultilevelRoIAlign",
    version=1,
    meaning="RoIAlign over a feature pyramid, each box on the level that fits its size",
    inputs=(
        Port("boxes", ("B", "N", 4), _FLOAT),
        Port("level", ("B", "C", "H", "W"), _FEATURE, (1, 6)),
    ),
    attributes=(
        Attribute("output_height", int, "bins down", lambda v: 1 <= v <= 64, "1 to 64"),
        Attribute("output_width", int, "bins across", lambda v: 1 <= v <= 64, "1 to 64"),
        Attribute(
            "sampling_ratio", int, "samples a bin and axis", lambda v: 0 <= v <= 16, "0 to 16"
        ),
        Attribute("aligned", int, "1 shifts by half a pixel", lambda v: v in (0, 1), "0 or 1"),
        Attribute("mode", str, "avg or max", lambda v: v in ("avg", "max"), "'avg' or 'max'"),
        Attribute("spatial_scales", tuple, "feature pixels per input pixel, a level each"),
        Attribute("canonical_scale", float, "box side that belongs to canonical_level"),
        Attribute("canonical_level", int, "pyramid level of a canonical_scale box"),
        Attribute("level_epsilon", float, "added before the floor"),
        Attribute("min_level", int, "pyramid level of the first feature map"),
        Attribute(
            "feature_scale",
            float,
            "what one step of INT8 features is worth",
            lambda v: v > 0,
            "greater than 0",
            1.0,
        ),
    ),
    outputs=(Port("output", ("B", "N", "C", "output_height", "output_width"), _RESULT),),
)
