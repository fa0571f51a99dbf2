"""mmdetection's side of `agreement.py`; runs where mmdetection is installed.

    MMDET/bin/python benchmarks/agreement_mmdetection.py HEIGHT WIDTH FOLDER FAMILY

A machine without mmcv's compiled operators needs a stand-in for `mmcv._ext` whose `nms` is
torchvision's; nothing else of it is used.
"""

from pathlib import Path
from typing import Any

import numpy as np
from agreement import blur, keep, pictures, rare, settle, spread, writer

CONFIGS = {
    "yolact": ("yolact/yolact_r50_1xb8-55e_coco.py", "yolact_r50"),
    "condinst": ("condinst/condinst_r50_fpn_ms-poly-90k_coco_instance.py", "condinst_r50"),
    "solo": ("solo/solo_r50_fpn_1x_coco.py", "solo_r50"),
    "decoupled_solo": ("solo/decoupled-solo_r50_fpn_1x_coco.py", "decoupled_solo_r50"),
    "solov2": ("solov2/solov2_r50_fpn_1x_coco.py", "solov2_r50"),
}
SMOOTH = {  # the layers that masks are made by
    "yolact": ("mask_head.protonet",),
    "condinst": ("mask_head.mask_feature_head",),
    "solo": ("mask_head.mask_convs",),
    "decoupled_solo": ("mask_head.mask_convs", "mask_head.conv_mask_list"),
    "solov2": ("mask_head.mask_feature_head",),
}


def main() -> None:
    """Build, enliven and run mmdetection's model, and keep all that the comparison needs."""
    import mmdet
    import torch
    from mmdet.registry import MODELS
    from mmdet.utils import register_all_modules
    from mmengine.config import Config

    parser = writer(__doc__.splitlines()[0])
    parser.add_argument("family", choices=CONFIGS)
    options = parser.parse_args()
    register_all_modules()
    torch.manual_seed(options.seed)
    torch.set_num_threads(1)
    configs = Path(mmdet.__file__).parent / ".mim" / "configs"
    file, name = CONFIGS[options.family]
    config = Config.fromfile(str(configs / file))
    config.model.backbone.init_cfg = None
    model: Any = MODELS.build(config.model)
    model.init_weights()
    model.eval()
    samples = [_sample(image) for image in pictures(options.height, options.width)]
    with torch.no_grad():
        if not options.noise:
            blur(model, SMOOTH[options.family])
        _LIVELY[options.family](model, lambda: _features(model, samples))
        found = [_predicted(model, sample) for sample in samples]
    project = f"mmdetection {mmdet.__version__}"
    keep(options, project, name, {"meta": {"epoch": 1}, "state_dict": model.state_dict()}, found)


def _sample(image: np.ndarray) -> dict[str, Any]:
    import torch
    from mmdet.structures import DetDataSample

    size = image.shape[:2]
    meta = {"img_shape": size, "ori_shape": size, "scale_factor": (1.0, 1.0)}
    bgr = torch.from_numpy(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1)))
    return {"inputs": [bgr], "data_samples": [DetDataSample(metainfo=meta)]}


def _features(model: Any, samples: list[Any]) -> list[Any]:
    """Return the pyramid's maps of all pictures, batch norms settled on them first."""
    import torch

    batch = torch.cat([model.data_preprocessor(sample)["inputs"] for sample in samples])
    branch = getattr(model.mask_head, "mask_feature_head", list)
    settle(model, lambda: branch(model.extract_feat(batch)))
    return list(model.extract_feat(batch))


def _predicted(model: Any, sample: Any) -> dict[str, np.ndarray]:
    data = model.data_preprocessor(sample)
    found = model.predict(data["inputs"], data["data_samples"], rescale=True)[0].pred_instances
    return {
        "boxes": found.bboxes.numpy(), "scores": found.scores.numpy(),
        "labels": found.labels.numpy() + 1,  # maskrt's begin at 1
        "masks": found.masks.numpy(),
    }  # fmt: skip


def _yolact(model: Any, features: Any) -> None:
    import torch

    maps, head, net = features(), model.bbox_head, model.mask_head.protonet
    spread([head.conv_cls], lambda: head(maps), 1.5, 0.0)
    spread([head.conv_coeff], lambda: head(maps), 1.0, 0.0)
    spread([head.conv_reg], lambda: head(maps), 1.5, 0.0)
    classes = head.cls_out_channels
    logits = torch.cat(
        [x.permute(0, 2, 3, 1).reshape(len(x), -1, classes) for x in head(maps)[0]], 1
    )
    best = logits[..., :-1].amax(2).sort(1, descending=True).values[:, 150].max()
    head.conv_cls.bias[classes - 1 :: classes] += best + 2.0
    spread([net[-2]], lambda: net(maps[0]), 3.0, 0.0)


def _condinst(model: Any, features: Any) -> None:
    maps, head = features(), model.bbox_head
    spread([head.conv_cls], lambda: head(maps), 1.5, -4.5)
    spread([head.conv_centerness], lambda: head(maps), 1.0, 0.5)
    spread([head.conv_reg], lambda: head(maps), 1.0, 2.0)
    spread([head.controller], lambda: head(maps), 1.0, 0.0)
    branch = model.mask_head.mask_feature_head
    spread([branch.conv_pred], lambda: branch(maps), 1.0, 0.0)
    rare(head.conv_cls, head(maps)[0], 0.05, 300)


def _solo(model: Any, features: Any) -> None:
    maps, head = features(), model.mask_head
    _spread_grid(head, maps, [*head.conv_mask_list])


def _decoupled(model: Any, features: Any) -> None:
    maps, head = features(), model.mask_head
    _spread_grid(head, maps, [*head.conv_mask_list_x, *head.conv_mask_list_y])


def _spread_grid(head: Any, maps: list[Any], layers: list[Any]) -> None:
    def run() -> Any:
        head.training = True  # else it takes sigmoids and peaks
        return head(maps)

    spread([head.conv_cls], run, 1.2, 0.0)
    spread(layers, run, 3.0, 0.5)
    rare(head.conv_cls, run()[-1], 0.1, 60)
    head.training = False


def _solov2(model: Any, features: Any) -> None:
    maps, head = features(), model.mask_head

    def run() -> Any:
        head.training = True
        return head(maps)

    spread([head.conv_cls], run, 1.2, 0.0)
    kernels, logits, feature = run()
    product = kernels[0].flatten(2).transpose(1, 2)[:, :200] @ feature.flatten(2)
    head.conv_kernel.weight.mul_(4.0 / product.std())
    head.conv_kernel.bias.mul_(4.0 / product.std())
    rare(head.conv_cls, logits, 0.1, 60)
    head.training = False


_LIVELY = {
    "yolact": _yolact, "condinst": _condinst, "solo": _solo, "decoupled_solo": _decoupled,
    "solov2": _solov2,
}  # fmt: skip


if __name__ == "__main__":
    main()
