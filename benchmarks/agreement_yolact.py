"""The side of YOLACT's authors of `agreement.py`: their program on the CPU, without its compilers.

    PYTHONPATH=YOLACT python benchmarks/agreement_yolact.py 550 550 FOLDER

YOLACT is a clone of dbolya/yolact; the environment has PyTorch, OpenCV and pycocotools. Boxes are
taken before its `postprocess` cuts them to whole pixels.
"""

import math
from typing import Any

import numpy as np
from agreement import blur, keep, pictures, settle, spread, writer

_MEAN, _STD = (123.68, 116.78, 103.94), (58.40, 57.12, 57.38)
_LEAST = 0.05  # the second threshold of Fast NMS, which their program leaves out


def main() -> None:
    """Build, enliven and run the authors' model, and keep all that the comparison needs."""
    import torch

    options = writer(__doc__.splitlines()[0]).parse_args()
    torch.cuda.current_device = lambda: 0  # asked for when their module is imported
    torch.cuda.device_count = lambda: 2  # no torch.jit.script, which they use on one device
    from data import cfg, set_cfg  # type: ignore[import-not-found]
    from yolact import Yolact  # type: ignore[import-not-found]

    set_cfg("yolact_resnet50_config")
    cfg.mask_proto_debug, cfg.max_size = False, max(options.height, options.width)
    torch.manual_seed(options.seed)
    torch.set_num_threads(1)
    model: Any = Yolact()
    model.detect.use_fast_nms, model.detect.use_cross_class_nms = True, False
    mean, std = (torch.tensor(values).reshape(3, 1, 1) for values in (_MEAN, _STD))
    images = pictures(options.height, options.width)
    rgb = [torch.from_numpy(image.copy()).permute(2, 0, 1).float() for image in images]
    batch = torch.stack([(image - mean) / std for image in rgb])
    with torch.no_grad():
        _enliven(model.eval(), batch, noise=options.noise)
        found = [_predicted(model, image) for image in batch]
    keep(options, "dbolya/yolact 902072d", "yolact_r50", model.state_dict(), found)


def _enliven(model: Any, batch: Any, *, noise: bool) -> None:
    import torch
    from torch import nn

    for layer in model.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.kaiming_normal_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
    if not noise:
        blur(model, ("proto_net",))
    settle(model, lambda: model.backbone(batch))
    head, last = model.prediction_layers[0], model.proto_net[-2]
    for layer, std in ((head.conf_layer, 1.5), (head.bbox_layer, 1.5), (head.mask_layer, 1.0)):
        spread([layer], lambda: model(batch), std, 0.0)
    spread([last], lambda: model(batch), 3.0, 0.0)
    classes = head.num_classes
    head.conf_layer.bias[::classes] += 8.5 + math.log(81 / classes)
    assert torch.isfinite(head.conf_layer.bias).all()


def _predicted(model: Any, image: Any) -> dict[str, np.ndarray]:
    from layers.box_utils import sanitize_coordinates  # type: ignore[import-not-found]
    from layers.output_utils import postprocess  # type: ignore[import-not-found]

    height, width = image.shape[1:]
    found = model(image[None])
    box = found[0]["detection"]["box"].clone()
    classes, scores, _, masks = postprocess(found, width, height)
    x1, x2 = sanitize_coordinates(box[:, 0], box[:, 2], width, cast=False)
    y1, y2 = sanitize_coordinates(box[:, 1], box[:, 3], height, cast=False)
    sure = scores > _LEAST
    boxes = np.stack([edge[sure].numpy() for edge in (x1, y1, x2, y2)], 1)
    return {
        "boxes": boxes, "scores": scores[sure].numpy(), "labels": classes[sure].numpy() + 1,
        "masks": masks[sure].numpy(),
    }  # fmt: skip


if __name__ == "__main__":
    main()
