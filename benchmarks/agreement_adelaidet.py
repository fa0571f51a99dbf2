"""AdelaiDet's side of `agreement.py`: its CondInst on the CPU, without its compiled operators.

    PYTHONPATH=ADELAIDET python benchmarks/agreement_adelaidet.py 512 768 FOLDER

ADELAIDET is a clone of aim-uofa/AdelaiDet; the environment has detectron2. Of its packages those
that import text recognition are stepped over, and `adet._C` is empty: CondInst uses nothing of it.
"""

import os
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
from agreement import blur, keep, pictures, rare, settle, spread, writer

_CONFIG = Path("configs") / "CondInst" / "MS_R_50_1x.yaml"


def main() -> None:
    """Build, enliven and run AdelaiDet's model, and keep all that the comparison needs."""
    import torch

    options = writer(__doc__.splitlines()[0]).parse_args()
    torch.manual_seed(options.seed)
    torch.set_num_threads(1)
    model = _condinst().eval()
    images = [
        torch.from_numpy(np.ascontiguousarray(image[..., ::-1].transpose(2, 0, 1))).float()
        for image in pictures(options.height, options.width)
    ]
    with torch.no_grad():
        _enliven(model, torch.stack(images), noise=options.noise)
        found = [_predicted(model, image) for image in images]
    weights = {"model": model.state_dict(), "iteration": 1}
    keep(options, "AdelaiDet 3672122", "condinst_r50", weights, found)


def _condinst() -> Any:
    """Return AdelaiDet's CondInst of its own configuration, weights at random."""
    root = next(Path(p) for p in sys.path if (Path(p) / "adet" / "layers").is_dir())
    for name in ("adet", "adet.modeling"):
        package = types.ModuleType(name)
        package.__path__ = [str(root / name.replace(".", os.sep))]
        sys.modules[name] = package
    sys.modules["adet"]._C = types.ModuleType("adet._C")  # type: ignore[attr-defined]
    import adet.modeling.backbone.fpn
    import adet.modeling.condinst
    import adet.modeling.fcos  # noqa: F401
    from adet.config import get_cfg  # type: ignore[import-not-found]
    from detectron2.modeling import build_model

    config = get_cfg()
    config.merge_from_file(str(root / _CONFIG))
    config.MODEL.DEVICE, config.MODEL.WEIGHTS = "cpu", ""
    return build_model(config)


def _enliven(model: Any, batch: Any, *, noise: bool) -> None:
    if not noise:
        blur(model, ("mask_branch",))
    normal = model.normalizer(batch)
    _settle_frozen(model, normal)
    maps = model.backbone(normal)
    settle(model, lambda: model.mask_branch(maps))
    head = model.proposal_generator.fcos_head
    levels = [maps[name] for name in model.proposal_generator.in_features]

    def run() -> Any:
        return head(levels, model.controller, False)

    spread([head.cls_logits], run, 1.5, -4.5)
    spread([head.ctrness], run, 1.0, 0.5)
    spread([head.bbox_pred], run, 1.0, 2.0)
    spread([model.controller], run, 1.0, 0.0)
    spread([model.mask_branch.tower[-1]], lambda: model.mask_branch(maps), 1.0, 0.0)
    rare(head.cls_logits, run()[0], 0.2, 300)


def _settle_frozen(model: Any, images: Any) -> None:
    """Give frozen batch norms, one after another, the statistics of what reaches them."""
    from detectron2.layers import FrozenBatchNorm2d

    def take(norm: Any, inputs: Any) -> None:
        norm.running_mean.copy_(inputs[0].mean((0, 2, 3)))
        norm.running_var.copy_(inputs[0].var((0, 2, 3)))

    norms = [m for m in model.modules() if isinstance(m, FrozenBatchNorm2d)]
    hooks = [norm.register_forward_pre_hook(take) for norm in norms]
    model.backbone(images)
    for hook in hooks:
        hook.remove()


def _predicted(model: Any, image: Any) -> dict[str, np.ndarray]:
    height, width = image.shape[1:]
    found = model([{"image": image, "height": height, "width": width}])[0]["instances"]
    order = found.scores.argsort(descending=True)
    if not len(order):
        found.pred_masks = image.new_zeros(0, height, width)
    return {
        "boxes": found.pred_boxes.tensor[order].numpy(), "scores": found.scores[order].numpy(),
        "labels": found.pred_classes[order].numpy() + 1, "masks": found.pred_masks[order].numpy(),
    }  # fmt: skip


if __name__ == "__main__":
    main()
