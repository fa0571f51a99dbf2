"""Means and deviations as people's models have them, and pictures of other channels than three."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
from torch import nn  # noqa: E402

from maskrt.checking.conversion import prove  # noqa: E402
from maskrt.core import InputSpec, MaskrtError, UnsupportedModelError, UsageError  # noqa: E402
from maskrt.export import export_model  # noqa: E402
from maskrt.export.families.registry import family_of  # noqa: E402
from maskrt.export.zoo.solo import solo_scenes  # noqa: E402

from ..detectors import enliven, tiny_mask_rcnn  # noqa: E402
from ..steady import steady_pictures  # noqa: E402

pytestmark = pytest.mark.torch
SIZE = (64, 96)
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _model(mean: Any = _MEAN, std: Any = _STD, channels: int = 3) -> Any:
    torch.manual_seed(0)
    model = tiny_mask_rcnn(2, image_mean=mean, image_std=std).eval()
    if channels != 3:
        model.backbone.stem[0] = nn.Conv2d(channels, 8, 3, 2, 1, bias=False)
    return model


def _shown(photos: Sequence[np.ndarray]) -> list[np.ndarray]:
    return [photo[:64, :96] if index else photo[100:164, 180:276]
            for index, photo in enumerate(photos)]  # fmt: skip


@pytest.mark.parametrize(("mean", "std"), [
    pytest.param([255 * m for m in _MEAN], [255 * s for s in _STD], id="from 0 to 255"),
    pytest.param([0.0] * 3, [255.0] * 3, id="divided by 255", marks=pytest.mark.slow),
    pytest.param([0.45], [0.25], id="one number for all", marks=pytest.mark.slow),
])  # fmt: skip
def test_a_model_is_exported_as_it_normalises(
    mean: list[float], std: list[float], photos: list[np.ndarray]
) -> None:
    """The reference is torchvision's own code, on pictures of the model's own range."""
    white = 255.0 if max(*mean, *std) > 2 else 1.0
    shown = _shown(photos)
    model = enliven(_model([m / white for m in mean], [s / white for s in std]), shown)
    model.transform.image_mean, model.transform.image_std = mean, std
    made = export_model(model, input_size=SIZE)
    found = prove(made, steady_pictures(made.model, made.manifest, shown))
    assert found["violations"] == []
    assert found["instances"] >= 10
    assert made.manifest.input.pad_value == tuple(round(255 * m / white) for m in (mean * 3)[:3])


def test_the_reference_gives_a_model_the_pictures_that_it_was_trained_on() -> None:
    """Its own `forward` on a picture from 0 to 255, which torchvision resizes to the same size."""
    model = _model([255 * m for m in _MEAN], [255 * s for s in _STD])
    model.transform.min_size, model.transform.max_size = (SIZE[0],), SIZE[1]
    model.roi_heads.score_thresh = 0.0
    picture = np.random.default_rng(0).integers(0, 256, (*SIZE, 3), np.uint8)
    with torch.no_grad():
        (own,) = model([torch.from_numpy(picture).permute(2, 0, 1).float()])
    found = family_of(model).reference(model, InputSpec(*SIZE, 1)).run(picture[None], [SIZE])
    count = int(found["count"][0])
    assert count == len(own["scores"]) > 0
    np.testing.assert_allclose(found["scores"][0, :count], own["scores"].numpy(), atol=1e-5)
    np.testing.assert_allclose(found["boxes"][0, :count], own["boxes"].numpy(), atol=1e-3)


@pytest.mark.parametrize(("model", "error", "words"), [
    (lambda: _model([0.5] * 4, [0.2] * 4, 4), UnsupportedModelError,
     r"image_mean has 4 numbers, .* channels, .* models of three"),
    (lambda: _model([0.5] * 2, [0.2] * 2), UnsupportedModelError, r"image_mean has 2 numbers"),
    (lambda: _model([0.5], [0.2], 1), UnsupportedModelError,
     r"backbone takes 1 channel, .*makes grey of the colours \(1x1, with the weights 0\.299"),
    (lambda: _model(channels=4), UnsupportedModelError, r"backbone takes 4 channels, .* three"),
    (lambda: _model(std=[0.2] * 4), UnsupportedModelError, r"image_std has 4 numbers"),
    (lambda: _model(std=[0.2, 0.2, 0.0]), UsageError, r"image_std is .* numbers above 0"),
    (lambda: _model(mean=0.5), UsageError, r"image_mean is 0\.5, and must be three numbers"),
    (lambda: _model(mean=[0.5, float("nan"), 0.5]), UsageError, r"image_mean is .*nan"),
    (lambda: _solo(channels=1), UnsupportedModelError, r"backbone takes 1 channel, "),
    (lambda: _solo(image_mean=(0.5,) * 4), UnsupportedModelError, r"image_mean has 4 numbers"),
])  # fmt: skip
def test_what_is_no_rgb_is_one_sentence(model: Any, error: type[MaskrtError], words: str) -> None:
    with pytest.raises(error, match=words) as refused:
        export_model(model(), input_size=SIZE)
    assert "\n" not in str(refused.value)
    assert str(refused.value).endswith(".")


def _solo(channels: int = 3, **colours: Any) -> Any:
    model = solo_scenes().eval()
    for name, value in colours.items():
        setattr(model, name, value)
    first = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    if channels != 3:
        first.in_channels = channels
        first.weight = nn.Parameter(first.weight[:, :channels].clone())
    return model
