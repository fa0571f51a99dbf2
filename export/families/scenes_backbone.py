"""The backbone of the models for the demonstration scenes: a small ResNet under a pyramid."""

from collections import OrderedDict

from torch import nn
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.resnet import BasicBlock
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock

__all__ = ["CHANNELS", "scenes_backbone"]

CHANNELS = 64  # of the pyramid
_STAGES = ((32, 2, 1), (64, 2, 2), (128, 3, 2), (224, 1, 2))  # width, blocks, stride


def scenes_backbone(first: int = 2, last: ExtraFPNBlock | None = None) -> BackboneWithFPN:
    """Return stem and four residual stages under a feature pyramid.

    Args:
        first: the finest map: 2 is stride 4, 3 is stride 8.
        last: what makes the maps above; None is a max-pooling, "pool".
    """
    width = _STAGES[0][0]
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    layers["stem"] = nn.Sequential(_conv_bn(3, 16), nn.ReLU(), _conv_bn(16, width), nn.ReLU())
    for number, (channels, blocks, stride) in enumerate(_STAGES):
        layers[f"stage{number}"] = _stage(width, channels, blocks, stride)
        width = channels
    _initialize(layers)
    used = range(first - 2, len(_STAGES))
    levels = {f"stage{number}": str(place) for place, number in enumerate(used)}
    widths = [_STAGES[number][0] for number in used]
    return BackboneWithFPN(nn.Sequential(layers), levels, widths, CHANNELS, last)


def _conv_bn(inputs: int, outputs: int, kernel: int = 3, stride: int = 2) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, kernel, stride, padding=kernel // 2, bias=False),
        nn.BatchNorm2d(outputs),
    )


def _stage(inputs: int, outputs: int, blocks: int, stride: int) -> nn.Sequential:
    """Residual blocks; the first changes width and resolution."""
    change = stride != 1 or inputs != outputs
    shortcut = _conv_bn(inputs, outputs, kernel=1, stride=stride) if change else None
    first = BasicBlock(inputs, outputs, stride, shortcut)
    return nn.Sequential(first, *(BasicBlock(outputs, outputs) for _ in range(blocks - 1)))


def _initialize(layers: OrderedDict[str, nn.Module]) -> None:
    """Kaiming-normal convolutions, as in torchvision's ResNet."""
    for layer in layers.values():
        for module in layer.modules():
            if isinstance(module, nn.Conv2d):
                nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")
