"""A model with layers that no target computes in INT8: the rest is INT8, and the reason is said."""

from pathlib import Path

import numpy as np
import pytest

import maskrt
from maskrt.core import Bundle

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.torch

from torch import nn  # noqa: E402

from ..export.detectors import enliven, tiny_mask_rcnn  # noqa: E402

DECONVOLUTION = "roi_heads.mask_predictor.conv5_mask"


class _Upsampled(nn.Module):
    """A mask predictor that upsamples: SiLU, nearest Resize, a 4 x 4 deconvolution of stride 2."""

    def __init__(self, channels: int, classes: int) -> None:
        super().__init__()
        self.narrow = nn.Conv2d(channels, 16, 3, padding=1)
        self.behind = nn.Conv2d(16, 16, 3, padding=1)
        self.conv5_mask = nn.ConvTranspose2d(16, 16, 4, stride=2, padding=1)
        self.mask_fcn_logits = nn.Conv2d(16, classes, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = nn.functional.silu(self.narrow(x))
        x = self.behind(nn.functional.interpolate(x, scale_factor=2, mode="nearest"))
        x = self.conv5_mask(nn.functional.max_pool2d(nn.functional.silu(x), 2))
        return self.mask_fcn_logits(nn.functional.silu(x))


def _model(photos: list[np.ndarray]) -> nn.Module:
    torch.manual_seed(0)
    model = tiny_mask_rcnn()
    old = model.roi_heads.mask_predictor
    model.roi_heads.mask_predictor = _Upsampled(
        old.conv5_mask.in_channels, old.mask_fcn_logits.out_channels
    )
    return enliven(model, photos)


@pytest.mark.slow
@pytest.mark.rtx
def test_they_stay_wide_on_every_target_and_the_rest_is_int8(
    tmp_path: Path, photos: list[np.ndarray]
) -> None:
    bundle = maskrt.compile(
        _model(photos), tmp_path / "own.maskrt", input_size=(128, 160), calibration=photos,
        precision="int8", targets=["cpu", "rtx"],
    )  # fmt: skip
    for target, why in (("cpu", "ONNX Runtime"), ("rtx", "TensorRT-RTX")):
        info = Bundle.open(bundle.path).read_json(f"engines/{target}/engine.json")
        own = Bundle.open(bundle.path).read_json(f"engines/{target}/recipe.json")
        layer = own["layers"][DECONVOLUTION]
        assert layer["precision"] != "int8"
        assert layer["reason"].startswith(f"{why} has no INT8 kernel for deconvolutions")
        assert info["layer_precisions"][DECONVOLUTION] != "int8"
        assert f"1 layer stays wider, since {layer['reason']}: {DECONVOLUTION}." in info["note"]
        read = info["layer_precisions"]
        for name, choice in own["layers"].items():
            assert read[name] == choice["precision"] or choice["precision"] == "fp32", name
    cpu = Bundle.open(bundle.path).read_json("engines/cpu/engine.json")
    assert cpu["layer_precisions"]["roi_heads.mask_predictor.behind"] == "int8"
    whole = bundle.read_json("recipe.json")
    assert whole["layers"][DECONVOLUTION]["precision"] == "int8"  # full TensorRT may have a kernel
