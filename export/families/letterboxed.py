"""From letterboxed pictures to what the first layer reads, and where each picture ends.

The originals (torchvision, detectron2, mmdetection, AdelaiDet) know how large each picture of a
batch is. They normalise it, fill the rest of the batch's tensor with zeros, and clip boxes to the
picture. The canonical graph is given nothing but the canvas, so it reads the sizes from there: a
picture ends with the last row and the last column that have a pixel of another colour than the
letterbox's filling, `pad_value`.

    differs = max |image - pad_value|           over the channels
    height  = 1 + the last row with differs > 0, or the canvas's height if there is none
    width   = the same of columns

A canvas that was filled with another colour ends where it ends, as if it held a picture of its own
size. A picture whose own last rows or columns have exactly the filling's colour ends before them;
nothing of it is lost but that border. `InputSpec.picture_sizes` is the same rule in NumPy.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from ...core import InputSpec

__all__ = ["Letterboxed", "clip_boxes"]


class Letterboxed(nn.Module):
    """`images uint8 [B, H, W, 3]` → normalised pictures, and their far corners."""

    scale: Tensor
    shift: Tensor
    filling: Tensor
    rows: Tensor
    columns: Tensor
    canvas: Tensor

    def __init__(self, spec: InputSpec, mean: Sequence[float], std: Sequence[float]) -> None:
        """Keep what is constant.

        Args:
            spec: the canvas, and what it is filled with.
            mean, std: RGB, of pictures from 0 to 1.
        """
        super().__init__()
        means, stds = torch.tensor(mean), torch.tensor(std)
        self.register_buffer("scale", (1 / (255 * stds)).reshape(1, 3, 1, 1))
        self.register_buffer("shift", (-means / stds).reshape(1, 3, 1, 1))
        filling = torch.tensor(spec.pad_value, dtype=torch.float32)
        self.register_buffer("filling", filling)
        self.register_buffer("rows", torch.arange(spec.height, dtype=torch.float32))
        self.register_buffer("columns", torch.arange(spec.width, dtype=torch.float32))
        self.register_buffer("canvas", torch.tensor([spec.width, spec.height]).float())

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Normalise and measure.

        Returns:
            Pictures float `[B, 3, H, W]`, zero beside each picture, and `(w, h, w, h)` of each in
            pixels, float `[B, 1, 4]`: what boxes are clipped to.
        """
        # Cast before Transpose: TensorRT transposes no uint8.
        pixels = images.float()
        size = self._size((pixels - self.filling).abs().amax(3))
        width, height = size[:, :1], size[:, 1:]
        inside = (self.rows < height)[..., None] & (self.columns < width)[:, None]
        corner = torch.cat([size, size], 1)[:, None]
        planes = pixels.permute(0, 3, 1, 2) * self.scale + self.shift
        return planes * inside[:, None].float(), corner

    def _size(self, differs: Tensor) -> Tensor:
        """Return where `differs [B, H, W]` ends: width and height, `[B, 2]`.

        Both are the largest of what the pixels that differ are numbered, by columns and by rows. So
        each row says both, and one more step over the rows ends it: two kernels of TensorRT-RTX.
        """
        across = torch.where(differs > 0, self.columns + 1, 0.0).amax(2)
        down = torch.where(differs.amax(2) > 0, self.rows + 1, 0.0)
        last = torch.stack([across, down], 1).amax(2)
        return torch.where(last > 0, last, self.canvas)


def clip_boxes(boxes: Tensor, corner: Tensor) -> Tensor:
    """Clip `boxes [B, N, 4]` to pictures that end at `corner [B, 1, 4]`."""
    return torch.minimum(boxes.clamp(min=0), corner)
