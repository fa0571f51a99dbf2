"""The mask head's last two layers, for each detection's own class alone.

torchvision's predictor doubles the resolution by a transposed convolution and then makes the masks
of all classes, of which one is used. Here the last layer is a product with the one class's weights,
and the transposed convolution a 1x1 convolution to the four pixels that a pixel becomes; they are
put in their places when a single channel is left.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models.detection.mask_rcnn import MaskRCNNPredictor

__all__ = ["Upscale", "own_class_logits", "simplify_upscale"]


class Upscale(nn.Conv2d):
    """A 2x2 transposed convolution of stride 2 as a 1x1 convolution.

    Output channel `(2 i + j) C + c` is channel c of the pixel in row i and column j of each 2x2
    block. Nothing overlaps, so the products are the same. Runtimes compute and quantize
    convolutions, and few transposed ones.
    """

    def __init__(self, layer: nn.ConvTranspose2d) -> None:
        """Take over the weights of `layer`."""
        super().__init__(layer.in_channels, 4 * layer.out_channels, 1, bias=layer.bias is not None)
        weight = layer.weight.detach().permute(2, 3, 1, 0)
        self.weight = nn.Parameter(weight.reshape(self.weight.shape), requires_grad=False)
        if layer.bias is not None:
            self.bias = nn.Parameter(layer.bias.detach().repeat(4), requires_grad=False)


def simplify_upscale(predictor: Any) -> None:
    """Put an `Upscale` into torchvision's own mask predictor, in place; leave others alone."""
    if type(predictor) is MaskRCNNPredictor and _is_plain(predictor.conv5_mask):
        predictor.conv5_mask = Upscale(predictor.conv5_mask)


def own_class_logits(predictor: Any, x: Tensor, label: Tensor) -> Tensor:
    """Return mask logits `[N, h, w]` of class `label[n]` for each row of `x`."""
    if type(predictor) is not MaskRCNNPredictor:
        logits = predictor(x)
        place = label[:, None, None, None].expand(-1, 1, *logits.shape[-2:])
        return torch.gather(logits, 1, place)[:, 0]
    last, upscale = predictor.mask_fcn_logits, predictor.conv5_mask
    hidden = predictor.relu(upscale(x))
    parts = 4 if isinstance(upscale, Upscale) else 1
    height, width = hidden.shape[-2:]
    hidden = hidden.reshape(len(hidden), parts, last.in_channels, height * width)
    weight = last.weight.flatten(1)[label]
    logits = torch.matmul(weight[:, None, None], hidden) + last.bias[label][:, None, None, None]
    if parts == 1:
        return logits.reshape(-1, height, width)
    logits = logits.reshape(-1, 2, 2, height, width).permute(0, 3, 1, 4, 2)
    return logits.reshape(-1, 2 * height, 2 * width)


def _is_plain(layer: nn.Module) -> bool:
    return type(layer) is nn.ConvTranspose2d and (
        layer.kernel_size, layer.stride, layer.padding, layer.output_padding, layer.dilation,
        layer.groups,
    ) == ((2, 2), (2, 2), (0, 0), (0, 0), (1, 1), 1)  # fmt: skip
